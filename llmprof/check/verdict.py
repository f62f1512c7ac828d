"""What a check found: the seam between evaluating budgets and reporting them. Data only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

Number = int | float

Unit = Literal["B", "FLOP", "parameters", "ratio", "ms", "calls"]

Status = Literal["passed", "failed", "unmeasured"]


def decimal(value: Number) -> Fraction:
    """A finite number as its shortest decimal says it, so that differences of what is printed come out even."""
    return Fraction(repr(value))


def _room(low: Number, high: Number) -> Number:
    if (isinstance(low, int) and isinstance(high, int)) or not (math.isfinite(low) and math.isfinite(high)):
        return high - low
    return float(decimal(high) - decimal(low))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something stands in a file; lines and columns start at 1. `file` is as the user named it."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A limit with its numbers worked out. `low` and `high` are inclusive; None is no bound on that side.

    `text` is the limit as written (``<= 90% of h200``), `meaning` what it came to
    (``<= 126.90 GB, 90% of 141 GB (h200)``).
    """

    text: str
    meaning: str
    low: Number | None
    high: Number | None
    unit: Unit
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one module (equal layers folded, `count` of them) contributes to a quantity, all of them together."""

    path: str
    count: int
    value: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A module whose part changed against the baseline; None where it did not exist on that side."""

    path: str
    before: Number | None
    after: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One limit of one combination of one entry.

    `settings` are the workload's keys as text: phase, batch and context, and whatever else is stated. `largest` is
    what would pass: ``{"batch": 5, "context": 10240}``, the largest of each with everything else as it is; a key is
    absent where the quantity does not depend on it, and 0 where not even the smallest passes. `would_pass` is the same
    where the quantity goes up and down with a setting: that value passes, and nothing is known of larger ones.
    `fewest` is how many devices would do for a figure of one of them: ``{"tensor_parallel": 8}``.
    `causes` name the spec lines that changed (``models/x.yaml:12: layers.attention.n_kv_heads 8 -> 32``). `sentence`
    is the whole message in one line. `unconfirmed` is why nothing independent confirms the value, empty where something
    does.
    """

    name: str
    spec: str
    quantity: str
    settings: dict[str, str]
    status: Status
    value: Number | None
    bound: Bound
    baseline: Number | None = None
    parts: tuple[Part, ...] = ()
    changes: tuple[Change, ...] = ()
    causes: tuple[str, ...] = ()
    largest: dict[str, int] = field(default_factory=dict)
    would_pass: dict[str, int] = field(default_factory=dict)
    fewest: dict[str, int] = field(default_factory=dict)
    sentence: str = ""
    note: str = ""
    unconfirmed: str = ""

    @property
    def remark(self) -> str:
        """The note, and that the value is not confirmed."""
        return "; ".join(filter(None, (self.note, self.unconfirmed and f"unconfirmed: {self.unconfirmed}")))

    @property
    def headroom(self) -> Number | None:
        """How much the value may still grow (or shrink, where only a lower bound is set); negative where it fails."""
        if self.value is None:
            return None
        rooms = [_room(self.value, self.bound.high)] if self.bound.high is not None else []
        if self.bound.low is not None:
            rooms.append(_room(self.bound.low, self.value))
        return min(rooms) if rooms else None

    @property
    def delta_pct(self) -> float | None:
        """Growth against the baseline in percent, or None without one."""
        if self.value is None or not self.baseline:
            return None
        return 100 * (self.value - self.baseline) / self.baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All findings of a run, and what else must be said. `warnings` have a place where there is one."""

    findings: tuple[Finding, ...]
    warnings: tuple[tuple[str, Place | None], ...] = ()
    baseline: str | None = None

    @property
    def exit_code(self) -> int:
        """1 if a limit is exceeded, else 3 if one could not be measured, else 0."""
        statuses = {finding.status for finding in self.findings}
        if "failed" in statuses:
            return 1
        return 3 if "unmeasured" in statuses else 0
