"""What NVML's GPM says of a pass: how busy the memory was while it ran over and over, and how much energy that took.

GPM (GPU performance monitoring, Hopper and newer) knows the share of the memory's bandwidth that was used between two
samples, in percent of its theoretical peak. Times that peak and the time between the samples it is bytes; a loop of
passes makes it bytes of a pass. It needs no privilege, but sees the GPU as a whole: every other process too, and no
modules. (`nvmlGpm*`, metric 10 `NVML_GPM_METRIC_DRAM_BW_UTIL`: "Percentage of DRAM bw used vs theoretical maximum",
as in nvidia-ml-py 13.615, read 2026-11-30.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.nvml import GpuProperties, board_of, handle_of, session, why

SECONDS = 2.0
"""The least that a loop lasts: samples are refreshed some ten times a second, and so is the counter of energy."""

SAMPLE_SECONDS = 0.25
"""About so far apart are two samples."""

DATA_RATE = 2
"""Transfers for each clock that NVML reports of a memory (HBM and GDDR alike: an H100 SXM says 2619 MHz and 5120 bits,
which is its 3.35 TB/s; recalled)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Integral:
    """Means of one pass over `passes` passes in `seconds`. `joules` is None where `energy_reason` says why.

    `dram_bytes` is a float: a mean of what an instrument says to about a percent.
    """

    dram_bytes: float
    joules: float | None
    energy_reason: str
    passes: int
    seconds: float
    utilisation: float
    peak_bytes_per_s: float
    samples: int


def integrate(
    run: Callable[[], object],
    synchronise: Callable[[], object],
    properties: GpuProperties,
    *,
    seconds: float = SECONDS,
    now: Callable[[], float] = time.perf_counter,
) -> Integral:
    """Run passes for at least `seconds` and integrate. Raises Unavailable where NVML or GPM cannot say.

    `run` starts a pass; `synchronise` waits until the device is idle.
    """
    try:
        with session() as nvml:
            gpu = board_of(nvml, handle_of(nvml, properties))
            _require(nvml, gpu, properties)
            return _integrate(nvml, gpu, run, synchronise, seconds, now)
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(
            f"NVML does not answer: {why(error)}", "use the driver's own NVML, of a recent driver"
        ) from error


def _require(nvml: Any, gpu: Any, properties: GpuProperties) -> None:
    """Raise Unavailable where this GPU has no GPM, or is a slice of one."""
    if nvml.nvmlDeviceIsMigDeviceHandle(handle_of(nvml, properties)):
        raise Unavailable("GPM sees the whole GPU, and this process has a MIG slice of it", "use a GPU without MIG")
    support = nvml.nvmlGpmQueryDeviceSupport(gpu)
    if not support.isSupportedDevice:
        raise Unavailable("this GPU has no GPM (it came with Hopper)", "use Nsight Compute: --counters ncu")


def _integrate(
    nvml: Any,
    gpu: Any,
    run: Callable[[], object],
    synchronise: Callable[[], object],
    seconds: float,
    now: Callable[[], float],
) -> Integral:
    peak = peak_bytes_per_s(nvml, gpu)
    run()
    synchronise()
    before, energy_reason = _energy(nvml, gpu)
    busy, passes, samples = 0.0, 0, 0
    with _sample(nvml) as first, _sample(nvml) as second:
        nvml.nvmlGpmSampleGet(gpu, first)
        began = last = now()
        while last - began < seconds:
            while now() - last < SAMPLE_SECONDS:
                run()
                synchronise()
                passes += 1
            nvml.nvmlGpmSampleGet(gpu, second)
            moment = now()
            busy += _utilisation(nvml, first, second) * (moment - last)
            first, second, last, samples = second, first, moment, samples + 1
    after, energy_reason = _energy(nvml, gpu) if before is not None else (None, energy_reason)
    joules = None if before is None or after is None else (after - before) / 1000 / passes
    elapsed = last - began
    return Integral(
        dram_bytes=busy * peak / passes,
        joules=joules,
        energy_reason=energy_reason,
        passes=passes,
        seconds=elapsed,
        utilisation=busy / elapsed,
        peak_bytes_per_s=peak,
        samples=samples,
    )


def peak_bytes_per_s(nvml: Any, gpu: Any) -> float:
    """The theoretical bandwidth of the memory: its highest clock, twice a clock, over the width of its bus."""
    megahertz = nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_MEM)
    return float(megahertz * 10**6 * DATA_RATE * nvml.nvmlDeviceGetMemoryBusWidth(gpu) / 8)


def _utilisation(nvml: Any, first: Any, second: Any) -> float:
    """The share of the bandwidth that was used between two samples, from 0 to 1. Unavailable where GPM does not say."""
    asked = nvml.c_nvmlGpmMetricsGet_t()
    asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
    asked.numMetrics = 1
    asked.sample1, asked.sample2 = first, second
    asked.metrics[0].metricId = nvml.NVML_GPM_METRIC_DRAM_BW_UTIL
    metric = nvml.nvmlGpmMetricsGet(asked).metrics[0]
    if metric.nvmlReturn != nvml.NVML_SUCCESS or not 0 <= metric.value <= 100:
        raise Unavailable(
            f"GPM does not say how busy the memory was (code {metric.nvmlReturn}, value {metric.value})",
            "use Nsight Compute: --counters ncu",
        )
    return float(metric.value) / 100


@contextmanager
def _sample(nvml: Any) -> Iterator[Any]:
    sample = nvml.nvmlGpmSampleAlloc()
    try:
        yield sample
    finally:
        nvml.nvmlGpmSampleFree(sample)


def _energy(nvml: Any, gpu: Any) -> tuple[int | None, str]:
    """Millijoules that the GPU has used since its driver was loaded, or None and why."""
    try:
        return int(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)), ""
    except Exception as error:
        return None, why(error)
