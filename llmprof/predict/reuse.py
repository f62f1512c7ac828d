"""How far apart an object's touches lie, in bytes: what a cache must hold for the second to find it there.

docs/reference-dram.md, section 2. A cache that evicts what was touched longest ago holds the objects touched last, as
many as fit. So an object touched at one kernel is still there at the next that touches it exactly if, after every
kernel in between, it and the live objects touched since fit together. The largest of these sums is its *distance*; no
cache is simulated, and one list of distances serves every capacity. What dies gives room, but brings nothing back.

    read     moves its bytes where the distance is above the capacity, or where it is the first touch
    write    stays in the cache; a distance above the capacity at a later touch, or at the object's end, moves what has
             been written since the last such, at most the object; so does the end of a pass that it outlives

An object above the capacity passes the cache by: every access moves its own bytes. Its size is in the sums of what was
touched before it, so that it drives that out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from llmprof.predict.touches import Mark, Step, Stored


@dataclass(frozen=True, slots=True)
class Read:
    """`nbytes` that kernels at `path` read of `stored`; `distance` is None at the first touch."""

    path: str
    stored: Stored
    nbytes: int
    times: int
    distance: int | None

    def moved(self, capacity: int | None) -> int:
        """Bytes from memory below a cache of `capacity` bytes; None: a boundless one."""
        if capacity is not None and self.stored.size > capacity:
            return self.times * self.nbytes
        if self.distance is None or (capacity is not None and self.distance > capacity):
            return self.times * (self.stored.size if self.stored.whole else self.nbytes)
        return 0


@dataclass(slots=True)
class Written:
    """`nbytes` that kernels at `path` write of an object, `times` over; `distance` is the largest up to the next write.

    It is None at the last write of an object that outlives the pass.
    """

    path: str
    nbytes: int
    times: int
    distance: int | None = None


@dataclass(slots=True)
class Reuse:
    """Every access of a pass with its distance, writes by object; and the bytes by path that pass the cache by."""

    reads: list[Read] = field(default_factory=list)
    writes: dict[Stored, list[Written]] = field(default_factory=dict)
    streamed: Counter[str] = field(default_factory=Counter)

    def moved(self, capacity: int | None) -> Mapping[str, int]:
        """Bytes to and from memory by path, below a cache of `capacity` bytes; None: a boundless one."""
        moved = Counter(self.streamed)
        for read in self.reads:
            moved[read.path] += read.moved(capacity)
        for stored, writes in self.writes.items():
            dirty = 0
            for times, run in groupby(writes, key=lambda write: write.times):
                dirty = _written_back(stored, list(run), times, capacity, dirty, moved)
        return moved


def _written_back(
    stored: Stored, run: Sequence[Written], times: int, capacity: int | None, dirty: int, moved: Counter[str]
) -> int:
    """Add what `times` rounds of the writes `run` move, with so much `dirty` before the first; what is dirty after.

    From the second round on all move the same: what the one before has left dirty is the same.
    """
    if capacity is not None and stored.size > capacity:
        for write in run:
            moved[write.path] += times * write.nbytes
        return 0
    evicted = any(write.distance is None or (capacity is not None and write.distance > capacity) for write in run)
    if not evicted:
        return dirty + times * sum(write.nbytes for write in run)
    for rounds in (1, times - 1) if times > 1 else (1,):
        for write in run:
            dirty += write.nbytes
            if write.distance is None or (capacity is not None and write.distance > capacity):
                moved[write.path] += rounds * min(stored.size, dirty)
                dirty = 0
    return dirty


class _Track:
    """What is known of an object since its last touch: how far it is now, its last write, how far it was since."""

    __slots__ = ("behind", "far", "left", "size", "write", "write_far")

    def __init__(self, size: int, left: int) -> None:
        self.size, self.left = size, left
        self.far = self.write_far = 0
        self.write: Written | None = None
        self.behind = 0
        """Bytes touched after it, and before the next one that is still tracked, that nothing touches again."""


def reuse(steps: Iterable[Step | Mark]) -> Reuse:
    """The distances of a pass."""
    return _Distances(list(steps)).found


class _Distances:
    """The objects by their last touch, oldest first: those that are touched again or are dirty and die."""

    def __init__(self, steps: Sequence[Step | Mark]) -> None:
        self.found = Reuse()
        self._order: list[_Track] = []
        self._tracks: dict[Stored, _Track] = {}
        kernels = [step for step in steps if isinstance(step, Step)]
        self._left = Counter(stored for step in kernels for stored, _, _ in step.touches)
        self._dying = {stored for step in kernels for stored in step.dead}
        marks: list[_Track] = []
        for step in steps:
            if isinstance(step, Step):
                self._kernel(step)
            elif step.nbytes is None:
                marks.append(_Track(0, 1))
                self._order.append(marks[-1])
            else:
                mark = marks.pop()
                mark.behind += step.nbytes
                self._forget(mark)

    def _kernel(self, step: Step) -> None:
        """Touches, then how far everything is now, then deaths."""
        if step.streamed:
            self.found.streamed[step.path] += step.times * step.streamed
        for stored, read, written in step.touches:
            self._touch(step, stored, read, written)
        far = 0
        for track in reversed(self._order):
            far += track.behind + track.size
            if far > track.far:
                track.far = far
        for stored in step.dead:
            ended = self._tracks.pop(stored, None)
            if ended is not None:
                if ended.write is not None:
                    ended.write.distance = max(ended.write_far, ended.far)
                self._forget(ended)

    def _touch(self, step: Step, stored: Stored, read: int, written: int) -> None:
        track = self._tracks.get(stored)
        distance: int | None = None
        if track is None:
            track = self._tracks[stored] = _Track(stored.size, self._left[stored])
        else:
            distance = track.far
            track.write_far = max(track.write_far, distance)
            self._forget(track)
        if read:
            self.found.reads.append(Read(step.path, stored, read, step.times, distance))
        if written:
            if track.write is not None:
                track.write.distance = track.write_far
            track.write, track.write_far = Written(step.path, written, step.times), 0
            self.found.writes.setdefault(stored, []).append(track.write)
        track.far = track.behind = 0
        track.left -= 1
        if track.left or stored in self._dying:
            self._order.append(track)
        elif self._order:
            self._order[-1].behind += track.size

    def _forget(self, track: _Track) -> None:
        """Takes it out of the order; what was touched after it stays where it is."""
        index = self._order.index(track)
        del self._order[index]
        if index:
            self._order[index - 1].behind += track.behind
