"""Passes on the ranks of the user's own `torchrun`: every process of it runs the command, and the first one reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmprof.errors import DeviceError, InputError, LlmprofError
from llmprof.profiling.sharded_absorb import RankPass, absorb, fail, finished, interrupt
from llmprof.profiling.sharded_fit import Place
from llmprof.profiling.sharded_run import Pair, Progress, jobs_of, preflight
from llmprof.sharding import Sharding

if TYPE_CHECKING:
    from llmprof.measure.sharded.rank import Job
    from llmprof.measure.sharded.started import Reports

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class OwnFailure(DeviceError):
    """What this rank alone failed of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The rank that this process is, of `world` ones, `here` of them on this machine."""

    rank: int
    world: int
    here: int


def given_rank() -> Given | None:
    """What torchrun's variables say of this process; None where they are not all set. InputError for no numbers."""
    if not all(os.environ.get(name) for name in _VARIABLES):
        return None
    try:
        world = int(os.environ["WORLD_SIZE"])
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        return Given(rank=int(os.environ["RANK"]), world=world, here=here)
    except ValueError as error:
        raise InputError(f"RANK, WORLD_SIZE or LOCAL_WORLD_SIZE of the environment is no number: {error}") from None


def refuse_other_world(given: Given, sharding: Sharding, device: str) -> None:
    """InputError where the ranks that there are, are not those that were asked for."""
    if given.world != sharding.ranks:
        raise InputError(
            f"torchrun started {given.world} ranks, and these degrees need {sharding.ranks}; start as many (with "
            f"--nproc-per-node {sharding.ranks} on one machine), or run without torchrun and its variables (RANK, "
            "WORLD_SIZE ..): llmprof starts them itself"
        )
    if device.strip().lower() == "meta":
        raise InputError("--device meta counts in one process; run it without torchrun")


def run_on_given(pairs: Sequence[Pair], where: Place, progress: Progress, conclude: Callable[[], int]) -> int:
    """Run all passes as one rank of those given, and return the exit code: of rank 0 what `conclude` returns there.

    On rank 0 the results are filled, also where the others were lost or the user stopped it. Elsewhere OwnFailure says
    what this rank failed of. Any other LlmprofError is raised on all ranks.
    """
    from llmprof.measure.sharded.given import Others

    first = pairs[0][0]
    passes: list[RankPass] = []
    reports: Reports = {}

    def jobs() -> list[tuple[int, Job]]:
        passes.extend(preflight(pairs, where))
        return jobs_of(passes, where)

    others = Others(where.kind, first.limit_seconds)
    todo = others.told_by_first(jobs)
    failed: Exception | KeyboardInterrupt | None = None
    try:
        others.run(todo, reports, progress)
    except (Exception, KeyboardInterrupt) as error:
        failed = error
    code = 0
    if others.rank == 0:
        _conclude(passes, reports, where, failed, others.at)
        code = conclude()
    if failed is None:
        return others.leave(code)
    if others.rank == 0:
        return code
    if isinstance(failed, KeyboardInterrupt):
        raise failed
    kind = "" if isinstance(failed, LlmprofError) else f"{type(failed).__name__}: "
    ranks = first.sharding.ranks
    raise OwnFailure(f"rank {others.rank} of {ranks} failed while {others.at}: {kind}{failed}") from failed


def _conclude(
    passes: Sequence[RankPass], reports: Reports, where: Place, failed: Exception | KeyboardInterrupt | None, at: str
) -> None:
    """Fill the results of all passes, and note what cut them short; `at`: the step of rank 0."""
    for number, each in enumerate(passes):
        absorb(each, reports.get(number, {}), where)
    ranks = range(passes[0].request.sharding.ranks)
    open_ = [each for number, each in enumerate(passes) if not finished(reports.get(number, {}), ranks)]
    if isinstance(failed, KeyboardInterrupt):
        interrupt(open_)
    elif failed is not None:
        for each in open_:
            fail(each.result, f"rank 0 failed while {at}: {type(failed).__name__}: {failed}")
