"""`count --phase train`: what the steps that a command line means cost and keep, in every form of output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmprof.cli.messages import bold
from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.predict.training.sharded import Division
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked beside the figures themselves; None is nothing."""

    by: str | None
    memory_bytes: int | None
    division: Division | None


def report(
    runs: Sequence[tuple[ArchSpec, int, Workload]], confirm: str, output_format: str, output: str | None, asked: Asked
) -> bool:
    """Count the training steps and write their records; `confirm` is the command that measures them.

    Returns whether all fit in the memory that is asked about, if any: fused, as in inference. Raises InputError where a
    step has no total that could be held against it.
    """
    from llmprof.predict.objective_record import SCHEMA_VERSION, objective_record
    from llmprof.report import objective_tables, step_tables, tables
    from llmprof.report.write import write_text

    by, memory_bytes, division = asked.by, asked.memory_bytes, asked.division
    records = [objective_record(arch, text, workload, division) for arch, text, workload in runs]
    if memory_bytes is not None:
        _refuse_without_total(runs, records)
        for record in records:
            step_tables.add_fit(record, memory_bytes)
    if output_format == "csv":
        write_text(tables.to_csv(records), output)
    elif output_format == "json":
        if by is not None:
            for record, (arch, _, workload) in zip(records, runs, strict=True):
                record["breakdown"] = step_tables.breakdown_records(arch, workload, by)
        write_text(tables.to_json({"schema_version": SCHEMA_VERSION, "results": records}), output)
    else:
        pages = objective_tables.objectives(records, confirm)
        if memory_bytes is not None:
            pages.append(step_tables.memory_verdicts(records, memory_bytes))
        if division is not None:
            from llmprof.predict.training.sharded import UNCONFIRMED
            from llmprof.report.rank_table import rank_table

            pages.append(rank_table(records, UNCONFIRMED))
        if by is not None:
            pages += [step_tables.breakdown_table(arch, workload, by) for arch, _, workload in runs]
        markdown = output_format == "markdown"
        write_text(tables.to_markdown(pages) if markdown else tables.to_text(pages, color=bold(output)), output)
    return not any(record.get("fits_fused") is False for record in records)


def _refuse_without_total(runs: Sequence[tuple[ArchSpec, int, Workload]], records: Sequence[dict[str, object]]) -> None:
    """InputError naming the first spec of which no rule says what a step keeps."""
    for (arch, _, _), record in zip(runs, records, strict=True):
        unpredicted = record["unpredicted"]
        assert isinstance(unpredicted, dict)
        for reason in unpredicted.values():
            raise InputError(
                f"--memory: whether a training step of {arch.label} fits cannot be said: {reason}; leave it out"
            )
