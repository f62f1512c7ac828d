"""A last-level cache, simulated while the ops of a real pass are dispatched: which bytes reach memory.

The rules are those of docs/reference-dram.md. The cache holds whole objects; an object is a storage, or the part of a
parameter that an op reads. Storages die when nothing refers to them any more, as in `live.py`.
"""

from __future__ import annotations

import weakref
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, UntypedStorage

from llmprof.measure.accesses import Access, accesses
from llmprof.measure.bytes import unique_bytes
from llmprof.measure.cache import quantity_of
from llmprof.measure.trace import Launch, tracing
from llmprof.twin.model import Twin
from llmprof.twin.passes import Output
from llmprof.twin.session import Session
from llmprof.workload import Execution, Workload


class Touch(NamedTuple):
    """What one op does to one object: bytes read of it and written to it, and whether they pass the cache by.

    `fetched` is what a read moves where the object is not in the cache.
    """

    key: Hashable
    size: int
    read: int
    written: int
    fetched: int
    read_streams: bool
    write_streams: bool


@dataclass(slots=True)
class _Held:
    """An object in the cache: its bytes, those written since it was clean, and the path that wrote last."""

    size: int
    dirty: int = 0
    path: str = ""


class LruCache:
    """Least recently used, write-back, write-allocate; of `capacity` bytes, boundless where that is None.

    `moved` are the bytes between cache and memory by path: reads at the leaf that reads, writes at the leaf that wrote
    last.
    """

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.moved: Counter[str] = Counter()
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._size = 0

    def run(self, path: str, touches: Sequence[Touch]) -> None:
        """One op: it touches its objects in this order, then what does not fit is evicted."""
        for touch in touches:
            self._touch(path, touch)
        while self.capacity is not None and self._size > self.capacity:
            self._evict(next(iter(self._held)))

    def forget(self, key: Hashable) -> None:
        """The storage is dead: what it held is not written."""
        held = self._held.pop(key, None)
        if held is not None:
            self._size -= held.size

    def close(self, outliving: Iterable[Hashable]) -> None:
        """The pass ends: what is dirty and outlives it is written."""
        for key in outliving:
            held = self._held.get(key)
            if held is not None:
                self._clean(held)

    def _touch(self, path: str, touch: Touch) -> None:
        larger = self.capacity is not None and touch.size > self.capacity
        read = 0 if touch.read_streams else touch.read
        written = 0 if touch.write_streams else touch.written
        self.moved[path] += touch.read - read + touch.written - written
        if not read and not written:
            return
        held = self._held.get(touch.key)
        if held is None:
            held = self._held[touch.key] = _Held(touch.size)
            self._size += touch.size
            self.moved[path] += touch.fetched if read and not larger else 0
        self._held.move_to_end(touch.key)
        if larger:  # it will be evicted, and with it everything that was touched before it
            self.moved[path] += read + written
        elif written:
            held.dirty = min(held.size, held.dirty + written)
            held.path = path

    def _evict(self, key: Hashable) -> None:
        held = self._held.pop(key)
        self._size -= held.size
        self._clean(held)

    def _clean(self, held: _Held) -> None:
        if held.dirty:
            self.moved[held.path] += held.dirty
            held.dirty = 0


