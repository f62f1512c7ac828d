"""`llmprof verify --serving FILE.csv`: predict served runs, and hold the predictions against what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmprof.cli.messages import bold, progress, say

if TYPE_CHECKING:
    from llmprof.latency.serving.verify import Verified

TOLD = 5
"""Up to so many lines without a prediction are told one by one; all are in the output."""


def run(path: str, output: str | None) -> int:
    """Write the table of `path` with its predictions, and say how far they are off. The exit code of the command.

    The table goes to `output`, and the errors to stdout; without `output` the table goes to stdout, and the errors are
    told on stderr. InputError for a file that is no such table.
    """
    from llmprof.latency.serving import rows, verify
    from llmprof.planning.served_room import room_of
    from llmprof.report import serving_tables, tables
    from llmprof.report.write import check_writable, write_text

    check_writable(output)
    runs = rows.read(path)
    serving_tables.check_columns(path, runs)
    progress(f"predicting {len(runs.rows)} served runs")
    verified = verify.predict(runs, room_of)
    _tell(path, verified)
    errors = serving_tables.error_table(verified)
    text = "" if errors is None else tables.to_text([errors], color=output is not None and bold(None))
    write_text(serving_tables.to_csv(verified), output)
    if output is None:
        for line in text.splitlines():
            say(line)
    elif text:
        write_text(text, None)
    return 0 if verified.predicted else 2


def _tell(path: str, verified: Verified) -> None:
    """Say which lines have no prediction, and why: each reason once, with the first of its lines."""
    lines: dict[str, list[int]] = {}
    for line, problem in sorted(verified.problems.items()):
        lines.setdefault(problem, []).append(line)
    for problem, where in list(lines.items())[:TOLD]:
        others = f" and {len(where) - 1} further lines" if len(where) > 1 else ""
        say(f"{path}: line {where[0]}{others}: not predicted: {problem}")
    if len(lines) > TOLD:
        say(f"{path}: {len(lines) - TOLD} further reasons are in the column pred_basis")
