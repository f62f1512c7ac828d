"""The parameters of an architecture as a file may hold them: by leaf and name, with their shapes.

They are the prediction's own (`predict/leaves.py`), so that a file is held against what is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from llmprof.predict.leaves import model_leaves
from llmprof.predict.mtp import further_leaves
from llmprof.spec.arch import ArchSpec
from llmprof.stored.reading import Slot


@dataclass(frozen=True, slots=True)
class Wanted:
    """One parameter: its shape, outputs first; `experts` is how many matrices are stacked in it, or 0.

    `further` is that of a layer that predicts further tokens.
    """

    shape: tuple[int, ...]
    experts: int
    further: bool

    @property
    def count(self) -> int:
        """Its values."""
        return prod(self.shape)

    @property
    def each(self) -> int:
        """The values of one of its experts."""
        return self.count // self.experts if self.experts else self.count


def wanted(arch: ArchSpec) -> dict[Slot, Wanted]:
    """Every parameter that the architecture owns, in the order of the call tree, further layers last."""
    found: dict[Slot, Wanted] = {}
    for leaves, further in ((model_leaves(arch), False), (further_leaves(arch), True)):
        for path, parameters in leaves.items():
            for parameter in parameters:
                if parameter.owned:
                    axes = parameter.axes
                    stacked = axes["experts"] if parameter.chosen is not None else 0
                    found[path, parameter.name] = Wanted(tuple(axes.values()), stacked, further)
    return found
