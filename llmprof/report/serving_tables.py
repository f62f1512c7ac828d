"""Predictions of served runs as tables: beside every column of the file they are of, and their errors for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

from llmprof.errors import InputError
from llmprof.latency.serving.accuracy import Errors, errors_of_tpot, errors_of_ttft
from llmprof.latency.serving.rows import Runs
from llmprof.latency.serving.verify import Predicted, Verified
from llmprof.report.tables import Table

COLUMNS = ("pred_ttft_ms", "pred_tpot_ms", "lo_tpot_ms", "hi_tpot_ms", "pred_basis")
HEAD = ("rows", "number", "TPOT mean", "median", "p90", "in interval", "TTFT mean", "median", "p90")
CELLS = ("number", "tpot_mean", "tpot_median", "tpot_p90", "tpot_inside", "ttft_mean", "ttft_median", "ttft_p90")
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


def records(verified: Verified) -> list[dict[str, object]]:
    """How far predictions are from what was measured, over all rows and by kind; empty where nothing was measured."""
    found = list(verified.predicted.values())
    rows = []
    for name, some in _groups(found):
        tpot, ttft = errors_of_tpot(some), errors_of_ttft(some)
        if tpot is not None or ttft is not None:
            rows.append({"rows": name, "number": len(some), **_of("tpot", tpot), **_of("ttft", ttft)})
    return rows


def _of(quantity: str, errors: Errors | None) -> dict[str, object]:
    """The errors of one quantity in percent, the share inside its interval as a fraction; TTFT has no interval here."""
    names = ("mean", "median", "p90", *(("inside",) if quantity == "tpot" else ()))
    return {f"{quantity}_{name}": None if errors is None else getattr(errors, name) for name in names}


def error_table(verified: Verified) -> Table | None:
    """The records for people; None where nothing was measured."""
    found = records(verified)
    if not found:
        return None
    missing = len(verified.problems)
    notes = (*NOTES, f"{missing} without a prediction: pred_basis says why.") if missing else NOTES
    rows = tuple((str(record["rows"]), *(_cell(record[key], key) for key in CELLS)) for record in found)
    return Table(title="Served runs, predicted against measured", columns=HEAD, rows=rows, notes=notes)


def _groups(found: list[Predicted]) -> Iterator[tuple[str, list[Predicted]]]:
    yield "all", found
    for prefix, kind in KINDS:
        names = sorted({kind(each) for each in found})
        if len(names) > 1:
            for name in names:
                yield f"{prefix}{name}", [each for each in found if kind(each) == name]


def _cell(value: object, key: str) -> str:
    if not isinstance(value, float | int):
        return "-"
    if key == "number":
        return f"{value:,}"
    return f"{value:.0%}" if key == "tpot_inside" else f"{value:.1f}"
