"""Real ranks: processes on this machine that torchrun's agent starts and watches, and that talk through gloo."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from llmprof.errors import DeviceError
from llmprof.measure.sharded.launch import launch

T = TypeVar("T")

_PATIENCE = timedelta(seconds=600)
"""With ranks that do not answer, before a rank fails."""


class RankFailed(DeviceError):
    """One of the ranks raised an error, which the message quotes; the others were ended."""


def on_ranks(ranks: int, work: Callable[..., T], *arguments: Any) -> tuple[T, ...]:
    """What `work(*arguments)` returns in each of `ranks` processes, in the order of their ranks.

    All of them are in one group on tensors of the CPU, each with a single thread. `work`, its arguments and its results
    are pickled. RankFailed: where it raised an error.
    """
    try:
        answers = launch(ranks, _in_group, work, arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise RankFailed(f"rank {rank} of {ranks} failed: {failure.message}") from error
    return tuple(answers[rank] for rank in range(ranks))


def _in_group(work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """Run `work` as one of the ranks that torchrun's environment variables describe."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        return work(*arguments)
    finally:
        dist.destroy_process_group()
