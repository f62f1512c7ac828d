"""The served ops of the GPU that is here: its points, its clock, and under which conditions they were timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmprof.latency.served_profile import Conditions
from llmprof.profiling.served_calibration import Found, Launches, Progress, calibrate_served, catalogued, figures_of
from llmprof.workload import ComputeDtype

if TYPE_CHECKING:
    import torch

    from llmprof.measure.calibration.served import ServedPoint
    from llmprof.measure.calibration.served_clock import Sample

FP8_FROM = (8, 9)
"""The compute capability from which there are fp8 products (CUDA C++ Programming Guide, "Tensor Cores", recalled)."""
REPEATED = 20
"""How often the cost of a start is measured."""
SIXTEEN_BITS = ("bf16", "fp16")


def calibrate_local(
    device: torch.device, dtypes: Sequence[ComputeDtype], *, seconds: float, progress: Progress | None = None
) -> Found:
    """Time the designed set on `device` in the 16-bit formats among `dtypes`, and fit what can be fitted.

    On a device that it cannot be done on, the notes say why.
    """
    import torch as framework

    known = catalogued(device)
    if isinstance(known, str):
        return Found(notes=[known])
    formats = [dtype for dtype in dtypes if dtype in SIXTEEN_BITS]
    if not formats:
        return Found(notes=["served ops are timed in bf16 or fp16; --dtype has neither"])
    properties: Any = framework.cuda.get_device_properties(device)
    figures = figures_of(known, properties)
    if isinstance(figures, str):
        return Found(notes=[figures])
    from llmprof.measure.calibration.served_clock import GraphTimer

    watched = _Watched(device, GraphTimer(device), properties)
    points = _points(formats, fp8=(properties.major, properties.minor) >= FP8_FROM and figures.fp8 is not None)
    return calibrate_served(
        known,
        figures,
        points,
        watched,
        seconds=seconds,
        launches=lambda: _launches(device),
        collectives=lambda: _collectives(device),
        conditions=lambda: watched.conditions(points),
        progress=progress,
    )


def _points(formats: Sequence[str], *, fp8: bool) -> list[ServedPoint]:
    """Everything in the first format, and products in the others."""
    import torch as framework

    from llmprof.measure.calibration import served

    kinds: dict[str, framework.dtype] = {"bf16": framework.bfloat16, "fp16": framework.float16}
    first, *others = (kinds[each] for each in formats)
    return [*served.points(first, fp8=fp8), *(point for other in others for point in served.products(other))]


class _Watched:
    """A timer that reads the clock and the power of the GPU now and then, while it is busy or has just been."""

    EVERY = 8

    def __init__(self, device: torch.device, timer: Any, properties: Any) -> None:
        self._device, self._timer, self._properties = device, timer, properties
        self._count = 0
        self._readings: list[dict[str, Any]] = []

    def __call__(self, point: ServedPoint) -> float:
        seconds = float(self._timer(point))
        if self._count % self.EVERY == 0:
            from llmprof.measure.nvml import read_gpu

            self._readings.append(dict(read_gpu(self._properties).fields))
        self._count += 1
        return seconds

    def conditions(self, points: Sequence[ServedPoint]) -> Conditions:
        """What was read, and which kernels ran."""
        clocks, powers = (
            [each[name] for each in self._readings if each.get(name)] for name in ("sm_clock_mhz", "power_draw_mw")
        )
        last = self._readings[-1] if self._readings else {}
        return Conditions(
            driver=last.get("driver_version"),
            sm_clock_mhz=(min(clocks), max(clocks)) if clocks else None,
            power_mw=max(powers) if powers else None,
            power_limit_mw=last.get("power_limit_mw") or None,
            kernels=self._kernels(points) or None,
        )

    def _kernels(self, points: Sequence[ServedPoint]) -> dict[str, tuple[str, ...]]:
        """What the device ran for a middling point of each call."""
        from llmprof.measure.calibration.served_clock import kernel_names

        found: dict[str, tuple[str, ...]] = {}
        for name in dict.fromkeys(point.kernel for point in points):
            own = sorted((point for point in points if point.kernel == name), key=lambda point: point.needs_bytes)
            try:
                names = kernel_names(own[len(own) // 2], self._device)
            except Exception:  # no CUPTI, no such kernel: a name that is not known costs no time that is
                continue
            if names:
                found[name] = names
        return found


def _launches(device: torch.device) -> Launches:
    from llmprof.measure.calibration.clock import host_seconds
    from llmprof.measure.calibration.served_clock import graph_seconds

    each = [host_seconds(device, launches=200) for _ in range(REPEATED)]
    graphs = [graph_seconds(device, replays=5) for _ in range(REPEATED)]
    return Launches(
        each=tuple(one for one in each if one),
        replay=tuple(host for host, _ in graphs),
        within=min(within for _, within in graphs),
    )


def _collectives(device: torch.device) -> tuple[list[Sample], list[str]]:
    """All-reduce among the GPUs that are there, where they are of one kind."""
    import torch as framework

    from llmprof.measure.calibration.served_ranks import time_all_reduce

    there = framework.cuda.device_count()
    if there == 1:
        return [], ["all-reduce is not timed: there is one GPU; the catalogue's stays"]
    names = {framework.cuda.get_device_name(number) for number in range(there)}
    if len(names) > 1:
        return [], [f"all-reduce is not timed: the GPUs here differ ({', '.join(sorted(names))})"]
    framework.cuda.synchronize(device)
    framework.cuda.empty_cache()  # the ranks need memory on this GPU too
    return time_all_reduce(there)
