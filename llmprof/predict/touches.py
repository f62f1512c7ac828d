"""A pass as the last-level cache sees it: which objects its kernels touch, one kernel after another.

docs/reference-dram.md, section 1. A program lowers equal layers once, and the equal rounds of a loop. Here both are
laid out: every call of a layer has objects of its own for what it makes, keeps and has learned, and shares the others
with its caller.

Of a loop's middle rounds three stand for all, the second of them for all but the first and the last. That is exact:
every round touches the same objects and others in place of its own, so that from the second on they differ in nothing
but how much has been read that nothing touches again (the matrices of experts). `Mark` says where, and how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from llmprof.predict.calls import Call
from llmprof.predict.leaf import Leaves
from llmprof.predict.lowering import is_cache
from llmprof.predict.model import Program
from llmprof.predict.objects import Access, Key, Kind, Objects
from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Storage, Tensor


class Stored:
    """One object, by identity; a read that misses moves all of a `whole` one."""

    __slots__ = ("size", "whole")

    def __init__(self, size: int, *, whole: bool = False) -> None:
        self.size, self.whole = size, whole


@dataclass(frozen=True, slots=True)
class Step:
    """A kernel: what it touches in order, as (object, bytes read, bytes written), and which objects are dead after it.

    `streamed` bytes pass the cache by. It stands for `times` launches.
    """

    path: str
    touches: tuple[tuple[Stored, int, int], ...]
    streamed: int
    dead: tuple[Stored, ...]
    times: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Opens a place in the order of touches or, with `nbytes`, says how much was read there for good."""

    nbytes: int | None = None


def laid_out(program: Program) -> Iterator[Step | Mark]:
    """The kernels of a pass in the order of their launch."""
    return _Layout(program).steps()


@dataclass(slots=True)
class _Line:
    """A kernel of a list, with the keys of its objects."""

    path: str
    access: Access
    dead: tuple[Key, ...]
    times: int


@dataclass(slots=True)
class _Listing:
    """The kernels of a tape, and the objects that every call of it has for itself."""

    lines: list[_Line | Mark | tuple[Call, tuple[Storage, ...]]]
    own: dict[Key, Kind]


class _Layout:
    """A program while it is laid out."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._groups = {f"{group.prefix}layers.{index}": group for group in program.groups for index in group.indices}
        self._kept = {t.storage: (t, is_cache(path)) for g in program.groups for path, t in g.kept.items()}
        self._constants: dict[Key, Stored] = {c.storage: Stored(c.nbytes) for c in program.setting.constants.values()}
        self._listings: dict[int, _Listing] = {}

    def steps(self) -> Iterator[Step | Mark]:
        """All kernels, those of the layers in their place."""
        program = self._program
        outlives = {tensor.storage for tensor in program.returned}
        listing = self._list(program.items, program.outer, outlives)
        objects = self._objects(listing, {})
        for line in listing.lines:
            match line:
                case Mark():
                    yield line
                case _Line():
                    yield _step(line, "", objects)
                case (call, dying):
                    yield from self._call(call, dying, objects)

    def _call(self, call: Call, dying: Sequence[Storage], outer: dict[Key, Stored]) -> Iterator[Step | Mark]:
        """The kernels of a layer. What its caller needs no longer dies after the last of them."""
        segment = call.segment
        listing = self._listings.get(id(segment))
        bound: dict[Key, Stored] = {
            own.storage: outer[taken.storage] for own, taken in zip(segment.inputs, call.takes, strict=True)
        }
        if listing is None:
            outlives = {tensor.storage for tensor in (segment.result, *segment.lent, *segment.inputs)}
            listing = self._list(segment.ops, self._groups[call.path].leaves, outlives)
            for storage in bound:
                listing.own.pop(storage, None)
            self._listings[id(segment)] = listing
        objects = self._objects(listing, bound)
        outer[call.gives.storage] = objects[segment.result.storage]
        for lent, stands_for in zip(segment.lent, call.lends, strict=False):
            outer[stands_for.storage] = objects[lent.storage]
        dead = tuple(dict.fromkeys(outer[storage] for storage in dying))
        *lines, last = listing.lines
        for line in lines:
            assert isinstance(line, _Line | Mark)
            yield _step(line, f"{call.path}.", objects) if isinstance(line, _Line) else line
        assert isinstance(last, _Line)
        yield _step(last, f"{call.path}.", objects, dead)

    def _objects(self, listing: _Listing, bound: Mapping[Key, Stored]) -> dict[Key, Stored]:
        """The objects of one call: constants, those of its caller, and its own."""
        objects: dict[Key, Stored] = {**self._constants, **bound}
        for key, kind in listing.own.items():
            objects[key] = Stored(kind.size, whole=kind.whole)
        return objects

    def _list(self, items: Sequence[Op | Call], leaves: Leaves, outlives: set[Storage]) -> _Listing:
        """A tape's kernels with their objects; the middle rounds of its loops three times over."""
        known = Objects(self._program.setting, leaves, self._kept)
        dying = _deaths(items, outlives)
        listing = _Listing([], {})
        fresh: dict[Key, Kind] = {}
        for times, run in groupby(enumerate(items), key=lambda pair: getattr(pair[1], "times", 1)):
            ops = list(run)
            if times == 1:
                for index, item in ops:
                    dead = dying.get(index, ())
                    if isinstance(item, Call):
                        listing.lines.append((item, dead))
                    else:
                        listing.lines.append(_Line(item.path, known.of(item), dead, 1))
            else:
                accesses = [(index, op, known.of(op)) for index, op in ops if isinstance(op, Op)]
                fresh.update(_middle(listing, accesses, times, dying, known.kinds))
        own = {key: kind for key, kind in known.kinds.items() if key not in self._constants}
        listing.own = {**own, **fresh}
        return listing


