"""What a rank leaves behind for whoever started it: the step it is at, its reports, and why it ended.

Everything is a file in one folder of this machine. A rank that does not finish a step in its time ends itself and says
where it stood; one that is ended by the agent says that too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pickle
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from llmprof.errors import LlmprofError

STARTING = "starting"
"""The step of a rank that has not said any."""
_HEARD_S = 0.5
"""How long a rank that failed stays: the agent, who looks every 0.1 s, should see first who died without a word, and
not those whom that one left waiting."""
_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')
_EXPIRED = "Timeout ("
"""What faulthandler begins its last words with."""


class Watch:
    """Of one rank, from inside: `step` before everything that may take long, `report` for what is done."""

    def __init__(self, folder: Path, rank: int, limit_seconds: float) -> None:
        self.folder = folder
        self.rank = rank
        self.limit_seconds = limit_seconds
        self._trace: TextIO = (folder / f"{rank}.trace").open("w")
        if hasattr(faulthandler, "register"):  # not on Windows
            faulthandler.register(signal.SIGTERM, file=self._trace, all_threads=False, chain=True)

    def step(self, name: str, *, extra_seconds: float = 0.0) -> None:
        """Begin what may take as long as the limit and `extra_seconds`, after which this process ends."""
        _write(self.folder / f"{self.rank}.step", name.encode())
        faulthandler.dump_traceback_later(self.limit_seconds + extra_seconds, exit=True, file=self._trace)

    def report(self, key: int, value: object) -> None:
        """Leave `value` as what is known so far of `key`."""
        _write(self.folder / f"{self.rank}.{key}.report", pickle.dumps(value))

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Around all work: an error is written down, and the clock stopped."""
        try:
            yield
        except Exception as error:
            faulthandler.cancel_dump_traceback_later()
            said = {
                "at": time.time_ns(),
                "kind": "" if isinstance(error, LlmprofError) else type(error).__name__,
                "message": str(error),
                "memory": out_of_memory(error),
            }
            _write(self.folder / f"{self.rank}.error", json.dumps(said).encode())
            time.sleep(_HEARD_S)
            raise
        faulthandler.cancel_dump_traceback_later()


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up. That of the CPU has no exception of its own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def reports(folder: Path, key: int, ranks: int) -> dict[int, Any]:
    """What the ranks left of `key`, by rank; only a folder that nobody else may write to is read."""
    found = {rank: folder / f"{rank}.{key}.report" for rank in range(ranks)}
    return {rank: pickle.loads(path.read_bytes()) for rank, path in found.items() if path.exists()}


@dataclass(frozen=True, slots=True)
class Ended:
    """How one rank ended, as far as it could say: `at` is when it failed, in ns."""

    rank: int
    step: str
    error: str
    memory: bool
    at: int | None
    expired: bool
    stood: str
    """Where its Python code stood when its time was up or it was told to end: ``file.py:12 in name``, or nothing."""


def ended(folder: Path, rank: int) -> Ended:
    """What rank `rank` left behind."""
    said: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((folder / f"{rank}.error").read_bytes())
    trace = _text(folder / f"{rank}.trace")
    # Of several threads the main one comes last; what is interesting of it is who called torch.
    frames = list(_FRAME.finditer(trace.rpartition("\nThread ")[2]))
    frame = next((found for found in frames if f"{os.sep}torch{os.sep}" not in found[1]), next(iter(frames), None))
    return Ended(
        rank=rank,
        step=_text(folder / f"{rank}.step") or STARTING,
        error=": ".join(filter(None, (said.get("kind", ""), said.get("message", "")))),
        memory=bool(said.get("memory")),
        at=said.get("at"),
        expired=trace.startswith(_EXPIRED),
        stood="" if frame is None else f"{Path(frame[1]).name}:{frame[2]} in {frame[3]}",
    )


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing: whoever reads may do so at any time."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
