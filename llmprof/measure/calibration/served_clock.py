"""Time served ops within a budget: the designed set in an order that has all sizes early, one kernel at a time.

A kernel is launched `WARM_UPS` times, captured into a CUDA graph with others of its own, and the graph is replayed
`REPLAYS` times; the median counts. Who stops it keeps what was timed.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, gcd
from statistics import median
from typing import Any

import torch

from llmprof.measure.calibration.served import WEIGHTS, Kind, Launch, ServedOp, ServedPoint
from llmprof.measure.device import free_bytes

WARM_UPS = 3
REPLAYS = 30
FEWEST_REPLAYS = 5
"""Of kernels so long that more would take their share of the time."""
LONG = 1.0
"""Seconds that one point may take before it is replayed less often."""
IN_A_GRAPH = 24
"""Launches of one graph, a multiple of `WEIGHTS`: an event's resolution is half a microsecond."""
PART_OF_MEMORY = 0.5
"""Of the free memory that one point's operands may take; the allocator needs room between them."""

SHARES: Mapping[Kind, float] = {"gemm": 0.4, "decode": 0.25, "prefill": 0.25, "elementwise": 0.1}
"""Of the time: what one kind leaves, the next may take."""

Timer = Callable[[ServedPoint], float]
"""Seconds of one launch. RuntimeError where the kernel cannot run, MemoryError where its operands do not fit."""

Progress = Callable[[str, int, int], None]
"""Called with what is timed, the points done and the points planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An op that was timed, in seconds of one launch."""

    op: ServedOp
    kind: Kind
    kernel: str
    seconds: float


@dataclass(slots=True)
class Timed:
    """What was timed, and how many points of each kind were not, by reason."""

    samples: list[Sample] = field(default_factory=list)
    planned: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    interrupted: bool = False


def time_served(
    points: Sequence[ServedPoint],
    timer: Timer,
    *,
    seconds: float,
    progress: Progress | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> Timed:
    """Every point within about `seconds`; what the time does not allow is counted, as what cannot run.

    Ctrl-C ends it with what there is.
    """
    found = Timed()
    kinds = [kind for kind in SHARES if any(point.kind == kind for point in points)]
    begun, share = now(), 0.0
    for kind in kinds:
        own = [point for point in points if point.kind == kind]
        found.planned[kind] = len(own)
        share += SHARES[kind] / sum(SHARES[each] for each in kinds)
        for done, point in enumerate(spread(own)):
            if found.interrupted:
                found.left_out[kind, "interrupted"] += len(own) - done
                break
            if now() - begun > seconds * share:
                found.left_out[kind, "no time left"] += len(own) - done
                break
            _try(point, timer, found)
            if progress is not None:
                progress(kind, done + 1, len(own))
    return found


def _try(point: ServedPoint, timer: Timer, found: Timed) -> None:
    try:
        taken = timer(point)
    except KeyboardInterrupt:
        found.interrupted = True
        found.left_out[point.kind, "interrupted"] += 1
    except (torch.cuda.OutOfMemoryError, MemoryError):
        found.left_out[point.kind, "no memory left"] += 1
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["cannot run"])[0][:100]
        found.left_out[point.kind, reason] += 1
    else:
        found.samples.append(Sample(op=point.op, kind=point.kind, kernel=point.kernel, seconds=taken))


def spread(points: Sequence[ServedPoint]) -> list[ServedPoint]:
    """All points, so that the first few are of all sizes: in steps of about the golden section of their number."""
    count = len(points)
    step = max(1, round(count * 0.6180339887))
    while gcd(step, count) > 1:
        step += 1
    return [points[index * step % count] for index in range(count)]


class GraphTimer:
    """Times points on one GPU, each with operands of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, point: ServedPoint) -> float:
        free = free_bytes(self.device)
        if free is not None and point.needs_bytes > PART_OF_MEMORY * free:
            raise MemoryError
        collecting = gc.isenabled()
        gc.disable()
        try:
            with torch.no_grad(), torch.cuda.device(self.device):
                return self._time(point.make(self.device))
        finally:
            if collecting:
                gc.enable()

    def _time(self, launch: Launch) -> float:
        event: Any = torch.cuda.Event

        def clocked(run: Callable[[], object]) -> float:
            start, end = event(enable_timing=True), event(enable_timing=True)
            start.record()
            run()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3

        for _ in range(WARM_UPS):
            once = clocked(launch)
        inside, replays = plan(once)
        graph: Any = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            for _ in range(inside):
                launch()
        clocked(graph.replay)  # the first replay uploads the graph
        return median(clocked(graph.replay) for _ in range(replays)) / inside


def plan(once: float) -> tuple[int, int]:
    """(launches in a graph, replays) of a kernel that took `once` seconds when it was launched alone."""
    inside = IN_A_GRAPH if once * IN_A_GRAPH * REPLAYS <= LONG else WEIGHTS
    if once * WEIGHTS * FEWEST_REPLAYS > LONG:
        inside = 1  # so long a kernel finds nothing of its last launch in a cache
    replays = min(REPLAYS, max(FEWEST_REPLAYS, ceil(LONG / (once * inside)))) if once > 0 else REPLAYS
    return inside, replays


def graph_seconds(device: torch.device, *, launches: int = 400, replays: int = 20) -> tuple[float, float]:
    """(host seconds to replay a graph of one kernel, device seconds of each further kernel in it)."""
    x = torch.ones(8, device=device)
    with torch.no_grad(), torch.cuda.device(device):
        short, long = (_captured(x, count) for count in (1, launches))
        hosts, ones, many = [], [], []
        for _ in range(replays):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            short.replay()
            hosts.append(time.perf_counter() - begun)
            torch.cuda.synchronize()
            ones.append(_replayed(short))
            many.append(_replayed(long))
    return median(hosts), max(0.0, (median(many) - median(ones)) / (launches - 1))


def _captured(x: torch.Tensor, count: int) -> Any:
    for _ in range(WARM_UPS):
        x.add_(1)
    torch.cuda.synchronize()
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(count):
            x.add_(1)
    graph.replay()
    torch.cuda.synchronize()
    return graph


def _replayed(graph: Any) -> float:
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def kernel_names(point: ServedPoint, device: torch.device) -> tuple[str, ...]:
    """The kernels that the device ran for one launch, in order, as CUPTI names them; none where it does not say."""
    from torch.profiler import ProfilerActivity, profile

    with torch.no_grad(), torch.cuda.device(device):
        launch = point.make(device)
        launch()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            launch()
            torch.cuda.synchronize()
    events = [each for each in seen.events() or () if str(each.device_type).endswith("CUDA")]
    return tuple(dict.fromkeys(str(each.name)[:120] for each in events))