def _middle(
    listing: _Listing,
    accesses: Sequence[tuple[int, Op, Access]],
    times: int,
    dying: Mapping[int, tuple[Storage, ...]],
    kinds: Mapping[Key, Kind],
) -> dict[Key, Kind]:
    """The middle rounds of a loop: adds their lines, and returns the objects that each of them has for itself."""
    first, last = accesses[0][0], accesses[-1][0]
    made = {tensor.storage for _, op, _ in accesses for tensor in op.writes if first <= tensor.storage.born <= last}
    assert all(storage.last <= last for storage in made), "a loop hands on what a round has made"
    touched = {key for _, _, access in accesses for key, _, _ in access.touches}
    own = [key for key in touched if key in made or kinds[key].of_round]
    for_good = sum(kinds[key].size for key in own if key not in made)
    fresh: dict[Key, Kind] = {}
    rounds = (1, times - 2, 1) if times > 2 else (1,) * times
    for number, stands_for in enumerate(rounds):
        names = {key: (key, number) for key in own}
        fresh.update({name: kinds[key] for key, name in names.items()})
        if stands_for > 1:
            listing.lines.append(Mark())
        for index, op, access in accesses:
            touches = tuple((names.get(key, key), read, written) for key, read, written in access.touches)
            ends = number == len(rounds) - 1
            dead = tuple(names.get(key, key) for key in dying.get(index, ()) if key in names or ends)
            listing.lines.append(_Line(op.path, Access(touches, access.streamed), dead, stands_for))
        if stands_for > 1:
            listing.lines.append(Mark((stands_for - 1) * for_good))
    return fresh


def _deaths(items: Sequence[Op | Call], outlives: set[Storage]) -> dict[int, tuple[Storage, ...]]:
    """Index of a kernel or call -> the storages that are dead after it."""
    made: dict[Storage, None] = {}
    for item in items:
        tensors: tuple[Tensor, ...] = item.writes if isinstance(item, Op) else (item.gives, *item.lends)
        made.update((t.storage, None) for t in tensors if t.home is Home.ACTIVATION and t.storage not in outlives)
    found: dict[int, list[Storage]] = {}
    for storage in made:
        found.setdefault(storage.last, []).append(storage)
    return {index: tuple(storages) for index, storages in found.items()}


def _step(line: _Line, prefix: str, objects: Mapping[Key, Stored], also: tuple[Stored, ...] = ()) -> Step:
    """A line with objects in place of their keys."""
    touches = tuple([(objects[key], read, written) for key, read, written in line.access.touches])
    dead = tuple([objects[key] for key in line.dead if key in objects])
    return Step(prefix + line.path, touches, line.access.streamed, (*dead, *also), line.times)
