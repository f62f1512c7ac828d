"""`llmprof verify --ops`: hold predicted times of ops against a table of measured ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmprof.cli.messages import bold, progress, say

if TYPE_CHECKING:
    from llmprof.latency.accuracy import Accuracy
    from llmprof.latency.estimate import Estimate
    from llmprof.latency.local import Local
    from llmprof.latency.table import Row

SCHEMA_VERSION = 1
SHOWN = 20
"""Up to so many rows that were not understood are named; the others are counted."""

NOTES = (
    "Errors are |predicted - measured| / measured. Where the basis is calibrated, 90% of measured times should lie "
    "within the interval; elsewhere times are uncalibrated, with an interval at least a factor of two wide each way.",
)


def run(file: str, output_format: str, output: str | None, local: Local) -> int:
    """Writes the predictions of `file`, and the errors where it says what was measured; the exit code.

    Constants of `local` come before the catalogue's.

    Predictions go to `output` and errors to stdout; without one, predictions go to stdout and errors to stderr. Rows
    that are not understood are reported by line, the others predicted; the code is 2 then.
    """
    from llmprof.latency.accuracy import judge, predict_table
    from llmprof.latency.table import read
    from llmprof.report import ops_tables, tables
    from llmprof.report.write import write_text

    understood = read(Path(file))
    progress(f"predicting {len(understood.rows):,} rows")
    table, estimates = predict_table(understood, local)
    for line, row_id, text in table.problems[:SHOWN]:
        say(f"error: {file}:{line}:{f' {row_id}:' if row_id else ''} {text}")
    if len(table.problems) > SHOWN:
        say(f"error: {file}: {len(table.problems) - SHOWN} more rows were not understood")
    if not table.rows and not table.problems:
        say(f"error: {file}: no rows; expected one measured op on each line below the names of columns")
    _tell_bases(table.rows, estimates)
    errors = judge(table.rows, estimates)
    text = tables.to_csv(ops_tables.predictions(table.rows, estimates), ops_tables.COLUMNS)
    if output is None:
        write_text(text, None)
        if errors:
            say("errors\n" + tables.to_text([ops_tables.table(errors, NOTES)]).rstrip("\n"))
    else:
        write_text(text, output)
        write_text(_errors(errors, output_format, len(table.rows), len(table.problems)), None)
    return 2 if table.problems or not table.rows else 0


def _errors(errors: Sequence[Accuracy], output_format: str, rows: int, problems: int) -> str:
    from llmprof.report import ops_tables, tables

    records = ops_tables.records(errors)
    if output_format == "json":
        said = {"schema_version": SCHEMA_VERSION, "rows": rows, "not_understood": problems, "errors": records}
        return tables.to_json(said)
    if output_format == "csv":
        return tables.to_csv(records, ("op", "device", "dtype", "basis", "count", "median", "p90", "coverage"))
    if not errors:
        return f"{rows:,} rows predicted; none says in a column `us` what was measured.\n"
    page = [ops_tables.table(errors, NOTES)]
    return tables.to_markdown(page) if output_format == "markdown" else tables.to_text(page, color=bold(None))


def _tell_bases(rows: Sequence[Row], estimates: Sequence[Estimate]) -> None:
    """What uncalibrated times rest on, once for each device and op."""
    counts = Counter(
        (row.device, row.kind, each.label, each.note)
        for row, each in zip(rows, estimates, strict=True)
        if each.basis != "calibrated"
    )
    for (device, kind, label, note), count in sorted(counts.items()):
        say(f"{device}, {kind}: {count:,} rows {label}{f': {note}' if note else ''}")
