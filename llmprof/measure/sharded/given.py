"""Ranks that the user's own torchrun has given: this process is one of them."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from llmprof.errors import LlmprofError
from llmprof.measure.sharded.rank import Job, RankReport, run_jobs
from llmprof.measure.sharded.started import MEETING, Reports, join_group


class Others:
    """The group that torchrun's variables describe, joined; everything here is done by all of its ranks alike.

    `at` is the step of this rank. One that takes longer than `limit_seconds` ends this process, with its stack on
    stderr; torchrun ends the others.
    """

    def __init__(self, device_type: str, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.device = join_group(device_type, limit_seconds)
        self.rank = dist.get_rank()
        self.at = MEETING

    def told_by_first(self, make: Callable[[], list[tuple[int, Job]]]) -> list[tuple[int, Job]]:
        """What `make` returns on rank 0: what fits depends on memory that is free from moment to moment.

        Its LlmprofError is raised on all ranks.
        """
        told: list[object] = [None]
        if self.rank == 0:
            try:
                told = [make()]
            except LlmprofError as error:
                told = [error]
        dist.broadcast_object_list(told, src=0)
        if isinstance(told[0], LlmprofError):
            dist.destroy_process_group()
            raise told[0]
        assert isinstance(told[0], list)
        return told[0]

    def run(self, jobs: Sequence[tuple[int, Job]], reports: Reports, progress: Callable[[str], None]) -> None:
        """Run the numbered `jobs`; on rank 0 `reports` gets what all ranks found."""

        def step(name: str, *, extra_seconds: float = 0.0) -> None:
            self.at = name
            progress(name)
            limit = self.limit_seconds + extra_seconds
            faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__ or sys.stderr)

        def deliver(number: int, report: RankReport) -> None:
            said: list[RankReport | None] | None = [None] * dist.get_world_size() if self.rank == 0 else None
            dist.gather_object(report, said, dst=0)
            for each in said or ():
                assert each is not None
                reports.setdefault(number, {})[each.rank] = each

        try:
            run_jobs(jobs, self.device, step=step, deliver=deliver)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def leave(self, code: int) -> int:
        """The exit code of rank 0, after which there is no group any more."""
        told = torch.tensor([code])
        dist.broadcast(told, src=0)
        dist.destroy_process_group()
        return int(told)
