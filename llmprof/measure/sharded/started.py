"""Ranks that this process starts for a list of jobs, what they report, and why one of them failed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from llmprof.measure.sharded.launch import launch
from llmprof.measure.sharded.rank import Job, RankReport, run_jobs
from llmprof.measure.sharded.watch import STARTING, Ended, Watch, ended, reports

Reports = dict[int, dict[int, RankReport]]
"""By the number of the job, and by rank."""

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""What tensors of each kind of device go over; what ranks agree on goes over tensors of the CPU."""

MEETING = "meeting the other ranks"
_PATIENCE_S = 60.0
"""Beyond the limit of a step, for a collective whose other side is gone without a word."""
_LOOKED_EVERY_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The last report of each rank on each job, and what cut the run short: a failure, in words, or the user.

    `met`: whether any rank got so far as to work.
    """

    reports: Reports
    met: bool
    failure: str | None = None
    interrupted: bool = False


def run_on_started(
    jobs: Sequence[tuple[int, Job]],
    *,
    ranks: int,
    device_type: str,
    limit_seconds: float,
    progress: Callable[[str], None],
) -> Outcome:
    """Start `ranks` processes for the numbered `jobs`, and return when all of them are gone again.

    A step of one rank may take `limit_seconds`.
    """
    failure, interrupted = None, False
    with tempfile.TemporaryDirectory(prefix="llmprof-ranks-") as home:
        folder = Path(home)
        try:
            with _watched(folder, progress):
                launch(ranks, _be_rank, folder, tuple(jobs), device_type, limit_seconds, logs=folder / "logs")
        except ChildFailedError as error:
            rank, failed = error.get_first_failure()
            if failed.exitcode == -signal.SIGINT:
                interrupted = True
            else:
                failure = why(folder, ranks, rank, failed, limit_seconds)
        except KeyboardInterrupt:
            interrupted = True
        found = {number: reports(folder, number, ranks) for number, _ in jobs}
        met = any(ended(folder, rank).step not in (STARTING, MEETING) for rank in range(ranks))
    return Outcome(reports=found, met=met, failure=failure, interrupted=interrupted)


def _be_rank(folder: Path, jobs: Sequence[tuple[int, Job]], device_type: str, limit_seconds: float) -> None:
    """Be one of the ranks that torchrun's variables describe."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once and quietly, also inside a collective
    _end_with_parent()
    watch = Watch(folder, int(os.environ["RANK"]), limit_seconds)
    with watch():
        watch.step(MEETING)
        share_processors(int(os.environ["LOCAL_WORLD_SIZE"]))
        device = join_group(device_type, limit_seconds)
        run_jobs(jobs, device, step=watch.step, deliver=watch.report)
        watch.step("leaving the other ranks")
        dist.destroy_process_group()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def join_group(device_type: str, limit_seconds: float) -> torch.device:
    """Meet the other ranks, and return the device of this one: on CUDA that of its number on its machine."""
    device = torch.device(device_type)
    if device_type == "cuda":
        own = int(os.environ.get("LOCAL_RANK", int(os.environ["RANK"]) % torch.cuda.device_count()))
        device = torch.device("cuda", own)
        torch.cuda.set_device(device)
    dist.init_process_group(BACKENDS[device_type], timeout=timedelta(seconds=limit_seconds + _PATIENCE_S))
    return device


def share_processors(ranks: int) -> None:
    """Take this rank's part of the processors that this process may use: the others compute at the same time."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, usable // ranks))


def why(folder: Path, ranks: int, rank: int, failed: ProcessFailure, limit_seconds: float) -> str:
    """Which rank failed and of what. `rank` is the first that the agent found dead, as `failed` has it.

    Others may have failed since, for want of the first: so one that died without a word, and a time that is up, come
    before errors, and of errors the earliest.
    """
    left = [ended(folder, each) for each in range(ranks)]
    if failed.exitcode < 0:
        killer = " (the system's out-of-memory killer does that)" if failed.exitcode == -signal.SIGKILL else ""
        return f"{_named(left[rank], ranks)} was killed by {failed.signal_name()}{killer} while {left[rank].step}"
    if left[rank].at is None and not left[rank].expired:
        last = _last_words(folder, rank)
        said = f": {last}" if last else ""
        return f"{_named(left[rank], ranks)} ended with exit code {failed.exitcode} while {left[rank].step}{said}"
    expired = [each for each in left if each.expired]
    if expired:
        late = left[rank] if left[rank].expired else expired[0]
        places = "; ".join(f"rank {each.rank} was {each.step}, at {each.stood}" for each in left if each.stood)
        return f"{_named(late, ranks)} did not finish a step within {limit_seconds:g} s: {places}"
    first = min((each for each in left if each.at is not None), key=lambda each: each.at or 0)
    told = "ran out of memory" if first.memory else "failed"
    return f"{_named(first, ranks)} {told} while {first.step}: {first.error}"


def _named(one: Ended, ranks: int) -> str:
    return f"rank {one.rank} of {ranks}"


def _last_words(folder: Path, rank: int) -> str:
    """The last line that a rank wrote to its stderr."""
    for path in folder.glob(f"logs/**/{rank}/stderr.log"):
        lines = path.read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
    return ""


@contextlib.contextmanager
def _watched(folder: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Tell `progress` what rank 0 is at, for as long as the block runs."""
    over = threading.Event()

    def look() -> None:
        told = ""
        while not over.wait(_LOOKED_EVERY_S):
            with contextlib.suppress(OSError):
                now = (folder / "0.step").read_text()
                if now != told:
                    progress(now)
                told = now

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
