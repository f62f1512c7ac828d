"""A printed figure beside ours: what it is held to, and what a paper's setting leaves to be assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Subject = Literal["traffic", "training"]
Verdict = Literal["reproduced", "differs", "explained"]

FLOAT_SLACK = 1e-9
"""A share of the printed value: what binary fractions may lose on the way to a comparison, and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far ours may lie from what is printed, in the printed unit, and why that far."""

    size: float
    why: str


def rounding(unit: float) -> Tolerance:
    """Half of the last digit that is printed, which stands for `unit`."""
    return Tolerance(size=unit / 2, why="the rounding of the printed figure")


def share(of: float, fraction: float, why: str) -> Tolerance:
    """A fraction of the printed value."""
    return Tolerance(size=abs(of) * fraction, why=f"{fraction:.1%}: {why}")


EXACT = Tolerance(size=0, why="a formula over integers: equal or wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One printed figure. `printed` and `ours` are in `unit`, a share (of 1) where that is "%".

    Without a tolerance the figure is not ours to reproduce, and the study says why: it is shown and decides nothing.
    """

    of: str
    printed: float
    ours: float
    unit: str
    tolerance: Tolerance | None

    @property
    def verdict(self) -> Verdict:
        """Whether ours lies within the tolerance; `explained` where there is none."""
        if self.tolerance is None:
            return "explained"
        room = self.tolerance.size + abs(self.printed) * FLOAT_SLACK
        return "reproduced" if abs(self.ours - self.printed) <= room else "differs"

    @property
    def difference(self) -> float | None:
        """Ours against the printed value, as a share of that; None where that is 0."""
        return (self.ours - self.printed) / self.printed if self.printed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of what a figure is made of: a kernel or a tensor, how it comes about, and its size in base units."""

    of: str
    what: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The lines that add up to a figure of ours."""

    title: str
    unit: Literal["B", "FLOPs"]
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(line.value for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a study computed: the figures, the sheets behind them, and what is to be said with them."""

    figures: tuple[Figure, ...]
    sheets: tuple[Sheet, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Figures of one paper that stand on the same setting. `sources` are keys of `citations.CITATIONS`."""

    key: str
    title: str
    subject: Subject
    sources: tuple[str, ...]
    assumptions: tuple[str, ...]
    compute: Callable[[], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A study that was computed."""

    study: Study
    outcome: Outcome

    @property
    def holds(self) -> bool:
        """Whether no figure differs by more than its tolerance."""
        return all(figure.verdict != "differs" for figure in self.outcome.figures)
