"""The time of a pass that many ranks run: that of the slowest."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from llmprof.measure.time import Clock


class SlowestRank:
    """A clock of all ranks of the group at once, which says the same to each of them.

    Every rank runs the pass from a common start, the end of a reduction that all take part in, and each sample is the
    largest of their times. Since `now` is the same everywhere too, whoever decides by this clock how long to go on
    decides the same on every rank, and none is left waiting. The times go over tensors of the CPU.
    """

    def __init__(self, own: Clock) -> None:
        self.own = own
        self.name = f"{own.name}, the slowest of {dist.get_world_size()} ranks"

    def sample(self, run: Callable[[], object]) -> int:
        """Nanoseconds of the rank that took longest."""
        _largest(0)
        return _largest(self.own.sample(run))

    def now(self) -> int:
        """Nanoseconds of the rank that is latest."""
        return _largest(self.own.now())


def _largest(nanoseconds: int) -> int:
    agreed = torch.tensor([nanoseconds], dtype=torch.int64)
    dist.all_reduce(agreed, dist.ReduceOp.MAX)
    return int(agreed)
