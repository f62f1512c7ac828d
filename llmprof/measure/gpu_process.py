"""A command as a process of its own with a limit of time, and what it says without the paths of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a process left: `returncode` is None where it was stopped for time."""

    returncode: int | None
    stdout: str
    stderr: str


Runner = Callable[[Sequence[str], float], Completed]
"""Runs this Python with arguments, for at most so many seconds."""


def run_python(arguments: Sequence[str], limit_seconds: float) -> Completed:
    """Run this Python: `run_command`."""
    return run_command((sys.executable, *arguments), limit_seconds)


def run_command(command: Sequence[str], limit_seconds: float) -> Completed:
    """Run `command` in a process group of its own; at the limit, and on Ctrl-C, the whole group is stopped.

    Its messages and its numbers are those of the locale C, and a Python in it finds this llmprof.
    """
    search = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": search, "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        _stop(process)
        stdout, stderr = process.communicate()
        return Completed(returncode=None, stdout=stdout, stderr=stderr)
    except BaseException:
        _stop(process)
        process.communicate()
        raise
    return Completed(returncode=process.returncode, stdout=stdout, stderr=stderr)


def _stop(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended by itself meanwhile
            os.killpg(process.pid, signal.SIGKILL)


def redact(text: str) -> str:
    """`text` without the paths of this machine, which say whose it is."""
    places = {REPOSITORY: "<repository>", Path(sys.prefix): "<python>", Path.home(): "<home>"}
    for path, name in sorted(places.items(), key=lambda place: -len(str(place[0]))):  # an inner place first
        if len(path.parts) > 1:
            text = text.replace(str(path), name)
    return text
