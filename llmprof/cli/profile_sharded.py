"""`profile --tensor-parallel` and the degrees beside it: the options, what they cannot mean, and the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from llmprof.cli import messages, options
from llmprof.cli.messages import bold
from llmprof.cli.profile_plan import group_workloads
from llmprof.cli.profile_report import exit_code, to_json
from llmprof.cli.sharding import parse_sharding
from llmprof.errors import InputError
from llmprof.paths import spans
from llmprof.sharding_stages import text_of

if TYPE_CHECKING:
    from llmprof.profiling import Attention
    from llmprof.profiling.sharded import ShardedRequest, ShardedResult
    from llmprof.profiling.sharded_rows import RankRow
    from llmprof.sharding import Sharding
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import UnfusedReference, Workload

TensorParallelOption = Annotated[
    str | None,
    typer.Option(
        "--tensor-parallel",
        "--tp",
        metavar="N",
        help="Spread the model over ranks of torch.distributed, N of which share heads and matrices. Default: 1.",
    ),
]
CompareOption = Annotated[
    bool | None,
    typer.Option(
        "--compare/--no-compare",
        help="Of ranks: also run the unsharded model in fp32 on each, and compare outputs and caches. Default: do.",
    ),
]
RankTimeoutOption = Annotated[
    str | None,
    typer.Option(
        "--rank-timeout",
        metavar="TIME",
        help="Of ranks: how long one step of one may take before all are ended. Default: 600s.",
    ),
]
DEFAULT_TIMEOUT_S = 600.0

CSV_COLUMNS = (
    "name",
    "variant",
    "stage",
    "ranks",
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


def parse(
    degrees: Mapping[str, Any],
    *,
    training: bool,
    compare: bool | None,
    rank_timeout: str | None,
    device: str,
    one_device: Mapping[str, tuple[object, object]],
) -> Sharding | None:
    """How the passes are spread, if that was asked for; only one of several ranks goes on to say anything.

    `degrees` are those of `parse_sharding`, `one_device` other options with what they are and their defaults.
    InputError names the option that is wrong or has no effect.
    """
    asked = [name for name, value in degrees.items() if value not in (None, False)]
    if asked and training:
        raise InputError(
            f"--{asked[0].replace('_', '-')} has no effect: passes of inference alone are spread over ranks"
        )
    if not asked:
        for option, value in (("--compare", compare), ("--rank-timeout", rank_timeout)):
            if value is not None:
                raise InputError(f"{option} has no effect: it is of ranks; add --tensor-parallel N, or leave it out")
        return None
    for option, (said, default) in one_device.items():
        if said not in (None, default):
            raise InputError(f"{option} has no effect on a pass that is spread over ranks: it is of one device")
    sharding = parse_sharding(
        **degrees, training=False, kv_engine=None, beside={"memory": None, "device_spec": None, "sram": None}
    )
    assert sharding is not None
    from llmprof.profiling.sharded_given import given_rank, refuse_other_world

    given = given_rank()
    if given is not None:
        if given.rank:
            messages.be_silent()
        refuse_other_world(given, sharding, device)
    return sharding


def run(
    runs: Sequence[tuple[ArchSpec, list[Workload], list[str]]],
    sharding: Sharding,
    *,
    attentions: tuple[Attention, ...],
    reference: UnfusedReference,
    device: str,
    layers: int | None,
    seed: int,
    seconds: float | None,
    compare: bool | None,
    rank_timeout: str | None,
    output_format: str,
    output: str | None,
) -> NoReturn:
    """Run the workloads of every architecture on ranks, report them, and exit."""
    from llmprof.profiling.sharded import ShardedRequest, ShardedResult
    from llmprof.profiling.sharded_fit import place
    from llmprof.profiling.sharded_given import OwnFailure, given_rank, run_on_given
    from llmprof.profiling.sharded_run import preflight, run_on_meta, run_on_started

    limit = DEFAULT_TIMEOUT_S if rank_timeout is None else options.seconds(rank_timeout, option="--rank-timeout")
    if not limit:
        raise InputError("--rank-timeout: found 0; expected a time above 0")
    pairs: list[tuple[ShardedRequest, ShardedResult]] = []
    results: list[ShardedResult] = []
    for arch, workloads, skipped in runs:
        if output_format == "csv":  # its rows have no place for this; the other formats say it themselves
            for reason in skipped:
                messages.say(f"not applicable: {reason}")
        for group in group_workloads(workloads):
            request = ShardedRequest(
                arch=arch,
                workloads=group,
                attentions=attentions,
                device=device,
                layers=layers,
                seed=seed,
                time_seconds=seconds,
                referees=False,
                reference=reference,
                sharding=sharding,
                compares=compare is not False,
                limit_seconds=limit,
            )
            results.append(
                ShardedResult(
                    arch=arch, sharding=sharding, workloads=group, attentions=attentions, not_applicable=skipped
                )
            )
            pairs.append((request, results[-1]))
        if not workloads:
            results.append(ShardedResult(arch=arch, sharding=sharding, not_applicable=skipped))

    def conclude() -> int:
        for result in results:
            if result.failure is not None:
                messages.say(f"error: {result.arch.label}: {result.failure}")
        report(results, device, output_format, output)
        return exit_code(results)

    given = given_rank()
    where = place(device, sharding.ranks if given is None else given.here)
    if given is not None and pairs:
        try:
            raise typer.Exit(run_on_given(pairs, where, messages.progress, conclude))
        except OwnFailure:
            messages.be_silent(False)  # what this rank failed of, no other says
            raise
    passes = preflight(pairs, where)
    if where.kind == "meta":
        run_on_meta(passes, messages.progress)
    elif passes:
        run_on_started(passes, where, messages.progress)
    raise typer.Exit(conclude())


def report(results: Sequence[ShardedResult], device: str, output_format: str, output: str | None) -> None:
    """Write the results where they are wanted."""
    from llmprof.report import sharded_profile_tables, tables
    from llmprof.report.write import write_text

    if output_format == "json":
        text = to_json([record(result) for result in results], device)
    elif output_format == "csv":
        flat: list[dict[str, object]] = [
            {"name": r.arch.name, "variant": r.arch.variant, **row_record(row), "ranks": spans(row.ranks)}
            for r in results
            for row in r.rows
        ]
        text = tables.to_csv(flat, CSV_COLUMNS)
    else:
        pages = [page for r in results for page in sharded_profile_tables.pages(record(r), r.rows)]
        text = tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(output))
    write_text(text, output)


def row_record(row: RankRow) -> dict[str, object]:
    """A row as the contract has it."""
    # By hand: `asdict` copies every value deeply, and a deep model has some ten thousand rows.
    return {
        **{name: getattr(row, name) for name in row.__slots__},
        "ranks": list(row.ranks),
        "verdict": row.verdict.value,
    }


def record(result: ShardedResult) -> dict[str, Any]:
    """A result as the contract has it: raw base units."""
    return {
        "name": result.arch.name,
        "variant": result.arch.variant,
        "verdict": result.verdict,
        "failed_modules": result.failed_modules,
        "missing": result.missing if result.verdict == "unconfirmed" else [],
        "workloads": [asdict(workload) for workload in result.workloads],
        **asdict(result.sharding),
        "pipeline_layers": text_of(result.sharding.stage_depths(result.arch.n_layers)),
        "ranks": result.sharding.ranks,
        "ranks_heard": list(result.heard),
        "device": result.device,
        "backend": result.backend,
        "attentions": list(result.attentions),
        "n_layers": result.arch.n_layers,
        "layers_run": result.layers_run,
        "kernels": result.kernels,
        "not_applicable": result.not_applicable,
        "notes": result.notes,
        "failure": result.failure,
        "interrupted": result.interrupted,
        "rows": [row_record(row) for row in result.rows],
        "timings": result.timings,
    }
