"""What `count` says of its figures beside them: `--by`, `--explain`, `--memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmprof.report.count_tables import Record
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Execution, Workload

ByOption = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="LEVEL",
        help="Break the figures down by module, op or layer; with --device-spec also by kernel: attention in tiles.",
    ),
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Each figure's formula, with the numbers in it and its source.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Say whether it fits in, say, 80GiB; exit 1 where fused does not."),
]

KERNEL = "kernel"
"""The level below cores: which tiled kernels there are on a device, and what each moves."""
LEVELS = ("module", "op", "layer", KERNEL)


def of_leaves(by: str | None) -> str | None:
    """The level at which leaves and their ops are broken down, if any is."""
    return None if by == KERNEL else by


def add_details(
    records: Sequence[Record],
    runs: Sequence[tuple[ArchSpec, Workload]],
    *,
    by: str | None,
    explain: bool,
    unfused: Execution,
) -> None:
    """Give every record its breakdown and its explanation, where they were asked for."""
    if by is None and not explain:
        return
    from llmprof.report.breakdown import breakdown_records, explanation_records

    for record, (arch, workload) in zip(records, runs, strict=True):
        if by is not None:
            record["breakdown"] = breakdown_records(arch, workload, by, unfused)
        if explain:
            record["explanation"] = explanation_records(arch, workload, unfused)
