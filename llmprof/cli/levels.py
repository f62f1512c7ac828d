"""`count --device-spec`: what a device adds to records and pages. It is there with the option alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.report.count_tables import Record
    from llmprof.report.tables import Table
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Execution, Workload

    Runs = Sequence[tuple[ArchSpec, Workload]]

DeviceSpecOption = Annotated[
    str | None,
    typer.Option(
        "--device-spec",
        metavar="NAME",
        help="Also bytes by level on an accelerator such as h200: compulsory, DRAM, L2 to SM, shared memory.",
    ),
]

LEVELS = ("module", "layer")
"""What ``--by`` can break down on a device; single kernels have no place in a cache."""


def parse_device(name: str | None) -> Device | None:
    """The accelerator of that name, if one was asked for.

    Raises InputError naming the option for a name that is not known, or a device whose last-level cache is not.
    """
    if name is None:
        return None
    from llmprof.device import find
    from llmprof.errors import InputError
    from llmprof.predict.levels import without_cache

    try:
        device = find(name)
    except InputError as error:
        raise InputError(f"--device-spec: {error}") from None
    if device.last_level_cache is None:
        raise InputError(f"--device-spec: {without_cache(device)}")
    return device


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
