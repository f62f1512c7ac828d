"""A command as a process of its own with a limit of time, and what it says without the paths of this machine.

What runs so may run a further command so (a part of a GPU session runs a profiler, which runs a pass). When the outer
one is stopped nothing of the inner one is left on the GPU; and an inner one is stopped so early that the process around
it can still do something else in the time that it was given.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

_UNTIL = "LLMPROF_STOPPED_AT"
"""The variable that tells a process when it will be stopped: seconds since the epoch."""
_SHARE = 0.7
"""Of the time that is left to a process, what a command within it may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a process left: `returncode` is None where it was stopped for time, after `limit_seconds`."""

    returncode: int | None
    stdout: str
    stderr: str
    limit_seconds: float | None = None


Runner = Callable[[Sequence[str], float], Completed]
"""Runs this Python with arguments, for at most so many seconds."""


def run_python(arguments: Sequence[str], limit_seconds: float) -> Completed:
    """Run this Python: `run_command`."""
    return run_command((sys.executable, *arguments), limit_seconds)


def run_command(command: Sequence[str], limit_seconds: float) -> Completed:
    """Run `command` in a process group of its own; at the limit, and on Ctrl-C, it is stopped with all that it started.

    Its messages and its numbers are those of the locale C, and a Python in it finds this llmprof. Within a command that
    has a limit itself the limit is at most 70% of what is left of that.
    """
    limit_seconds = _within(limit_seconds)
    search = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={
            **os.environ,
            "PYTHONPATH": search,
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
            _UNTIL: f"{time.time() + limit_seconds:.3f}",
        },
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        _stop(process)
        stdout, stderr = process.communicate()
        return Completed(returncode=None, stdout=stdout, stderr=stderr, limit_seconds=limit_seconds)
    except BaseException:
        _stop(process)
        process.communicate()
        raise
    return Completed(returncode=process.returncode, stdout=stdout, stderr=stderr)


def _within(limit_seconds: float) -> float:
    """The limit, or the share of what is left to the process around it."""
    until = os.environ.get(_UNTIL)
    return limit_seconds if until is None else min(limit_seconds, max(_SHARE * (float(until) - time.time()), 1.0))


def _stop(process: subprocess.Popen[str]) -> None:
    """Stop a process and what it started, in whatever process group; where nothing says what that is, its own group."""
    if sys.platform == "win32":
        process.kill()
    else:
        for group in _groups(process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended by itself meanwhile
                os.killpg(group, signal.SIGKILL)


def _groups(leader: int, processes: Path = Path("/proc")) -> set[int]:
    """The process groups of `leader` and of every process below it, never our own."""
    parents: dict[int, tuple[int, int]] = {}
    for stat in processes.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
            # "pid (name) state parent group ..", where the name may hold anything
            _, parent, group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(parent), int(group)
    below = {leader}
    while more := {pid for pid, (parent, _) in parents.items() if parent in below} - below:
        below |= more
    return {leader, *(parents[pid][1] for pid in below & parents.keys())} - {os.getpgrp()}


def redact(text: str) -> str:
    """`text` without the paths of this machine, which say whose it is."""
    places = {REPOSITORY: "<repository>", Path(sys.prefix): "<python>", Path.home(): "<home>"}
    for path, name in sorted(places.items(), key=lambda place: -len(str(place[0]))):  # an inner place first
        if len(path.parts) > 1:
            text = text.replace(str(path), name)
    return text
