"""Constants of one device on another: whose count how much, and what becomes of them and of the figures they refer to.

Constants are fractions of the figures that they were fitted with. On another device the same fractions are taken of its
own figures; a figure that the catalogue lacks is that of a device like it, or of the one whose constants are used, and
the replacement is named (docs/latency.md, "Another device").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import log, sqrt

from llmprof.device_figures import Device, KernelConstants
from llmprof.latency.figures import Figures

RATE_OF_FP8, RATE_OF_FP4 = 2.0, 2.0
"""Of bf16's, and of fp8's, on every matrix unit that multiplies them, as the catalogue's figures have it."""

FP4_TARGETS = {"sm100", "sm103", "sm120"}
"""Blackwell (PTX ISA 9.0, `mma` with .e2m1, recalled). Elsewhere fp4 is how weights are stored."""

NO_FP8 = {"sm80", "sm86", "sm75", "sm70"}

ALIKE = (0.75, 1.34)
"""Devices whose peaks differ by less than this are taken for one chip at another clock, not for a smaller chip."""

OTHER_INSTRUCTIONS = 1.0
"""Kernels of other instructions are as unlike as a figure that is e times as large."""

SURELY_ALIKE = 0.01
"""Devices that differ by a tenth in one figure count as much as those that differ in none."""

ROUNDING = 1e-3
"""Peaks are stated to three or four digits."""

ALIKE_ENOUGH = 0.05
"""Of the weight of the likest device: what has less is left out."""


def likeness(ours: Figures, theirs: Figures, related: bool) -> float:
    """The weight of a device beside others: one over the squared distance of the logarithms of four figures.

    These are what kernels notice of a chip, whatever its size: how much a processor multiplies in a clock, the clock,
    and a processor's part of the memory's bandwidth and of the last level cache. `related` says that both multiply
    with the same instructions.
    """
    distance = sum(log(one / other) ** 2 for one, other in zip(_shape(ours), _shape(theirs), strict=True))
    return 1 / (distance + (0.0 if related else OTHER_INSTRUCTIONS) + SURELY_ALIKE)


def _shape(figures: Figures) -> tuple[float, float, float, float]:
    """Of one processor: FLOPs in a clock, clocks in a second, bytes in a second and of cache."""
    units = figures.units
    return figures.bf16 / units / figures.clock, figures.clock, figures.bandwidth / units, figures.cache / units


def slowed(kernels: tuple[KernelConstants, ...], theirs: Figures, ours: Figures) -> tuple[KernelConstants, ...]:
    """Kernels on a device of the same target, whose processors may have been made to multiply less in a clock.

    What a kernel does besides multiplying takes as many clocks: the part of the peak that it reaches grows, and the
    softmax, told in widths of heads that could be multiplied meanwhile, costs fewer.
    """
    rate = (ours.bf16 / ours.units / ours.clock) / (theirs.bf16 / theirs.units / theirs.clock)
    if rate >= 1 - ROUNDING:
        return kernels

    def moved(kernel: KernelConstants) -> KernelConstants:
        c = dict(kernel.constants)
        if "e_c" in c:
            c["e_c"] = 1 / (1 + (1 / c["e_c"] - 1) * rate)
        if "k_d" in c:
            c["k_d"] *= rate
        return replace(kernel, constants=c)

    return tuple(moved(each) for each in kernels)


def carried(kernels: tuple[KernelConstants, ...], theirs: Figures, ours: Figures) -> tuple[KernelConstants, ...]:
    """Kernels of one target on a device of another (docs/latency.md, "Another device").

    A processor that multiplies x times as much in a clock has tiles of sqrt(x) times the side, which need sqrt(x) times
    the bytes of operands. Starts of kernels take as many clocks. The start of a block of attention waits for memory,
    and takes as long. What moves rows of tokens goes with the bandwidth.
    """
    clock = ours.clock / theirs.clock
    rate = (ours.bf16 / ours.units) / (theirs.bf16 / theirs.units) / clock
    started = dict.fromkeys(("t0", "t_s", "t_g", "t_d"), 1 / clock)
    factors = {**started, "b_sm": sqrt(rate), "t_row": theirs.bandwidth / ours.bandwidth}
    waiting = {**factors, "tau": clock}

    def moved(kernel: KernelConstants) -> KernelConstants:
        by = waiting if kernel.op in {"decode", "prefill"} else factors
        return replace(kernel, constants={name: value * by.get(name, 1.0) for name, value in kernel.constants.items()})

    return tuple(moved(each) for each in kernels)


