"""Ranks of `profile --tensor-parallel` that do not do what they should. They are started in place of `_be_rank`.

None of them counts on how quick the other is: before something happens here, the other has got as far as it will.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from torch import nn

from llmprof.measure.sharded import started, watch
from llmprof.measure.sharded.rank import Job
from llmprof.measure.sharded.watch import Watch, ended
from llmprof.twin import sharded_parts, sharded_styles

Jobs = Sequence[tuple[int, Job]]


def wrong_part_then_killed(folder: Path, jobs: Jobs, device_type: str, limit_seconds: float) -> None:
    """Rank 1 has the rows of rank 0, and is killed when it has to count the second job."""
    with _patience() as patch:
        if os.environ["RANK"] == "1":
            patch.setattr(sharded_styles, "keep_rows", _first_rows)
            _at(patch, "counting learned", lambda: os.kill(os.getpid(), signal.SIGKILL))
        started._be_rank(folder, jobs, device_type, limit_seconds)


def interrupting(folder: Path, jobs: Jobs, device_type: str, limit_seconds: float) -> None:
    """Somebody presses Ctrl-C when the second job is counted, which rank 1 never ends."""

    def interrupt() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        assert parent.pid is not None
        (folder.parent / f"{folder.name}.pid").write_text(str(os.getpid()))
        os.kill(parent.pid, signal.SIGINT)
        time.sleep(600)

    with _patience() as patch:
        if os.environ["RANK"] == "1":
            _at(patch, "counting learned", interrupt)
        started._be_rank(folder, jobs, device_type, limit_seconds)


def hanging(folder: Path, jobs: Jobs, device_type: str, limit_seconds: float) -> None:
    """Rank 1 does not get on, and has less time for it than the others."""
    with _patience() as patch:
        if os.environ["RANK"] == "1":
            patch.setattr(started, "Watch", _Sleepy)
        started._be_rank(folder, jobs, device_type, limit_seconds)


@contextlib.contextmanager
def _patience() -> Iterator[pytest.MonkeyPatch]:
    """One rank fails, and so does the other for want of it, which must not be seen to end first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "_HEARD_S", 60)
        yield patch


class _Sleepy(Watch):
    def step(self, name: str, *, extra_seconds: float = 0.0) -> None:
        if name.startswith("counting"):
            _wait_until(lambda: ended(self.folder, 0).step == name)
            self.limit_seconds = 0.3
        super().step(name, extra_seconds=extra_seconds)
        if name.startswith("counting"):
            time.sleep(600)


def _first_rows(leaf: nn.Module, index: int, count: int) -> None:
    sharded_parts.keep_rows(leaf, 0, count)


def _wait_until(true: Callable[[], bool]) -> None:
    """Whoever waits in vain is ended by the clock of its step."""
    while not true():
        time.sleep(0.02)


def _at(patch: pytest.MonkeyPatch, step: str, do: Callable[[], None]) -> None:
    """Do something at the first step whose name begins so, once the other rank is there and has reported before."""

    class Faulty(Watch):
        def step(self, name: str, *, extra_seconds: float = 0.0) -> None:
            super().step(name, extra_seconds=extra_seconds)
            if name.startswith(step):
                _wait_until(lambda: ended(self.folder, 0).step == name)
                do()

    patch.setattr(started, "Watch", Faulty)
