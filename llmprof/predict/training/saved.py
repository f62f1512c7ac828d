"""What a forward pass saves for its backward: each storage once, at the leaf that saves it first.

docs/reference-training.md, section 4. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmprof.predict.formats import Format
from llmprof.predict.tensor import Axes, Home, Storage, Tensor, owner
from llmprof.predict.training.engine import Frame, Kept, Walked


@dataclass(frozen=True, slots=True, eq=False)
class SavedTensor:
    """A storage that autograd keeps: the leaf at `path` saves it first, by a kernel of this `kind`.

    `axes`, `format` and `nbytes` are of the storage as a whole, of which a kernel may see a part. `kind` is
    ``checkpoint`` where it is an input of what is computed again.
    """

    path: str
    name: str
    axes: Axes
    format: Format
    nbytes: int
    kind: str


def saved_tensors(walked: Walked) -> Iterator[SavedTensor]:
    """What is saved, in the order of the forward pass; parameters and constants are not."""
    frames = {frame.call: frame for frame in walked.frames}
    seen: set[Storage] = set()
    for each in walked.kept:
        if isinstance(each, Kept):
            yield from _first(each, "", owner(each.tensor), each.tensor.storage, seen)
        elif each in frames:
            yield from _of_frame(frames[each], seen)


def _of_frame(frame: Frame, seen: set[Storage]) -> Iterator[SavedTensor]:
    """What one called segment saves, its storages apart from those of the next call of the same segment."""
    call = frame.call
    inner = (call.segment.result, *call.segment.lent, *call.segment.inputs)
    outer = {mine.storage: theirs for mine, theirs in zip(inner, (call.gives, *call.lends, *call.takes), strict=True)}
    inside: set[Storage] = set()
    for kept in frame.walked.kept:
        assert isinstance(kept, Kept), kept
        known = outer.get(kept.tensor.storage)
        if known is None:
            yield from _first(kept, call.path, owner(kept.tensor), kept.tensor.storage, inside)
        else:
            yield from _first(kept, call.path, owner(known), known.storage, seen)


def _first(kept: Kept, below: str, whole: Tensor, storage: Storage, seen: set[Storage]) -> Iterator[SavedTensor]:
    """The tensor, if nothing has saved its storage before."""
    if whole.home is Home.ACTIVATION and storage not in seen:
        seen.add(storage)
        path = ".".join(part for part in (below, kept.path) if part)
        yield SavedTensor(path, whole.name, whole.axes, whole.format, whole.nbytes, kept.kind)
