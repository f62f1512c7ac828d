"""One parameter of an architecture while tensors are placed: who has taken it, and whether another still may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmprof.stored.architecture import Wanted
from llmprof.stored.packing import Unpacked
from llmprof.stored.reading import Slot


@dataclass(slots=True)
class Place:
    """A parameter that is taken by one tensor, by one for each of its experts, or by several parts.

    `found` is how many of its values have come; `differs`: a tensor that names it has another size.
    """

    wanted: Wanted
    whole: bool = False
    experts: set[int] = field(default_factory=set)
    in_parts: bool = False
    found: int = 0
    differs: bool = False

    def free(self, expert: int | None, *, part: bool) -> bool:
        """Whether a tensor, of all or of one expert, may still take it."""
        if self.whole or (self.in_parts and not part) or (self.experts and (part or expert is None)):
            return False
        return expert is None or (expert < self.wanted.experts and expert not in self.experts)

    def expects(self, expert: int | None) -> int:
        """How many values a tensor has that takes it."""
        return self.wanted.count if expert is None else self.wanted.each

    def take(self, expert: int | None, values: int, *, part: bool = False, differs: bool = False) -> None:
        """Enters a tensor with so many of its values."""
        if part:
            self.in_parts = True
        elif expert is None:
            self.whole = True
        else:
            self.experts.add(expert)
        self.differs |= differs
        self.found += values


def counts(held: Unpacked) -> list[int]:
    """How many values a tensor may stand for."""
    if not held.choices:
        return [held.values]
    return [held.values * times // each for times, each in held.choices if not held.values * times % each]


def part_counts(held: Unpacked, stored: Sequence[int], width: int) -> list[int]:
    """The same of a part of a matrix with rows of `width`: a packed one has to have such rows."""
    if not held.choices:
        return [held.values]
    last = stored[-1] if stored else 1
    return [held.values * times // each for times, each in held.choices if last * times == width * each]


def lies(held: Unpacked, axes: Sequence[int]) -> bool:
    """Whether a tensor has a side of a parameter with these axes, where both have sides: in any order, or folded."""
    sides = [size for size in held.shape or () if size != 1]
    return len(axes) < 2 or len(sides) < 2 or bool({axes[-1], axes[-2]} & set(sides))


def common(slots: Sequence[Slot]) -> str:
    """One path for several leaves: ``layers.0.attn.{q_proj,k_proj,v_proj}``."""
    paths = list(dict.fromkeys(path for path, _ in slots))
    if len(paths) == 1:
        return paths[0]
    parent = paths[0].rpartition(".")[0]
    return parent + ".{" + ",".join(path.rpartition(".")[2] for path in paths) + "}"
