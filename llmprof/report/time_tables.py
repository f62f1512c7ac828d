"""Times of `profile` as tables, and fused against unfused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmprof.report.tables import Table
from llmprof.units import format_count, format_ratio


def format_time(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return "-"
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if nanoseconds >= scale:
            return f"{nanoseconds / scale:.3f} {unit}"
    return f"{nanoseconds} ns"


def times(timings: Sequence[dict[str, Any]], depth: str) -> Table:
    """Median, spread and rates of each pass that was timed; `depth` says how much of the model it ran."""
    rows = []
    notes: dict[str, None] = {
        "cold: the last-level cache was overwritten between passes. stable: IQR / median is at most 10%; "
        "a time that is not stable is an observation, not a confirmation.": None
    }
    for t in timings:
        notes.update({f"{t['phase']}, {t['attention']}: {note}": None for note in t["notes"]})
        for temperature in ("warm", "cold"):
            sample = t.get(temperature)
            if sample is None:
                continue
            rows.append(
                (
                    t["phase"],
                    t["attention"],
                    temperature,
                    format_time(sample["median_ns"]),
                    format_time(sample["iqr_ns"]),
                    f"{sample['n']}",
                    "yes" if sample["stable"] else "no",
                    f"{sample['tokens_per_s']:,.1f}",
                    format_count(float(sample["flops_per_s"])) + "FLOP/s",
                    format_count(float(sample["bytes_per_s"])) + "B/s",
                )
            )
    return Table(
        title=f"Times of one pass of {depth}",
        columns=(
            "phase",
            "attention",
            "caches",
            "median",
            "IQR",
            "n",
            "stable",
            "tokens/s",
            "achieved",
            "op-level rate",
        ),
        rows=tuple(rows),
        left=3,
        notes=tuple(notes),
    )


def comparisons(entries: Sequence[dict[str, Any]]) -> Table:
    """Fused against unfused, phase by phase."""

    def cell(value: float | None, form: Callable[[float], str]) -> str:
        return "-" if value is None else form(value)

    rows = tuple(
        (
            entry["phase"],
            "-" if entry["speedup"] is None else f"{entry['speedup']:.2f}x",
            cell(entry["peak_memory_ratio"], format_ratio),
            cell(entry["traffic_ratio"], format_ratio),
            cell(entry["max_relative_difference"], "{:.2e}".format),
        )
        for entry in entries
    )
    return Table(
        title="Fused against unfused",
        columns=("phase", "speed-up", "peak live bytes", "op-level bytes", "largest difference of outputs"),
        rows=rows,
        notes=(
            "Bytes: fused / unfused. Speed-up: unfused time / fused time. Difference: the largest one, relative to the "
            "largest output.",
        ),
    )
