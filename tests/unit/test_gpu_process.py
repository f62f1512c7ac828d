"""Processes of a GPU session: stopped in time, with all that they started."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llmprof.measure import gpu_process
from llmprof.measure.gpu_process import run_python


def test_a_real_process_is_run_and_one_that_hangs_is_stopped_with_its_children() -> None:
    done = run_python(["-c", "import sys; print(7); print('e', file=sys.stderr); sys.exit(4)"], 60.0)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (4, "7", "e")
    # The grandchild, in a session of its own as a profiler's, holds the pipe: reading it would last a minute.
    sleep = "[sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True"
    hang = f"import subprocess, sys; subprocess.run({sleep})"
    begun = time.monotonic()
    assert run_python(["-c", hang], 1.0).returncode is None
    assert time.monotonic() - begun < 30


def test_the_groups_of_what_a_process_started(tmp_path: Path) -> None:
    """7 started 8, in a group of its own; 8 started 9, whose name is no help; 5 is a neighbour."""
    for pid, name, parent, group in ((7, "a", 1, 7), (8, "b", 7, 8), (9, "c) R 1 5 (", 8, 8), (5, "d", 1, 5)):
        (tmp_path / f"{pid}").mkdir()
        (tmp_path / f"{pid}" / "stat").write_text(f"{pid} ({name}) S {parent} {group} 7 0")
    (tmp_path / "6").mkdir()  # it ended while we looked
    assert gpu_process._groups(7, tmp_path) == {7, 8}
    assert gpu_process._groups(5, tmp_path) == {5}


def test_a_command_within_a_command_leaves_it_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 seconds, 70; of what is over, the second in which it can say so; never more than it asks for."""
    monkeypatch.delenv("LLMPROF_STOPPED_AT", raising=False)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert gpu_process._within(300.0) == 300.0
    monkeypatch.setenv("LLMPROF_STOPPED_AT", "1100.0")
    assert (gpu_process._within(300.0), gpu_process._within(20.0)) == (70.0, 20.0)
    monkeypatch.setattr(time, "time", lambda: 1200.0)
    assert gpu_process._within(300.0) == 1.0
    monkeypatch.undo()
    command = "import os, time; print(0 < float(os.environ['LLMPROF_STOPPED_AT']) - time.time() < 30)"
    assert run_python(["-c", command], 30.0).stdout == "True\n"
