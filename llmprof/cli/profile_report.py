"""`llmprof profile`: the records of its results, their text, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmprof.cli import counters
from llmprof.cli.messages import bold

if TYPE_CHECKING:
    from llmprof.ledger import Row
    from llmprof.profiling import Result
    from llmprof.profiling.sharded import ShardedResult

SCHEMA_VERSION = 1
EXIT_INTERRUPTED = 130

CSV_COLUMNS = (
    "name",
    "variant",
    "path",
    "quantity",
    "attention",
    "phase",
    "predicted",
    "measured",
    "witness",
    "verdict",
    "note",
)


def exit_code(results: Sequence[Result | ShardedResult]) -> int:
    """130 interrupted, else 1 if any result failed, else 3 if any is unconfirmed or none applies at all, else 0."""
    if any(result.interrupted for result in results):
        return EXIT_INTERRUPTED
    verdicts = {result.verdict for result in results}
    if "failed" in verdicts:
        return 1
    return 0 if "confirmed" in verdicts and "unconfirmed" not in verdicts else 3


def to_json(records: Sequence[dict[str, Any]], device: str) -> str:
    """The records with the environment in which they were made."""
    from llmprof.profiling import describe_environment
    from llmprof.report import tables

    payload: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "environment": describe_environment(device),
        "results": list(records),
    }
    return tables.to_json(payload)


def report(results: Sequence[Result], device: str, output_format: str, output: str | None) -> None:
    from llmprof.report import profile_tables, tables, training_tables
    from llmprof.report.write import write_text

    if output_format == "json":
        text = to_json([record(result) for result in results], device)
    elif output_format == "csv":
        flat: list[dict[str, object]] = [
            {"name": r.arch.name, "variant": r.arch.variant, **row}
            for r in results
            for row in (*map(row_record, r.rows), *counters.csv_rows(r))
        ]
        text = tables.to_csv(flat, CSV_COLUMNS)
    else:
        found = [(record(result), result.rows) for result in results]
        pages = [
            page
            for entry, rows in found
            for page in (training_tables if "objective" in entry else profile_tables).pages(entry, rows)
        ]
        text = tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(output))
    write_text(text, output)


def row_record(row: Row) -> dict[str, object]:
    """A row as the contract has it."""
    # By hand: `asdict` copies every value deeply, and a deep model has some ten thousand rows.
    return {**{name: getattr(row, name) for name in row.__slots__}, "verdict": row.verdict.value}


def record(result: Result) -> dict[str, Any]:
    """A result as the contract has it: raw base units."""
    from llmprof.cli.profile_objective import training_record
    from llmprof.profiling.objective import TrainingResult

    return {
        "name": result.arch.name,
        "variant": result.arch.variant,
        "verdict": result.verdict,
        "failed_modules": result.failed_modules,
        "missing": result.missing if result.verdict == "unconfirmed" else [],
        "workloads": [asdict(workload) for workload in result.workloads],
        "device": result.device,
        "attentions": list(result.attentions),
        "n_layers": result.arch.n_layers,
        "layers_run": result.layers_run,
        "kernels": result.kernels,
        "not_applicable": result.not_applicable,
        "notes": result.notes,
        "interrupted": result.interrupted,
        "rows": [row_record(row) for row in result.rows],
        "timings": result.timings,
        "comparisons": result.comparisons,
        **counters.record(result),
        **(training_record(result) if isinstance(result, TrainingResult) else {}),
    }
