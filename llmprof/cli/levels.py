"""`count --device-spec`: what a device adds to records and pages. It is there with the option alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.report.count_tables import Record
    from llmprof.report.tables import Table
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Execution, Workload

    Runs = Sequence[tuple[ArchSpec, Workload]]

LEVELS = ("module", "layer")
"""What ``--by`` can break down on a device; single kernels have no place in a cache."""


def add_levels(records: Sequence[Record], runs: Runs, device: Device | None, unfused: Execution) -> None:
    """Give every record its bytes by level on `device`; nothing where none was asked for."""
    if device is None:
        return
    from llmprof.predict.levels_record import levels_record

    for record, (arch, workload) in zip(records, runs, strict=True):
        figures, reasons = levels_record(arch, workload, device, unfused)
        record.update(figures)
        record["unconfirmed"].update(reasons)


def add_breakdown(
    records: Sequence[Record], runs: Runs, by: str | None, device: Device | None, unfused: Execution
) -> None:
    """Give every record its levels by module or by layer, where both a device and such a breakdown were asked for."""
    if device is None or by not in LEVELS:
        return
    from llmprof.report.levels_breakdown import levels_breakdown

    for record, (arch, workload) in zip(records, runs, strict=True):
        record["breakdown_levels"] = levels_breakdown(arch, workload, by, device, unfused)


def tables(
    records: Sequence[Record], runs: Runs, by: str | None, device: Device | None, unfused: Execution
) -> list[Table]:
    """The same as tables: the levels of all records, and of their modules or layers."""
    if device is None:
        return []
    from llmprof.report.levels_breakdown import levels_breakdown_table
    from llmprof.report.levels_tables import levels_tables

    found = levels_tables(records)
    if by in LEVELS:
        found += [levels_breakdown_table(arch, workload, by, device, unfused) for arch, workload in runs]
    return found
