"""What is said of ranks that ended, from what they left behind; and the one clock of all ranks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from llmprof.errors import DeviceError
from llmprof.measure.sharded.clock import SlowestRank
from llmprof.measure.sharded.started import why
from llmprof.measure.sharded.watch import Watch, ended, out_of_memory, reports

STACK = """Thread 0x00007f58 (most recent call first):
  File "/usr/lib/python3/threading.py", line 3 in wait

Thread 0x00007f59 (most recent call first):
  File "/usr/lib/torch/_ops.py", line 875 in __call__
  File "/opt/app/sharded_move.py", line 67 in make
"""
TIME_UP = f"Timeout (0:00:05)!\n{STACK}"
TOLD_TO_END = """Stack (most recent call first):
  File "/opt/app/build.py", line 12 in fill
"""


def failed(exitcode: int) -> ProcessFailure:
    return ProcessFailure(local_rank=1, pid=1, exitcode=exitcode, error_file="")


def leave(folder: Path, rank: int, *, step: str, trace: str = "", at: int | None = None, memory: bool = False) -> None:
    """Be a rank that has ended."""
    (folder / f"{rank}.step").write_text(step)
    (folder / f"{rank}.trace").write_text(trace)
    if at is not None:
        said = {"at": at, "kind": "ValueError", "message": "boom", "memory": memory}
        (folder / f"{rank}.error").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("ranks", "exitcode", "expected"),
    [
        # The other one raised, for want of the first.
        (({"step": "counting", "at": 1}, {"step": "building"}), -9, "was killed by SIGKILL (the system's out-of-memory"),
        (({"step": "counting", "at": 1}, {"step": "building"}), -11, "rank 1 of 2 was killed by SIGSEGV while building"),
        (
            ({"step": "counting", "at": 1}, {"step": "building"}),
            7,
            "rank 1 of 2 ended with exit code 7 while building: the last words",
        ),
        (
            ({"step": "counting", "trace": TOLD_TO_END}, {"step": "counting", "trace": TIME_UP, "at": 1}),
            1,
            "rank 1 of 2 did not finish a step within 5 s: rank 0 was counting, at build.py:12 in fill; "
            "rank 1 was counting, at sharded_move.py:67 in make",
        ),
        # Whom the agent sees first is not always who failed first.
        (({"step": "timing", "at": 1}, {"step": "counting", "at": 2}), 1, "rank 0 of 2 failed while timing: ValueError: boom"),
        (({"step": "timing", "at": 3}, {"step": "counting", "at": 2, "memory": True}), 1,
         "rank 1 of 2 ran out of memory while counting: ValueError: boom"),
    ],
)  # fmt: skip
def test_why(tmp_path: Path, ranks: tuple[dict[str, object], ...], exitcode: int, expected: str) -> None:
    for rank, left in enumerate(ranks):
        leave(tmp_path, rank, **left)  # type: ignore[arg-type]
    (tmp_path / "logs" / "attempt_0" / "1").mkdir(parents=True)
    (tmp_path / "logs" / "attempt_0" / "1" / "stderr.log").write_text("first\nthe last words\n")
    assert expected in why(tmp_path, 2, 1, failed(exitcode), 5.0)


def test_a_rank_that_said_nothing_was_starting(tmp_path: Path) -> None:
    found = ended(tmp_path, 3)
    assert (found.step, found.error, found.at, found.expired, found.stood) == ("starting", "", None, False, "")


def test_what_a_watch_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmprof.measure.sharded.watch.faulthandler.register", lambda *_, **__: None)
    monkeypatch.setattr("llmprof.measure.sharded.watch._HEARD_S", 0)
    watch = Watch(tmp_path, 1, 600.0)
    watch.report(4, "first")
    watch.report(4, "second")
    assert reports(tmp_path, 4, 2) == {1: "second"}
    watch.step("counting")
    with pytest.raises(DeviceError), watch():
        raise DeviceError("no such thing")
    found = ended(tmp_path, 1)
    assert (found.step, found.error, found.memory, found.expired) == ("counting", "no such thing", False, False)


def test_allocators_that_give_up() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"))
    assert not out_of_memory(RuntimeError("Connection closed by peer"))
    assert not out_of_memory(ValueError("can't allocate memory"))


def test_all_ranks_have_the_time_of_the_slowest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rank took 70 ns, and its clock stands at 1000."""

    class Own:
        name = "own"

        def sample(self, run: Callable[[], object]) -> int:
            run()
            return 40

        def now(self) -> int:
            return 5

    others = iter([0, 70, 1000])

    def reduce(x: Tensor, op: object) -> None:
        assert op == dist.ReduceOp.MAX
        x.clamp_(min=next(others))

    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", reduce)
    clock, ran = SlowestRank(Own()), list[int]()
    assert clock.sample(lambda: ran.append(1)) == 70
    assert (clock.now(), ran, clock.name) == (1000, [1], "own, the slowest of 2 ranks")