def completed(device: Device, others: Iterable[Device]) -> tuple[Device, tuple[str, ...]]:
    """The device with a bf16 peak and a bandwidth of others of the same target where nobody stated its own.

    The peak is that of the one with the nearest number of processors, for each processor; the bandwidth is that of one
    with as many processors and as much memory. What was taken of whom is said.
    """
    said = device.figures
    if device.architecture is None or "units" not in said:
        return device, ()
    instead, units = [], said["units"].value
    alike = [each for each in others if each.name != device.name and each.architecture == device.architecture]
    rated = [each for each in alike if "peak_flops.bf16" in each.figures and "units" in each.figures]
    if rated and not {"peak_flops.bf16", "peak_flops.fp16"} & set(said):
        nearest = min(rated, key=lambda each: abs(log(each.figures["units"].value / units)))
        peak, many = nearest.figures["peak_flops.bf16"], nearest.figures["units"].value
        part = replace(peak, value=peak.value * units // many)
        device = replace(device, peak_flops={**device.peak_flops, "bf16": part})
        instead.append(f"no bf16 peak: that of {nearest.name}{'' if many == units else ' per processor'}")
    same = [each for each in alike if each.memory_bandwidth is not None and _size(each) == _size(device)]
    if same and device.memory_bandwidth is None:
        device = replace(device, memory_bandwidth=same[0].memory_bandwidth)
        instead.append(f"no memory bandwidth: that of {same[0].name}")
    return device, tuple(instead)


def _size(device: Device) -> tuple[int | None, ...]:
    """Processors and bytes of memory."""
    return tuple(None if each is None else each.value for each in (device.units, device.memory))


def borrowed(device: Device, other: Figures, owner: str, architecture: str | None) -> tuple[Figures, tuple[str, ...]]:
    """The figures of a device for constants of another (`owner`, of `architecture`), and which of them are derived.

    The clock is that of the other, times how much faster one processor is at matrix products, if that is the clock's
    doing; of another target it is the device's own, where it is stated. Processors that nobody counted are as many as
    the peak needs.
    """
    said = device.figures
    missing: list[str] = []

    def stated(key: str) -> float | None:
        figure = said.get(key)
        return None if figure is None else float(figure.value)

    # bf16 and fp16 have the same rate on every matrix unit since sm80.
    bf16 = stated("peak_flops.bf16") or stated("peak_flops.fp16")
    if bf16 is None:
        counted = stated("units") or other.units
        missing.append(f"no bf16 peak: that of {owner}{'' if counted == other.units else ' per processor'}")
        bf16 = other.bf16 * counted / other.units
    scale = bf16 / other.bf16
    fp8 = stated("peak_flops.fp8")
    if fp8 is None and device.architecture not in NO_FP8:
        ratio = RATE_OF_FP8 if other.fp8 is None else other.fp8 / other.bf16
        missing.append(f"no fp8 peak: bf16's times {ratio:.3g}")
        fp8 = bf16 * ratio
    bandwidth = stated("memory_bandwidth")
    if bandwidth is None:
        missing.append(f"no memory bandwidth: that of {owner}")
        bandwidth = other.bandwidth
    units = stated("units")
    if units is None:
        missing.append(f"no number of processors: from {owner}'s")
        units = other.units if ALIKE[0] < scale < ALIKE[1] else max(1.0, round(other.units * scale))
    cache = stated("last_level_cache")
    if cache is None:
        missing.append(f"no last level cache: that of {owner}")
        cache = other.cache
    faster = scale * other.units / units
    clock = other.clock * faster if ALIKE[0] < faster < ALIKE[1] else other.clock
    if device.architecture != architecture:
        clock = stated("clock") or clock
    fp4 = stated("peak_flops.fp4")
    if fp4 is None and fp8 is not None and device.architecture in FP4_TARGETS:
        missing.append("no fp4 peak: twice fp8's")
        fp4 = fp8 * RATE_OF_FP4
    figures = Figures(
        bf16=bf16,
        fp8=fp8,
        fp4=fp4,
        bandwidth=bandwidth,
        units=units,
        cache=cache,
        clock=clock,
        link=stated("interconnect"),
    )
    return figures, tuple(missing)
