"""Predictions of served runs as tables: beside every column of the file they are of, and their errors for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

from llmprof.errors import InputError
from llmprof.latency.serving.rows import Runs
from llmprof.latency.serving.verify import Errors, Predicted, Verified, errors_of_tpot, errors_of_ttft
from llmprof.report.tables import Table

COLUMNS = ("pred_ttft_ms", "pred_tpot_ms", "lo_tpot_ms", "hi_tpot_ms", "pred_basis")
HEAD = ("rows", "number", "TPOT mean", "median", "p90", "in interval", "TTFT mean", "median", "p90")
NOTES = (
    "Errors are |predicted - measured| / measured in percent; measured times decide no prediction.",
    "TPOT is the mean over the tokens after the first of a request; TTFT depends on how a benchmark sends its requests "
    "(docs/latency.md, Serving).",
)
Kind = tuple[str, Callable[[Predicted], str]]
KINDS: tuple[Kind, ...] = (
    ("", lambda each: "dense" if each.dense else "mixture of experts"),
    ("engine ", lambda each: f"{each.row.backend} {each.row.version}".strip()),
    ("device ", lambda each: each.row.system),
    ("", lambda each: each.row.model_path),
    ("tensor parallel ", lambda each: str(each.row.layout.tensor)),
    ("", lambda each: each.basis),
)
"""What rows are put together by, where a file has several of a kind."""


def check_columns(path: str, runs: Runs) -> None:
    """InputError where the file has a column of the same name as one that is to be added."""
    taken = [name for name in COLUMNS if name in runs.columns]
    if taken:
        raise InputError(f"{path}: the header already has {', '.join(taken)}; leave predictions out of the input")


def to_csv(verified: Verified) -> str:
    """The file with the predictions in further columns; `pred_basis` says why a row has none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*verified.runs.columns, *COLUMNS])
    for line, cells in verified.runs.lines:
        found = verified.predicted.get(line)
        if found is None:
            figures = ["", "", "", "", f"none: {verified.problems[line]}"]
        else:
            times = (found.ttft_ms, found.tpot_ms, found.low_tpot_ms, found.high_tpot_ms)
            figures = [*(f"{time:.6g}" for time in times), found.basis]
        writer.writerow([*(cells[name] for name in verified.runs.columns), *figures])
    return stream.getvalue()


def error_table(verified: Verified) -> Table | None:
    """How far predictions are from what was measured, over all rows and by kind; None where nothing was measured."""
    found = list(verified.predicted.values())
    rows = [row for name, some in _groups(found) if (row := _row(name, some)) is not None]
    if not rows:
        return None
    missing = len(verified.problems)
    notes = (*NOTES, f"{missing} rows have no prediction: pred_basis says why.") if missing else NOTES
    return Table(title="Served runs, predicted against measured", columns=HEAD, rows=tuple(rows), notes=notes)


def _groups(found: list[Predicted]) -> Iterator[tuple[str, list[Predicted]]]:
    yield "all", found
    for prefix, kind in KINDS:
        names = sorted({kind(each) for each in found})
        if len(names) > 1:
            for name in names:
                yield f"{prefix}{name}", [each for each in found if kind(each) == name]


def _row(name: str, found: list[Predicted]) -> tuple[str, ...] | None:
    tpot, ttft = errors_of_tpot(found), errors_of_ttft(found)
    if tpot is None and ttft is None:
        return None
    inside = "-" if tpot is None or tpot.inside is None else f"{tpot.inside:.0%}"
    return (name, str(len(found)), *_figures(tpot), inside, *_figures(ttft))


def _figures(errors: Errors | None) -> tuple[str, str, str]:
    if errors is None:
        return "-", "-", "-"
    return f"{errors.mean:.1f}", f"{errors.median:.1f}", f"{errors.p90:.1f}"
