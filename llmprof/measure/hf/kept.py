"""Count what a cache of transformers holds after a pass: the tensors that it really has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

ROWS = frozenset({"keys", "values", "indexer_keys"})
"""Attributes of a layer of a cache that hold a row per token (transformers 5.23.0, cache_utils.py)."""

STATES_OF_MODULES = ("conv1d_state", "recurrent_states")
"""Attributes of modules that keep a state themselves (transformers 5.23.0, modeling_recurrent_gemma.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes that outlive a pass: rows of tokens, and states of constant size."""

    kv_bytes: int
    state_bytes: int


def kept_by(cache: object, network: nn.Module | None = None, *, name: str = "past_key_values") -> Kept:
    """What `cache`, of whatever class, and the modules of `network` hold, each storage once.

    A tensor counts as rows by the name of its attribute, and in a plain tuple or list where the cache is called
    `name` and that is no state. Numbers that are no
    floating-point tensors, such as positions, are not counted.
    """
    rows = states = 0
    seen: set[int] = set()
    for attribute, tensor in (*_tensors(cache, "states" if name == "state" else "keys"), *_of_modules(network)):
        if id(tensor) in seen or not tensor.is_floating_point():
            continue
        seen.add(id(tensor))
        size = tensor.numel() * tensor.element_size()
        rows, states = (rows + size, states) if attribute in ROWS else (rows, states + size)
    return Kept(kv_bytes=rows, state_bytes=states)


def _tensors(owner: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """(attribute, tensor) of everything below a cache: its layers, and the lists and mappings in them."""
    if isinstance(owner, Tensor):
        yield name, owner
    elif isinstance(owner, list | tuple):
        for each in owner:
            yield from _tensors(each, name)
    elif isinstance(owner, dict):
        for each in owner.values():
            yield from _tensors(each, name)
    elif hasattr(owner, "__dict__") and not isinstance(owner, type | nn.Module):
        for attribute, each in vars(owner).items():
            if _is_held(each):
                yield from _tensors(each, attribute)


def _is_held(value: object) -> bool:
    """Whether an attribute may hold what a cache keeps: tensors, containers, and objects of the library's cache."""
    if isinstance(value, Tensor | list | tuple | dict):
        return True
    return type(value).__module__ == "transformers.cache_utils"


def _of_modules(network: nn.Module | None) -> Iterator[tuple[str, Tensor]]:
    for module in () if network is None else network.modules():
        for name in STATES_OF_MODULES:
            state = getattr(module, name, None)
            if isinstance(state, Tensor):
                yield name, state