class LruObserver:
    """Drives one cache for each of some `capacities` with the ops of one pass of `session`.

    After the pass `close` must be called with its output; then `moved` has the bytes by capacity and path.
    """

    def __init__(self, session: Session, capacities: Iterable[int | None]) -> None:
        self.caches = {capacity: LruCache(capacity) for capacity in capacities}
        constants = {constant.untyped_storage()._cdata for constant in session.constants}
        weights = _storages((*session.twin.parameters(), *session.twin.buffers()))
        # The storages themselves are kept, so that no later one can take an address that means something here.
        self._weights = {key: storage for key, storage in weights.items() if key not in constants}
        kept = [(path, (entry.values, entry.scales)) for path, entry in session.kept.items()]
        tensors = [(path, t) for path, pair in kept for t in pair if t is not None]
        self._kv = _storages(t for path, t in tensors if quantity_of(path) == "kv_cache_bytes")
        self._states = _storages(t for path, t in tensors if quantity_of(path) != "kv_cache_bytes")
        self._followed: dict[int, weakref.ref[UntypedStorage]] = {}

    @property
    def moved(self) -> Mapping[int | None, Mapping[str, int]]:
        """Bytes between cache and memory, by capacity and path."""
        return {capacity: cache.moved for capacity, cache in self.caches.items()}

    def observe(self, launch: Launch) -> None:
        """One op."""
        if not launch.is_kernel:
            return
        touches = self._touches(launch)
        for cache in self.caches.values():
            cache.run(launch.path, touches)

    def close(self, output: Output) -> None:
        """Write what is dirty and outlives the pass."""
        returned = [output.logits, output.hidden, output.pooled, *output.further]
        keys = [t.untyped_storage()._cdata for t in returned if t is not None]
        outliving = list(dict.fromkeys([*keys, *self._kv, *self._states]))
        for cache in self.caches.values():
            cache.close(outliving)

    def _touches(self, launch: Launch) -> list[Touch]:
        """The objects of one op in the order in which they are touched, each once, at its last place."""
        gathered = launch.inputs[0] if launch.op.overloadpacket is torch.ops.aten.embedding else None
        merged: dict[Hashable, Touch] = {}
        for access in accesses(launch):
            touch = self._streamed(access) if access.tensor is gathered else self._touch(access)
            before = merged.pop(touch.key, None)
            merged[touch.key] = touch if before is None else _both(before, touch)
        return [self._settled(touch) for touch in merged.values()]

    @staticmethod
    def _streamed(access: Access) -> Touch:
        """Rows gathered from a table, which is no object."""
        return Touch("table", access.read, access.read, access.written, 0, True, True)

    def _touch(self, access: Access) -> Touch:
        tensor = access.tensor
        storage = tensor.untyped_storage()
        key: Hashable = storage._cdata
        size = storage.nbytes()
        if key in self._weights:
            part = unique_bytes(tensor)
            if part != size:
                key, size = (key, tensor.storage_offset(), _extents(tensor)), part
        elif key not in self._kv and key not in self._states:
            self._follow(storage)
        return Touch(key, size, access.read, access.written, access.read, False, False)

    def _settled(self, touch: Touch) -> Touch:
        """What the sum of the accesses of an op decides: a part of a KV cache streams, a state is read whole."""
        if touch.key in self._kv:
            return touch._replace(read_streams=touch.read < touch.size, write_streams=touch.written < touch.size)
        if touch.key in self._states:
            return touch._replace(fetched=touch.size)
        return touch

    def _follow(self, storage: UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._followed:
            self._followed[key] = weakref.ref(storage, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        del self._followed[key]
        for cache in self.caches.values():
            cache.forget(key)


def _both(one: Touch, other: Touch) -> Touch:
    """Two accesses of one op to one object."""
    return other._replace(
        read=one.read + other.read, written=one.written + other.written, fetched=one.fetched + other.fetched
    )


def _storages(tensors: Iterable[Tensor]) -> dict[int, UntypedStorage]:
    return {storage._cdata: storage for storage in (tensor.untyped_storage() for tensor in tensors)}


def _extents(tensor: Tensor) -> tuple[tuple[int, int], ...]:
    """(stride, size) of the elements that `tensor` really has, however it is viewed: outermost first, runs joined."""
    found: list[tuple[int, int]] = []
    axes = ((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if s and n > 1)
    for stride, size in sorted(axes, reverse=True):
        if found and found[-1][0] == stride * size:
            found[-1] = (stride, found[-1][1] * size)
        else:
            found.append((stride, size))
    return tuple(found)


def memory_bytes(
    twin: Twin, workload: Workload, execution: Execution, capacities: Iterable[int | None], *, seed: int = 0
) -> Mapping[int | None, Mapping[str, int]]:
    """Run `workload` once and return the bytes that reach memory, by capacity of the cache and leaf path.

    A capacity of None is boundless: what is compulsory. Raises what `Session` raises.
    """
    session = Session(twin, workload, execution, seed=seed)
    observer = LruObserver(session, capacities)
    with tracing(twin, (observer,)):
        output = session.run()
    observer.close(output)
    return observer.moved
