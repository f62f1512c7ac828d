"""`count --device-spec`, and `--by` beside it: what a device adds to records and pages. It is there with it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmprof.cli.detail_options import KERNEL

if TYPE_CHECKING:
    from llmprof.cli.engines import EngineAsked
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDevice:
    """A device, what the figures on it are broken down `by`, and the tokens of a page where keys lie in pages."""

    device: Device
    by: str | None
    page_tokens: int


def parse_device(name: str | None, by: str | None, engine: EngineAsked | None) -> OnDevice | None:
    """The accelerator of that name, if one was asked for; pages are those of vLLM, with its option or its default.

    Raises InputError naming the option for a name that is not known, a device whose last-level cache is not, or kernels
    of no device.
    """
    from llmprof.engines.api import DEFAULT
    from llmprof.errors import InputError

    if name is None:
        if by == KERNEL:
            raise InputError(f"--by {KERNEL} is of a device: its kernels are those of --device-spec, such as h200")
        return None
    from llmprof.device import find
    from llmprof.predict.levels import without_cache

    try:
        device = find(name)
    except InputError as error:
        raise InputError(f"--device-spec: {error}") from None
    if device.last_level_cache is None:
        raise InputError(f"--device-spec: {without_cache(device)}")
    return OnDevice(device=device, by=by, page_tokens=(DEFAULT if engine is None else engine.vllm).page_tokens)


def add_levels(records: Sequence[Record], runs: Runs, asked: OnDevice | None, unfused: Execution) -> None:
    """Give every record its bytes by level on the device; nothing where none was asked for."""
    if asked is None:
        return
    from llmprof.predict.levels_record import levels_record

    for record, (arch, workload) in zip(records, runs, strict=True):
        figures, reasons = levels_record(arch, workload, asked.device, unfused)
        record.update(figures)
        record["unconfirmed"].update(reasons)


def add_breakdown(records: Sequence[Record], runs: Runs, asked: OnDevice | None, unfused: Execution) -> None:
    """Give every record its levels by module or by layer, or its kernels, where a device and they were asked for."""
    if asked is None or asked.by not in (*LEVELS, KERNEL):
        return
    from llmprof.report.kernel_tables import UNCONFIRMED, kernel_records
    from llmprof.report.levels_breakdown import levels_breakdown

    for record, (arch, workload) in zip(records, runs, strict=True):
        if asked.by == KERNEL:
            record["kernels"] = kernel_records(arch, workload, unfused, asked.device, asked.page_tokens)
            record["unconfirmed"]["kernels"] = UNCONFIRMED
        else:
            record["breakdown_levels"] = levels_breakdown(arch, workload, asked.by, asked.device, unfused)


def tables(records: Sequence[Record], runs: Runs, asked: OnDevice | None, unfused: Execution) -> list[Table]:
    """The same as tables: the levels of all records, and of their modules or layers, or their kernels."""
    if asked is None:
        return []
    from llmprof.report.kernel_tables import kernel_tables
    from llmprof.report.levels_breakdown import levels_breakdown_table
    from llmprof.report.levels_tables import levels_tables

    found = levels_tables(records)
    for arch, workload in runs:
        if asked.by == KERNEL:
            found += kernel_tables(arch, workload, unfused, asked.device, asked.page_tokens)
        elif asked.by in LEVELS:
            found.append(levels_breakdown_table(arch, workload, asked.by, asked.device, unfused))
    return found
