"""`llmprof verify --serving FILE.csv`: predict served runs, and hold the predictions against what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmprof.cli.messages import bold, progress, say

if TYPE_CHECKING:
    from llmprof.latency.local import Local
    from llmprof.latency.serving.verify import Verified

SCHEMA_VERSION = 1
TOLD = 5
"""Up to so many lines without a prediction are told one by one; all are in the output."""


def run(path: str, output_format: str, output: str | None, local: Local) -> int:
    """Write the table of `path` with its predictions, and say how far they are off. The exit code of the command.

    The table goes to `output`, and the errors to stdout; without `output` the table goes to stdout, and the errors are
    told on stderr. The code is 2 where a row is wrong, or none could be predicted. InputError for a file that is no
    such table.
    """
    from llmprof.latency.serving import rows, verify
    from llmprof.planning.served_room import room_of
    from llmprof.report import serving_tables
    from llmprof.report.write import write_text

    runs = rows.read(path)
    serving_tables.check_columns(path, runs)
    progress(f"predicting {len(runs.rows)} served runs")
    verified = verify.predict(runs, room_of, local)
    _tell(path, verified)
    write_text(serving_tables.to_csv(verified), output)
    if output is None:
        errors = _errors(verified, "table", color=False)
        if errors:
            say("errors\n" + errors.rstrip("\n"))
    else:
        write_text(_errors(verified, output_format, color=bold(None)), None)
    return 2 if runs.problems or not verified.predicted else 0


def _errors(verified: Verified, output_format: str, *, color: bool) -> str:
    from llmprof.report import serving_tables, tables

    if output_format == "json":
        predicted, missing = len(verified.predicted), len(verified.problems)
        said = {"schema_version": SCHEMA_VERSION, "predicted": predicted, "not_predicted": missing}
        return tables.to_json({**said, "errors": serving_tables.records(verified)})
    if output_format == "csv":
        return tables.to_csv(serving_tables.records(verified), ("rows", *serving_tables.CELLS))
    page = serving_tables.error_table(verified)
    if page is None:
        return ""
    return tables.to_markdown([page]) if output_format == "markdown" else tables.to_text([page], color=color)


def _tell(path: str, verified: Verified) -> None:
    """Say which lines are not predicted or not compared, and why: each reason once, with the first of its lines."""
    for what, found in (("not predicted", verified.problems), ("not compared", verified.runs.unmeasured)):
        lines: dict[str, list[int]] = {}
        for line, problem in sorted(found.items()):
            lines.setdefault(problem, []).append(line)
        for problem, where in list(lines.items())[:TOLD]:
            others = f" and {len(where) - 1} further lines" if len(where) > 1 else ""
            say(f"{path}: line {where[0]}{others}: {what}: {problem}")
        if len(lines) > TOLD:
            say(f"{path}: {len(lines) - TOLD} further reasons of lines that are {what}")
