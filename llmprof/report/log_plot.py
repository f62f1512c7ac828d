"""Points on two logarithmic axes, in characters. Where the output cannot hold the marks, letters stand for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_MARKS = ("\u25cf", "\u25cb", "\u2500")
_LETTERS = ("*", "o", "-")
_ACROSS, _DOWN, _CORNER = "\u2500", "\u2502", "\u2514"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A name and its (x, y), all above 0."""

    name: str
    points: tuple[tuple[float, float], ...]


def log_plot(
    series: Sequence[Series],
    *,
    x_text: Callable[[int], str],
    y_text: Callable[[int], str],
    encoding: str | None,
    columns: int = 64,
    lines: int = 14,
) -> list[str]:
    """The series as lines of text, the first on top of the others where marks fall together; at most three of them."""
    assert 0 < len(series) <= len(_MARKS), series
    wide = _holds(encoding)
    marks = _MARKS if wide else _LETTERS
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    across, up = _Axis.over(xs, columns), _Axis.over(ys, lines)
    cells = [[" "] * columns for _ in range(lines)]
    for mark, each in reversed(list(zip(marks, series, strict=False))):
        for x, y in each.points:
            cells[lines - 1 - up.place(y)][across.place(x)] = mark
    labels = ["" if up.high == up.low else y_text(round(up.high)), *[""] * (lines - 2), y_text(round(up.low))]
    margin = max(map(len, labels))
    down, corner, edge = (_DOWN, _CORNER, _ACROSS) if wide else ("|", "+", "-")
    text = [f" {label:>{margin}} {down}{''.join(row)}".rstrip() for label, row in zip(labels, cells, strict=True)]
    text.append(f" {'':>{margin}} {corner}{edge * columns}")
    left, right = x_text(round(across.low)), "" if across.high == across.low else x_text(round(across.high))
    text.append(f" {'':>{margin}}  {left} {right:>{columns - len(left) - 1}}".rstrip())
    legend = "   ".join(f"{mark} {each.name}" for mark, each in zip(marks, series, strict=False))
    text.append(f" {'':>{margin}}  {legend}")
    return text


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic scale from `low` to `high` over so many cells."""

    low: float
    high: float
    cells: int

    @classmethod
    def over(cls, values: Sequence[float], cells: int) -> _Axis:
        return cls(min(values), max(values), cells)

    def place(self, value: float) -> int:
        """The cell of a value; all are in the first where the axis has no length."""
        if self.high == self.low:
            return 0
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(share * (self.cells - 1))


def _holds(encoding: str | None) -> bool:
    try:
        "".join((*_MARKS, _ACROSS, _DOWN, _CORNER)).encode(encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
