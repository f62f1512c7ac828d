"""How long one kernel takes: of a CPU the call, of a GPU the kernel alone, replayed out of a graph.

A machine is never quite idle, and whatever else runs makes a kernel slower: on a CPU, whose threads wait for each
other, by whole slices of the scheduler. So launches that took more than twice as long as the quickest are left out, and
the median of the others counts; the quickest alone would be a luck that no pass has. There are several rounds over all
points, so that a disturbance of a second does not spoil all launches of one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from llmprof.measure.calibration.kernels import Launch, Point, Pool

ROUNDS = 3
REPLAYS = 30
WARM_UPS = 3
IN_A_GRAPH = 20
"""Launches in one graph: an event's resolution is half a microsecond, a kernel takes a few."""

Progress = Callable[[int, int], None]
"""Called with the points done and the points planned, all rounds together."""


def time_points(
    points: Sequence[Point],
    pool: Pool,
    *,
    seconds: float,
    progress: Progress | None = None,
    after_round: Callable[[], None] | None = None,
) -> list[float]:
    """Seconds of one launch of each point, within about `seconds` altogether; `after_round` takes its own time.

    Every point is launched `WARM_UPS` times and timed at least three times a round, whatever that takes.
    """
    share = seconds / ROUNDS / max(len(points), 1)
    samples: list[list[float]] = [[] for _ in points]
    with torch.no_grad():
        for turn in range(ROUNDS):
            for index, point in enumerate(points):
                samples[index] += _of_point(point, pool, share)
                if progress is not None:
                    progress(turn * len(points) + index + 1, ROUNDS * len(points))
            if after_round is not None:
                after_round()
    return [undisturbed(each) for each in samples]


def undisturbed(samples: Sequence[float]) -> float:
    """The median of the samples that took at most twice as long as the quickest."""
    quickest = min(samples)
    return median(each for each in samples if each <= 2 * quickest)


def host_seconds(device: torch.device, *, launches: int = 2000) -> float | None:
    """What the host takes to start a kernel without waiting for it; None on a CPU, where it always waits."""
    if device.type != "cuda":
        return None
    x = torch.ones(8, device=device)
    for _ in range(WARM_UPS):
        x.add_(1)
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(launches):
        x.add_(1)
    took = time.perf_counter() - began
    torch.cuda.synchronize(device)
    return took / launches


def _of_point(point: Point, pool: Pool, seconds: float) -> list[float]:
    launch, device = point.make(pool), pool.device
    for _ in range(WARM_UPS):
        launch()
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _on_gpu(launch, device) if device.type == "cuda" else _on_cpu(launch, seconds)
    finally:
        if collecting:
            gc.enable()


def _on_cpu(launch: Launch, seconds: float) -> list[float]:
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < 3 or (time.perf_counter() - began < seconds and len(samples) < 1000):
        start = time.perf_counter()
        made = launch()
        samples.append(time.perf_counter() - start)
        del made
    return samples


def _on_gpu(launch: Launch, device: torch.device) -> list[float]:
    """Replays of a graph of launches, by CUDA events."""
    with torch.cuda.device(device):
        graph: Any = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            for _ in range(IN_A_GRAPH):
                launch()
        event: Any = torch.cuda.Event
        samples: list[float] = []
        for _ in range(REPLAYS):
            start, end = event(enable_timing=True), event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            samples.append(start.elapsed_time(end) / 1e3 / IN_A_GRAPH)
        return samples
