"""What a kernel touches: the objects behind its tensors, how many bytes of each, and what passes the cache by.

docs/reference-dram.md, section 1. Axis legend: see `tensor.py`. An object has a key: the storage of an activation, a
constant or what is kept; for a parameter the leaf that owns it, and for a part of one that part.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from llmprof.predict.formats import EXPERTS
from llmprof.predict.leaf import Leaves, Parameter
from llmprof.predict.op import Op
from llmprof.predict.setting import Setting
from llmprof.predict.tensor import Home, Storage, Tensor

TABLE_GATHER = "embedding"
"""The kernel that fetches rows of a table, which is no object."""

_SOURCE_FIRST = ("index_select", "gather")
"""Kernels whose source stands before their index, which the tape lists first."""

Key = Hashable


@dataclass(frozen=True, slots=True)
class Kind:
    """What an object is: its bytes, and how it is read.

    `whole`: a read that misses moves all of it (a state). `cached`: a KV cache, whose parts pass the cache by.
    `of_round`: every round of a loop has one of its own.
    """

    size: int
    whole: bool = False
    cached: bool = False
    of_round: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """What one kernel touches, in the order of the page, as (object, bytes read, bytes written); `streamed` bytes."""

    touches: tuple[tuple[Key, int, int], ...]
    streamed: int


class Objects:
    """The objects of one list of kernels: a layer's, or those around the layers. `kinds` grows as they are met.

    `kept` are the tensors that outlive passes, and whether they are KV caches.
    """

    def __init__(self, setting: Setting, leaves: Leaves, kept: Mapping[Storage, tuple[Tensor, bool]]) -> None:
        self.kinds: dict[Key, Kind] = {}
        self._setting, self._leaves, self._kept = setting, leaves, kept

    def of(self, op: Op) -> Access:
        """What `op` touches."""
        found: dict[Key, list[int]] = {}
        streamed = 0
        for written, tensors in enumerate((_inputs(op), op.writes)):
            for tensor in tensors:
                size = tensor.nbytes
                if op.kind == TABLE_GATHER and tensor.home in (Home.WEIGHT, Home.BUFFER) and not written:
                    streamed += size
                    continue
                if not size:
                    continue
                key = self._key(op, tensor)
                moved = found.pop(key, [0, 0])  # an object touched twice is touched at its last place
                moved[written] += size
                found[key] = moved
        touches = []
        for key, moved in found.items():
            kind = self.kinds[key]
            if kind.cached:
                parts = [size for size in moved if size < kind.size]
                streamed += sum(parts)
                moved = [0 if size < kind.size else size for size in moved]
            if any(moved):
                touches.append((key, moved[0], moved[1]))
        return Access(tuple(touches), streamed)

    def _key(self, op: Op, tensor: Tensor) -> Key:
        """The object of a tensor, which becomes known with it."""
        storage = tensor.storage
        if tensor.home is Home.WEIGHT:
            return self._part(op, tensor)
        known = self.kinds.get(storage)
        if storage in self._kept:
            if known is None:
                whole, is_cache = self._kept[storage]
                self.kinds[storage] = Kind(whole.nbytes, whole=not is_cache, cached=is_cache)
            return storage
        size = _root(tensor).nbytes
        if known is None or size > known.size:
            # Keys and values that another layer lends are those of its cache, or none are kept.
            self.kinds[storage] = Kind(size, cached=tensor.home is Home.KV_CACHE)
        return storage

    def _part(self, op: Op, tensor: Tensor) -> Key:
        """The parameter that a tensor shows all of, or the part that it shows."""
        (parameter,) = (each for each in self._leaves[op.path] if each.name == tensor.name)
        whole = self._setting.stored_format(parameter).nbytes(parameter.axes)
        key: Key = (self._owner(op.path, parameter), parameter.name)
        if tensor.nbytes < whole:
            of_round = EXPERTS in parameter.axes
            key = (key, tuple(tensor.axes.items()), tensor.storage if of_round else None)
            self.kinds[key] = Kind(tensor.nbytes, of_round=of_round)
        else:
            self.kinds[key] = Kind(whole)
        return key

    def _owner(self, path: str, parameter: Parameter) -> str:
        """The leaf whose parameter it is: a matrix of several leaves has one that owns it."""
        if parameter.owned:
            return path
        (owner,) = (
            leaf
            for leaf, inside in self._leaves.items()
            if any(each.owned and each.name == parameter.name and each.axes == parameter.axes for each in inside)
        )
        return owner


def _inputs(op: Op) -> tuple[Tensor, ...]:
    """The inputs in the order of the page: a gather's source first, a fused attention's bias last."""
    if op.kind in _SOURCE_FIRST:
        return op.reads[::-1]
    products = [part.contraction for part in op.parts if part.contraction is not None]
    if not products:
        return op.reads
    first, last = products[0], products[-1]
    scaled = next((part.reads[0] for part in op.parts if first.left in part.writes), first.left)
    order = [tensor.storage for tensor in (scaled, first.right, last.right)]
    ranked = sorted(op.reads, key=lambda t: order.index(t.storage) if t.storage in order else len(order))
    return tuple(ranked)


def _root(tensor: Tensor) -> Tensor:
    """The tensor that this one is a view of, and that one, up to one that was made."""
    while tensor.of is not None:
        tensor = tensor.of
    return tensor
