"""What ranks report of a pass, as a part of its result."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmprof.predict.sharding.api import sharded_as
from llmprof.profiling.run import WITNESS, cut_of
from llmprof.profiling.sharded import ShardedRequest, ShardedResult
from llmprof.profiling.sharded_rows import Bound, account_rows, difference_rows, merged, without_kernel
from llmprof.routing import loads
from llmprof.sharding import Sharding, StageAccount
from llmprof.spec.arch import Moe
from llmprof.workload import Workload

if TYPE_CHECKING:
    from llmprof.measure.sharded.rank import RankReport
    from llmprof.measure.time import Timing
    from llmprof.profiling.sharded_fit import Place

TWIN = "the unsharded twin on every rank, fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPass:
    """One pass of a request, and whether its outputs are compared with those of the unsharded model."""

    request: ShardedRequest
    result: ShardedResult
    workload: Workload
    compares: bool


def absorb(each: RankPass, reports: Mapping[int, RankReport], where: Place) -> None:
    """Add what the ranks reported of a pass, by rank, to its result; nothing where none did."""
    result, phase = each.result, each.workload.phase
    names = dict.fromkeys(name for report in reports.values() for name, _ in report.accounts)
    for name in names:
        accounts = {rank: dict(report.accounts)[name] for rank, report in reports.items() if report.accounts}
        on = f"{len(accounts)} rank{'s' * (len(accounts) > 1)}, {where.backend}"
        fused = (name, where.kind) == ("fused", "cuda")
        kernels = _predicted_kernels(each.request.sharding, _busiest(each)) if fused else ()
        absorb_counts(each, accounts, where=on, fused_kernels=kernels)
        found = {
            rank: dict(report.differences)[name] for rank, report in reports.items() if name in dict(report.differences)
        }
        stages = {rank: account.stage for rank, account in accounts.items()}
        rows = difference_rows(found, stages, attention=name, phase=phase, witness=TWIN)
        result.rows = merged([*result.rows, *rows])
    for report in list(reports.values())[:1]:
        result.rows += [without_kernel(name, phase, reason) for name, reason in report.refused]
        result.kernels.update((f"{phase}/{name}", kernel) for name, kernel in report.kernels)
        result.timings += [_timing(each, name, timing) for name, timing in report.timings]
    heard = tuple(rank for rank, report in sorted(reports.items()) if report.finished)
    first = each.workload == result.workloads[0]
    result.heard = heard if first else tuple(rank for rank in result.heard if rank in heard)


def absorb_counts(
    each: RankPass, accounts: Mapping[int, StageAccount], *, where: str, fused_kernels: Container[int]
) -> None:
    """Add the rows of what ranks counted, who ran `where`; `fused_kernels`: as `account_rows` has it."""
    request, result = each.request, each.result
    cut = cut_of(request)
    witness = f"{WITNESS} on {where}"
    if result.layers_run is not None:
        witness += f", of {result.layers_run} of {request.arch.n_layers} layers, extrapolated"
    rows = account_rows(
        sharded_as(request.arch, each.workload, request.sharding).stages,
        accounts,
        phase=each.workload.phase,
        witness=witness,
        fused_kernels=fused_kernels,
        busiest=_busiest(each),
        stands_for=None if result.layers_run is None else cut.representative,
    )
    result.rows = merged([*result.rows, *rows])


def _busiest(each: RankPass) -> Bound:
    """Where experts of other ranks than the first of a stage get fewer tokens (docs/reference-sharding.md, section 9).

    The first block of experts has no fewer than any other.
    """
    s, w = each.request.sharding, each.workload
    tokens = w.batch * w.new_tokens // (1 if s.sends_tokens else s.data_parallel * s.context_parallel)
    paths = set()
    for index, layer in enumerate(each.request.arch.main.layers):
        if isinstance(layer.ffn, Moe):
            found = loads(w.routing, tokens, layer.ffn.top_k, layer.ffn.n_experts)
            block = len(found) // s.expert_parallel
            if len({sum(found[first : first + block]) for first in range(0, len(found), block)}) > 1:
                paths.add(f"layers.{index}.ffn.experts")
    stage = s.ranks // s.data_parallel // s.pipeline_parallel
    return Bound(paths=frozenset(paths), ranks=frozenset(range(0, stage * s.pipeline_parallel, stage)))


def _predicted_kernels(sharding: Sharding, busiest: Bound) -> list[int]:
    """The ranks whose own kernels are predicted: the first that share a sequence, the busiest where experts differ."""
    tensor, context = sharding.tensor_parallel, sharding.context_parallel
    firsts = [rank for rank in range(sharding.ranks) if rank // tensor % context == 0]
    return [rank for rank in firsts if rank in busiest.ranks] if busiest.paths else firsts


def finished(reports: Mapping[int, RankReport], ranks: Iterable[int]) -> bool:
    """Whether every rank is through with a pass."""
    return all(rank in reports and reports[rank].finished for rank in ranks)


def fail(result: ShardedResult, failure: str) -> None:
    """Note that a rank failed."""
    result.failure = failure
    result.notes.append(f"not finished: {failure}")


def interrupt(passes: Sequence[RankPass]) -> None:
    """Note in the results of `passes` that the user stopped them."""
    for each in passes:
        if not each.result.interrupted:
            each.result.interrupted = True
            each.result.notes.append("interrupted: only what all ranks had finished is reported")


def _timing(each: RankPass, attention: str, timing: Timing) -> dict[str, Any]:
    """The time of a pass on its slowest rank."""
    entry: dict[str, Any] = {
        "phase": each.workload.phase,
        "attention": attention,
        "layers_run": cut_of(each.request).arch.n_layers,
        "clock": timing.clock,
        "warm_up_runs": timing.warm_up_runs,
        "warmed_up": timing.warmed_up,
        "stable": timing.stable,
        "notes": [note for note in timing.notes if not note.startswith("cold:")],
    }
    if timing.warm is not None:
        from llmprof.measure.time import rates

        tokens = each.workload.batch * each.workload.new_tokens
        entry["warm"] = {
            **asdict(timing.warm),
            "n": timing.warm.n,
            "iqr_ns": timing.warm.iqr_ns,
            "stable": timing.warm.stable,
            "tokens_per_s": rates(timing.warm.median_ns, tokens=tokens).tokens_per_s,
        }
    return entry
