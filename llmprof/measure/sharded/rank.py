"""What one rank of a sharded pass does: build its part, count it, time it, and compare it with the unsharded twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from llmprof.measure.eviction import Evictor
from llmprof.measure.sharded.account import count, mesh_of
from llmprof.measure.sharded.clock import SlowestRank
from llmprof.measure.sharded.compare import Difference, differences
from llmprof.measure.time import Timing, clock_for, measure_time
from llmprof.sharding import Sharding, StageAccount
from llmprof.spec.arch import ArchSpec
from llmprof.twin.core import NoFusedKernel
from llmprof.twin.session import Session
from llmprof.twin.sharded import build_sharded
from llmprof.workload import Execution, Workload

WARM_ALONE = Evictor(
    evict=lambda: None,
    nbytes=0,
    reason="whether a rank may empty its cache depends on its free memory, and all must agree",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One pass of one model, on all ranks. `executions` by the name of their attention; `seconds`: to time each, if at
    all; `compares`: with the unsharded twin."""

    arch: ArchSpec
    workload: Workload
    sharding: Sharding
    executions: tuple[tuple[str, Execution], ...]
    seed: int
    seconds: float | None
    compares: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RankReport:
    """What one rank has found of one job so far, by the name of the attention.

    `refused` says which attention no kernel runs, and why. `finished`: there is nothing more to come.
    """

    rank: int
    accounts: tuple[tuple[str, StageAccount], ...] = ()
    kernels: tuple[tuple[str, str], ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    timings: tuple[tuple[str, Timing], ...] = ()
    differences: tuple[tuple[str, tuple[Difference, ...]], ...] = ()
    finished: bool = False


class Step(Protocol):
    """Told before everything that may take long; `extra_seconds` are beyond what any step may take."""

    def __call__(self, name: str, *, extra_seconds: float = 0.0) -> None: ...


def run_jobs(
    jobs: Sequence[tuple[int, Job]],
    device: torch.device,
    *,
    step: Step,
    deliver: Callable[[int, RankReport], None],
) -> None:
    """Run the numbered `jobs` as the rank that this process is in its group, and `deliver` each report as it grows.

    All jobs are spread in the same way. Every rank delivers equally often.
    """
    mesh: DeviceMesh | None = None
    for number, job in jobs:
        mesh = mesh_of(job.sharding, device.type) if mesh is None else mesh
        for report in _found(job, mesh, device, step):
            deliver(number, report)


def _found(job: Job, mesh: DeviceMesh, device: torch.device, step: Step) -> Iterator[RankReport]:
    what = f"{job.arch.label}, {job.workload.phase}"
    report = RankReport(rank=dist.get_rank())
    step(f"building {what}")
    twin, mine = build_sharded(job.arch, job.workload, job.sharding, mesh, device=device, seed=job.seed)
    sessions: dict[str, Session] = {}
    refused: dict[str, str] = {}
    accounts: dict[str, StageAccount] = {}
    for name, execution in job.executions:
        step(f"counting {what}, {name} attention")
        try:
            sessions[name] = Session(twin, mine, execution, seed=job.seed)
        except NoFusedKernel as reason:
            refused[name] = str(reason)
            continue
        accounts[name], _ = count(sessions[name], mesh, job.sharding)
    report = replace(
        report,
        accounts=tuple(accounts.items()),
        kernels=tuple((name, ", ".join(sorted(set(each.kernels.values())))) for name, each in sessions.items()),
        refused=tuple(refused.items()),
    )
    yield report
    if job.compares:
        step(f"comparing {what} with the unsharded model")
        executions = {name: execution for name, execution in job.executions if name in sessions}
        found = differences(
            job.arch, job.workload, job.sharding, mesh, executions=executions, device=device, seed=job.seed
        )
        report = replace(report, differences=tuple(found.items()))
        yield report
    if job.seconds is not None:
        for name, session in sessions.items():
            # The budget may be passed twice over where passes are slow.
            step(f"timing {what}, {name} attention", extra_seconds=2 * job.seconds)
            clock = SlowestRank(clock_for(device))
            timing = measure_time(
                session.run, session.restore, device, max_seconds=job.seconds, clock=clock, flush=WARM_ALONE
            )
            report = replace(report, timings=(*report.timings, (name, timing)))
            yield report
    yield replace(report, finished=True)
