"""Keys and values that one layer's core reads and later layers read again: reference-options.md, `shared_kv`.

Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llmprof.predict.tensor import Home, Tensor, new, owner
from llmprof.spec.arch import Gqa, Stack


class KeysAndValues(NamedTuple):
    """k and v [b, k, s, h] as a core took them, before it cast or expanded them."""

    k: Tensor
    v: Tensor

    def stand_in(self, home: Home) -> KeysAndValues:
        """The same shapes, formats and layouts in storages of their own; what lies in a cache stays there."""
        return KeysAndValues(_like(self.k, home), _like(self.v, home))


def lenders(stack: Stack) -> Mapping[int, int]:
    """Layers without keys and values of their own, by their index: the index of the layer whose they read.

    It is the nearest earlier one that has its own and agrees in n_kv_heads, head_dim, window and chunk.
    """
    latest: dict[tuple[int | None, ...], int] = {}
    found: dict[int, int] = {}
    for index, layer in enumerate(stack.layers):
        spec = layer.attention
        if isinstance(spec, Gqa):
            shape = (spec.n_kv_heads, spec.head_dim, spec.window, spec.chunk)
            if spec.shared_kv:
                found[index] = latest[shape]
            else:
                latest[shape] = index
    return found


def _like(x: Tensor, home: Home) -> Tensor:
    if x.home is not Home.KV_CACHE:
        return new(x.name, x.axes, x.format, home, x.memory)
    whole = owner(x)  # a part of a cache stays one
    cache = new(whole.name, whole.axes, whole.format, x.home, whole.memory)
    return cache if whole is x else Tensor(x.name, x.axes, x.format, cache.storage, x.memory, of=cache)
