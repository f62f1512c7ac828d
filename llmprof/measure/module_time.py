"""How long each module of a pass takes: where the time of a whole pass went, that a prediction missed.

Clocks stand at both ends of every leaf and cost some time themselves, so that leaves add up to more than the pass that
was timed without them: they say which leaf is dear, not what the pass takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from llmprof.measure.calibration.clock import undisturbed
from llmprof.twin.session import Session

PASSES = 5


def module_seconds(
    session: Session, device: torch.device, *, passes: int = PASSES, seconds: float = 0.0
) -> dict[str, float]:
    """Seconds of every leaf by its path, all its calls of a pass together: the middle of those that nothing disturbed.

    There are `passes` passes, and more where these take less than `seconds`.
    """
    samples: dict[str, list[float]] = {}
    marks: list[tuple[str, Any, Any]] = []
    now, between = _events(device) if device.type == "cuda" else (time.perf_counter, _difference)
    with _clocked(session, marks, now):
        began = time.perf_counter()
        ran = 0
        while ran <= passes or time.perf_counter() - began < seconds:
            session.restore()
            marks.clear()
            session.run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken: dict[str, float] = {}
            for path, start, end in marks:
                taken[path] = taken.get(path, 0.0) + between(start, end)
            ran += 1
            if ran > 1:  # the first one warms up
                for path, each in taken.items():
                    samples.setdefault(path, []).append(each)
    return {path: undisturbed(each) for path, each in samples.items()}


@contextmanager
def _clocked(session: Session, marks: list[tuple[str, Any, Any]], now: Callable[[], Any]) -> Iterator[None]:
    """Within, every call of a leaf leaves its path and the moments of its beginning and end in `marks`."""
    handles = []
    for path, leaf in session.twin.leaves:
        began: list[Any] = []

        def before(module: object, inputs: object, began: list[Any] = began) -> None:
            began.append(now())

        def after(module: object, inputs: object, output: object, path: str = path, began: list[Any] = began) -> None:
            marks.append((path, began.pop(), now()))

        handles += [leaf.register_forward_pre_hook(before), leaf.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _difference(start: float, end: float) -> float:
    return end - start


def _events(device: torch.device) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    event: Any = torch.cuda.Event

    def now() -> Any:
        made = event(enable_timing=True)
        made.record(torch.cuda.current_stream(device))
        return made

    return now, lambda start, end: float(start.elapsed_time(end)) / 1e3
