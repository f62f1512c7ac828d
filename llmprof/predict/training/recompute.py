"""What a backward computes again rather than find it saved (docs/reference-training.md, section 8).

A region is a run of kernels that saves its inputs alone. Before the first of its nodes that needs something saved, its
kernels are launched once more, into tensors of their own. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import assert_never

from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Storage, Tensor, owner
from llmprof.predict.training.recorder import Recorder
from llmprof.workload import Recompute


class Region:
    """Kernels number `first` and following of a segment, whose `inputs` are what it saves, at the leaf `path`."""

    def __init__(self, path: str, first: int, ops: Sequence[Op], inputs: Sequence[Tensor]) -> None:
        self.path = path
        self.first = first
        self.ops = tuple(ops)
        self.inputs = tuple(inputs)

    @property
    def matmul_flops(self) -> int:
        """FLOPs of the contractions that are computed again."""
        return sum(op.matmul_flops for op in self.ops)


class Again:
    """A region during one walk: not yet computed again, or computed, with the storages that stand for its own."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.done = False
        self._storages: dict[Storage, Storage] = {}
        self._tensors: dict[int, Tensor] = {}

    def launch(self, tape: Recorder) -> None:
        """Launch the region's kernels once more; each tensor lives as in the forward pass, within the region."""
        region, start = self.region, tape.position
        end = region.first + len(region.ops) - 1
        made: dict[Storage, Tensor] = {}
        for op in region.ops:
            for tensor in op.writes:
                if tensor.home is Home.ACTIVATION:
                    made.setdefault(tensor.storage, tensor)
        for storage, tensor in made.items():
            self._storages[storage] = Storage(Home.ACTIVATION)
            born = start + storage.born - region.first
            last = start + min(storage.last, end) - region.first
            tape.adopt(self.of(owner(tensor)), born, last)
        for op in region.ops:
            tape.ops.append(op)
            tape.position += 1
        tape.hold(region.inputs)
        self.done = True

    def of(self, tensor: Tensor) -> Tensor:
        """What stands for a tensor of the forward pass: itself, where it comes from outside of the region."""
        storage = self._storages.get(tensor.storage)
        if storage is None:
            return tensor
        made = self._tensors.get(id(tensor))
        if made is None:
            of = None if tensor.of is None else self.of(tensor.of)
            made = Tensor(
                tensor.name, tensor.axes, tensor.format, storage, tensor.memory, tensor.expanded, of=of, via=tensor.via
            )
            self._tensors[id(tensor)] = made
        return made


def regions(recompute: Recompute, ops: Sequence[Op], inputs: Sequence[Tensor]) -> tuple[Region, ...]:
    """What of a layer, lowered on `inputs`, is computed again."""
    match recompute:
        case "none":
            return ()
        case "full":
            return (_region("", 0, ops, inputs),)
        case "selective":
            found = []
            for path, run in groupby(enumerate(ops), lambda numbered: numbered[1].path):
                numbered = list(run)
                if path.rpartition(".")[2] == "core":
                    inside = [op for _, op in numbered]
                    found.append(_region(path, numbered[0][0], inside, _from_outside(inside)))
            return tuple(found)
    assert_never(recompute)


def _region(path: str, first: int, ops: Sequence[Op], inputs: Iterable[Tensor]) -> Region:
    """A region with those of `inputs` that it reads."""
    read = {tensor.storage for op in ops for tensor in op.reads}
    return Region(path, first, ops, [tensor for tensor in inputs if tensor.storage in read])


def _from_outside(ops: Sequence[Op]) -> list[Tensor]:
    """The tensors that `ops` read and do not make, constants and parameters aside."""
    made = {tensor.storage for op in ops for tensor in op.writes}
    found: dict[Storage, Tensor] = {}
    for op in ops:
        for tensor in op.reads:
            if tensor.storage not in made and tensor.home in (Home.ACTIVATION, Home.INPUT):
                found.setdefault(tensor.storage, tensor)
    return list(found.values())
