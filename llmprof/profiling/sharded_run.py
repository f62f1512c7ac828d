"""Run the passes of sharded requests: on meta in this process, on ranks that it starts, or on those of torchrun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from llmprof.profiling.run import cut_of
from llmprof.profiling.sharded import ShardedRequest, ShardedResult
from llmprof.profiling.sharded_absorb import RankPass, absorb, absorb_counts, fail, finished, interrupt
from llmprof.profiling.sharded_fit import Place, refuse_what_cannot_be_spread, refuse_what_does_not_fit
from llmprof.profiling.sharded_rows import without_kernel

if TYPE_CHECKING:
    from llmprof.measure.sharded.rank import Job

Progress = Callable[[str], None]
WITHOUT_KERNELS = (
    "op-level bytes and the peak are predicted for fused attention on a GPU, and were not looked at; with --attention "
    "fused, --device meta confirms them"
)
Pair = tuple[ShardedRequest, ShardedResult]


def preflight(pairs: Sequence[Pair], where: Place) -> list[RankPass]:
    """The passes of `pairs`, once all that can be known before anything runs is known and noted in the results.

    InputError: a degree that does not divide. DeviceError: the ranks do not fit.
    """
    for request, _ in pairs:
        refuse_what_cannot_be_spread(request)
    passes = []
    for request, result in pairs:
        incomparable = refuse_what_does_not_fit(request, where)
        depth = cut_of(request).arch.n_layers
        result.layers_run = None if depth == request.arch.n_layers else depth
        result.device, result.backend = where.kind, where.backend
        result.compared = where.kind != "meta" and request.compares
        result.asked = _asked(request, where)
        if where.note:
            result.notes.append(where.note)
        if where.kind == "cpu" or "fused" not in request.attentions:
            result.notes.append(WITHOUT_KERNELS)
        if where.kind != "meta" and not request.compares:
            result.notes.append("outputs were not compared with those of the unsharded model (--no-compare)")
        if incomparable is not None:
            result.rows += [
                without_kernel(attention, workload.phase, incomparable)
                for workload in request.workloads
                for attention in request.attentions
            ]
        compares = result.compared and incomparable is None
        passes += [
            RankPass(request=request, result=result, workload=workload, compares=compares)
            for workload in request.workloads
        ]
    return passes


def _asked(request: ShardedRequest, where: Place) -> tuple[int, ...]:
    """The ranks that have to report: on meta the first of each stage, whose replicas and peers do the same."""
    s = request.sharding
    if where.kind != "meta":
        return tuple(range(s.ranks))
    each = s.ranks // s.data_parallel // s.pipeline_parallel
    return tuple(stage * each for stage in range(s.pipeline_parallel))


def run_on_meta(passes: Sequence[RankPass], progress: Progress) -> None:
    """Count every pass on tensors without values. KeyboardInterrupt is kept in the results that it cut short."""
    from llmprof.measure.sharded.account import accounts_on_meta

    for index, each in enumerate(passes):
        request, result = each.request, each.result
        cut = cut_of(request)
        progress(f"{request.arch.label}: {each.workload.phase} on {request.sharding.ranks:,} ranks, on meta")
        try:
            accounts = accounts_on_meta(cut.arch, each.workload, request.sharding)
        except KeyboardInterrupt:
            interrupt(passes[index:])
            return
        by_rank = dict(zip(result.asked, accounts, strict=True))
        fused = result.asked if "fused" in request.attentions else ()
        absorb_counts(each, by_rank, where="one rank of each stage, on meta", fused_kernels=fused)
        result.heard = result.asked


def run_on_started(passes: Sequence[RankPass], where: Place, progress: Progress) -> None:
    """Start ranks for all passes at once; again for the other models where one of them made a rank fail."""
    from llmprof.measure.sharded.started import run_on_started as start

    todo = list(enumerate(passes))
    jobs = dict(jobs_of(passes, where))
    while todo:
        first = todo[0][1].request
        outcome = start(
            [(number, jobs[number]) for number, _ in todo],
            ranks=first.sharding.ranks,
            device_type=where.kind,
            limit_seconds=first.limit_seconds,
            progress=progress,
        )
        for number, each in todo:
            absorb(each, outcome.reports[number], where)
        ranks = range(first.sharding.ranks)
        unfinished = [each for number, each in todo if not finished(outcome.reports[number], ranks)]
        if outcome.interrupted:
            interrupt(unfinished)
        if outcome.interrupted or outcome.failure is None:
            return
        # Ranks that never met will not meet for another model either.
        culprits = unfinished[:1] if outcome.met else unfinished
        for each in culprits or [todo[-1][1]]:
            fail(each.result, outcome.failure)
        todo = [(n, each) for n, each in todo if each in unfinished and each.result.failure is None]


def jobs_of(passes: Sequence[RankPass], where: Place) -> list[tuple[int, Job]]:
    """What every rank does, by the number of the pass."""
    from llmprof.measure.sharded.rank import Job

    kernels: Literal["cpu", "cuda"] = "cpu" if where.kind == "cpu" else "cuda"
    return [
        (
            number,
            Job(
                arch=cut_of(each.request).arch,
                workload=each.workload,
                sharding=each.request.sharding,
                executions=tuple((name, each.request.execution(name, kernels)) for name in each.request.attentions),
                seed=each.request.seed,
                seconds=each.request.time_seconds,
                compares=each.compares,
            ),
        )
        for number, each in enumerate(passes)
    ]
