"""Predicted times of measured ops: one row of CSV for each, and how far they were off, by op, device and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmprof.report.tables import Table

if TYPE_CHECKING:
    from llmprof.latency.accuracy import Accuracy
    from llmprof.latency.estimate import Estimate
    from llmprof.latency.table import Row

COLUMNS = ("row_id", "pred_us", "lo_us", "hi_us")
DIGITS = 7


def predictions(rows: Sequence[Row], estimates: Sequence[Estimate]) -> list[dict[str, object]]:
    """A record for each row, in microseconds: the time and the ends of its interval."""

    def us(seconds: float) -> float:
        return float(f"{seconds * 1e6:.{DIGITS}g}")

    return [
        {"row_id": row.row_id, "pred_us": us(each.seconds), "lo_us": us(each.low), "hi_us": us(each.high)}
        for row, each in zip(rows, estimates, strict=True)
    ]


def records(found: Sequence[Accuracy]) -> list[dict[str, Any]]:
    """The figures of each group: errors in percent, and `coverage`, a part of 1."""
    return [asdict(each) for each in found]


def table(found: Sequence[Accuracy], notes: Sequence[str]) -> Table:
    """The same for a reader."""
    rows = tuple(
        (
            each.op,
            each.device,
            each.dtype,
            each.basis,
            f"{each.count:,}",
            f"{each.median:.1f}%",
            f"{each.p90:.1f}%",
            f"{each.coverage:.1%}",
        )
        for each in found
    )
    return Table(
        title="Predicted against measured",
        columns=("op", "device", "dtype", "basis", "rows", "median error", "p90", "within interval"),
        rows=rows,
        left=4,
        notes=tuple(notes),
    )
