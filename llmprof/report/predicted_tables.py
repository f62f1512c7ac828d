"""Predicted times of `profile` beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmprof.report.tables import Table
from llmprof.report.time_tables import format_time


def _time(seconds: float) -> str:
    return format_time(round(seconds * 1e9))


def predicted_times(timings: Sequence[dict[str, Any]]) -> list[Table]:
    """The passes whose time was predicted, and the leaves that miss most; none where no pass has a prediction."""
    found = [(timing, timing["predicted"]) for timing in timings if timing.get("predicted")]
    if not found:
        return []
    rows = tuple(
        (
            timing["phase"],
            timing["attention"],
            _time(made["seconds"]),
            f"{_time(made['low_s'])} to {_time(made['high_s'])}",
            format_time(timing["warm"]["median_ns"]) if timing.get("warm") else "-",
            "-" if made["ratio"] is None else f"{made['ratio']:.2f}",
            "-" if made["inside"] is None else "yes" if made["inside"] else "no",
            made["bound"],
        )
        for timing, made in found
    )
    notes = [
        f"From constants that `llmprof calibrate` fitted on this device, on {found[0][1]['calibrated_on']}. Measured: "
        "the warm median. Of what nothing was fitted to 90% lay within such an interval: on a GPU of kernels, on a CPU "
        "of passes of small models.",
    ]
    partly = [timing for timing, made in found if made["basis"] != "calibrated"]
    if partly:
        notes.append(
            "Some kernels or leaves were not calibrated by themselves: kernels have the constants of their family, "
            "leaves those of what moves memory."
        )
    head = Table(
        title="Predicted times",
        columns=("phase", "attention", "predicted", "interval", "measured", "predicted / measured", "inside", "bound"),
        rows=rows,
        left=2,
        notes=tuple(notes),
    )
    misses = tuple(
        (
            timing["phase"],
            timing["attention"],
            each["path"],
            _time(each["seconds"]),
            _time(each["measured_s"]),
            f"{(each['seconds'] - each['measured_s']) * 1e3:+.3f} ms",
        )
        for timing, made in found
        for each in made["contributors"]
    )
    if not misses:
        return [head]
    return [
        head,
        Table(
            title="Where predicted and measured times differ most",
            columns=("phase", "attention", "module", "predicted", "measured", "difference"),
            rows=misses,
            left=3,
            notes=(
                "Measured: with a clock at both ends of every module, which makes a pass longer; equal layers added.",
            ),
        ),
    ]
