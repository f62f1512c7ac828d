"""What one tensor-parallel rank has of a parameter and of a cache (docs/reference-sharding.md, sections 3 and 4).

Every axis but those of key/value heads is cut into equal parts, the last of which is padded; key/value heads that are
fewer than the ranks are replicated. Axis legend: see `predict/tensor.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from llmprof.predict.division import parameter_axis
from llmprof.predict.leaf import Parameter
from llmprof.predict.tensor import Axes, Tensor
from llmprof.spec.arch import Gqa, LayerSpec

OF_KV_HEADS = ("kv", "k")
"""Axes of all values of keys or of values, and of their heads."""


def kv_heads_of_a_rank(n_kv_heads: int, ranks: int) -> int:
    """Kn: the key/value heads on each of `ranks`, of which one number divides the other."""
    assert n_kv_heads % ranks == 0 or ranks % n_kv_heads == 0, (n_kv_heads, ranks)
    return max(n_kv_heads, ranks) // ranks


def rank_axes(path: str, parameter: Parameter, ranks: int, layer: LayerSpec | None = None) -> Axes:
    """The axes of a rank's part of a parameter of the leaf `path`; `layer` is the one that it stands in."""
    axis = parameter_axis(path, parameter.axes)
    if axis is None:
        return parameter.axes
    return {**parameter.axes, axis: _part(axis, parameter.axes[axis], ranks, layer)}


def rank_values(path: str, parameter: Parameter, ranks: int, layer: LayerSpec | None = None) -> int:
    """How many values that part has."""
    return prod(rank_axes(path, parameter, ranks, layer).values())


def rank_cache_bytes(held: Tensor, ranks: int) -> int:
    """Bytes of a rank's part of a cache of keys or of values."""
    return held.format.nbytes({**held.axes, "k": kv_heads_of_a_rank(held.axes["k"], ranks)})


def kept_bytes(kept: Mapping[str, Tensor], ranks: int) -> Mapping[str, int]:
    """The same of every cache of a layer, by its path."""
    return {path: rank_cache_bytes(tensor, ranks) for path, tensor in kept.items()}


def _part(axis: str, size: int, ranks: int, layer: LayerSpec | None) -> int:
    if axis not in OF_KV_HEADS:
        return -(-size // ranks)
    assert layer is not None, axis
    assert isinstance(layer.attention, Gqa), layer.attention
    heads = layer.attention.n_kv_heads
    return size // heads * kv_heads_of_a_rank(heads, ranks)
