"""`count --sram`: attention's accesses over sizes of shared memory; what may not be said beside it, and its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmprof.cli import options
from llmprof.cli.messages import bold, say
from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.predict.sram_sweep import Point, Sweep
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Execution, Workload

SramOption = Annotated[
    str | None,
    typer.Option(
        "--sram",
        metavar="LIST",
        help="Attention's memory accesses over sizes of shared memory instead, such as 48KiB,100KiB, or auto.",
    ),
]

SCHEMA_VERSION = 1
AUTO = tuple(2**power for power in range(13, 21))
"""8 KiB to 1 MiB."""

WITHOUT_EFFECT = {
    "weight_dtype": "an attention core reads no weights",
    "kv_dtype": "a core works in the activations' dtype",
    "group_size": "an attention core reads no weights",
    "logits": "its figures are of attention cores alone",
    "routing": "its figures are of attention cores alone",
    "latent": "its figures are of attention cores alone",
    "mtp": "its figures are of the main stack's attention cores",
    "memory": "its figures are of attention cores alone",
    "by": "it has a table for each kind of core",
    "explain": "its formulas are in docs/reference-tiles.md",
    "kv_engine": "nothing is cached that a kernel could read otherwise",
    "device_spec": "--sram sets the shared memory itself",
    "grouping": "it groups the leaves around attention cores",
}
"""Option -> why a sweep cannot heed it."""


def phase_beside(text: str | None, given: Mapping[str, object]) -> str:
    """The phases of a command line that has --sram `text`, if it has: prefill, of those that were asked for.

    InputError where one of the options `given`, by name, is in `WITHOUT_EFFECT`, or where decode alone was asked for.
    """
    phase = str(given["phase"])
    if text is None:
        return phase
    for name, why in WITHOUT_EFFECT.items():
        if given.get(name) not in (None, False, "eager"):
            raise InputError(f"--{name.replace('_', '-')} has no effect with --sram: {why}")
    if "prefill" not in phase:
        raise InputError(f"--sram is of prefill, but --phase is {phase}: with one query nothing is tiled over queries")
    return "prefill"


def sizes(text: str) -> tuple[int, ...]:
    """The sizes of a comma list, smallest first, or those of ``auto``; InputError where one is none."""
    if text.strip() == "auto":
        return AUTO
    found = {options.size(part, option="--sram") for part in text.split(",")}
    if 0 in found:
        raise InputError("--sram: found 0 bytes; expected a size such as 100KiB")
    return tuple(sorted(found))


def report(
    runs: Sequence[tuple[ArchSpec, Workload]], unfused: Execution, text: str, output_format: str, output: str | None
) -> None:
    """Count the accesses of every attention core over the sizes of `text`, and write the records.

    `unfused` is the reference that standard attention means. InputError where a size is none.
    """
    import sys

    from llmprof.predict.sram_sweep import sweeps
    from llmprof.report import tables
    from llmprof.report.sram_tables import sram_tables
    from llmprof.report.write import write_text

    swept = sizes(text)
    records = []
    for arch, workload in runs:
        found = sweeps(arch, workload, unfused, swept)
        if not found:
            say(f"not applicable: {arch.label} has no attention core in {workload.phase}")
        records += [_record(arch, workload, sweep, point) for sweep in found for point in sweep.points]
    match output_format:
        case "csv":
            page = tables.to_csv(records)
        case "json":
            page = tables.to_json({"schema_version": SCHEMA_VERSION, "results": records})
        case "markdown":
            page = tables.to_markdown(sram_tables(records, plots=False, encoding=None))
        case _:
            encoding = "utf-8" if output is not None else sys.stdout.encoding
            page = tables.to_text(sram_tables(records, plots=True, encoding=encoding), color=bold(output))
    write_text(page, output)


def _record(arch: ArchSpec, workload: Workload, sweep: Sweep, point: Point) -> dict[str, Any]:
    """One core at one size, in base units, of one layer and the whole batch."""
    shape = sweep.shape
    fa2_rows, fa2_keys = point.fa2_tile or (None, None)
    return {
        "name": arch.name,
        "variant": arch.variant,
        "phase": workload.phase,
        "batch": shape.batch,
        "path": sweep.path,
        "layers": sweep.layers,
        "queries": shape.queries,
        "keys": shape.keys,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "mask": f"{shape.mask.kind} {shape.mask.extent}" if shape.mask.extent else shape.mask.kind,
        "activation_dtype": workload.dtypes.activations,
        "unfused_reference": sweep.reference,
        "sram_bytes": point.sram_bytes,
        "sram_elements": point.elements,
        "theorem": point.range_note or "d <= M <= N d",
        "compulsory_bytes": sweep.compulsory_bytes,
        "standard_bytes": sweep.standard_bytes,
        "fa1_rows": point.fa1_tile[0],
        "fa1_keys": point.fa1_tile[1],
        "fa1_bytes": point.fa1_bytes,
        "fa1_constant": point.fa1_constant,
        "fa2_rows": fa2_rows,
        "fa2_keys": fa2_keys,
        "fa2_l2_to_sm_bytes": point.fa2_bytes,
        "fa2_constant": point.fa2_constant,
    }
