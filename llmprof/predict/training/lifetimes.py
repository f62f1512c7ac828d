"""How much is live at the end of every kernel of forward and backward (docs/reference-training.md, section 6).

A line of kernels: those of the forward pass, then those of backward. Every storage is live from the kernel that makes
it to the last at which anything holds it, the graph too; equal layers are placed as often as they are called.
Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from llmprof.predict.calls import Call
from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Storage, Tensor, owner
from llmprof.predict.training.engine import Frame, Walked


class Line:
    """Kernels in a row, and the bytes that come to life and die between them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._change = [0] * (count + 1)

    def place(self, nbytes: int, born: int, last: int) -> None:
        """Something is live from the end of kernel `born` to the end of kernel `last`."""
        self._change[born] += nbytes
        self._change[min(last, self.count - 1) + 1] -= nbytes

    @property
    def peak(self) -> int:
        """The largest sum at the end of any kernel."""
        return max(accumulate(self._change[:-1]))


def peak(items: Sequence[Op | Call], walked: Walked, held: Sequence[Tensor]) -> int:
    """The peak of a pass through `items` and back; `held` lives to the end."""
    starts = list(accumulate((_count(item) for item in items), initial=0))
    forward = starts[-1]
    line = Line(forward + walked.count)
    end = line.count - 1
    frames = {frame.call: frame for frame in walked.frames}

    until = {storage: forward + last for storage, last in walked.last.items()}
    until.update((tensor.storage, end) for tensor in (*held, *walked.learned.values()))

    for tensor, born, last in _made(items):
        storage = tensor.storage
        begins = starts[born] + _birth(items[born], storage)
        line.place(owner(tensor).nbytes, begins, max(starts[last + 1] - 1, until.get(storage, -1)))
    for start, item in zip(starts, items, strict=False):
        if isinstance(item, Call):
            _place_forward(line, item, frames.get(item), start, forward)
    for tensor in walked.made:
        line.place(tensor.nbytes, forward + walked.born[tensor.storage], until[tensor.storage])
    for frame in walked.frames:
        _place_backward(line, frame, forward)
    return line.peak


def _count(item: Op | Call) -> int:
    return len(item.segment.ops) if isinstance(item, Call) else 1


def _made(items: Sequence[Op | Call]) -> list[tuple[Tensor, int, int]]:
    """What a tape brings to life: a tensor of each storage, the item that makes it and the last that holds it."""
    seen: set[Storage] = set()
    found = []
    for item in items:
        for tensor in item.writes if isinstance(item, Op) else (item.gives, *item.lends):
            storage = tensor.storage
            if storage.home is Home.ACTIVATION and storage not in seen:
                seen.add(storage)
                found.append((tensor, storage.born, storage.last))
    return found


def _birth(item: Op | Call, storage: Storage) -> int:
    """The kernel of an item at which a storage of its caller comes to life."""
    if isinstance(item, Op):
        return 0
    outer = (item.gives, *item.lends)
    inner = (item.segment.result, *item.segment.lent)
    return next(made.storage.born for made, known in zip(inner, outer, strict=True) if known.storage is storage)


def _place_forward(line: Line, call: Call, frame: Frame | None, start: int, forward: int) -> None:
    """The tensors of one called segment, but for those that its caller holds."""
    segment = call.segment
    theirs = {tensor.storage for tensor in (segment.result, *segment.lent)}
    kept: Mapping[Storage, int] = {} if frame is None else frame.walked.last
    base = 0 if frame is None else forward + frame.start
    for tensor, born, last in _made(segment.ops):
        storage = tensor.storage
        if storage not in theirs:
            until = start + last
            if storage in kept:
                until = max(until, base + kept[storage])
            line.place(owner(tensor).nbytes, start + born, until)


def _place_backward(line: Line, frame: Frame, forward: int) -> None:
    """The gradients of one called segment, but for those that its caller holds; those of parameters live to the end."""
    walked, base = frame.walked, forward + frame.start
    learned = {tensor.storage for tensor in walked.learned.values()}
    for tensor in walked.made:
        storage = tensor.storage
        if storage not in frame.same:
            last = line.count - 1 if storage in learned else base + walked.last[storage]
            line.place(tensor.nbytes, base + walked.born[storage], last)
