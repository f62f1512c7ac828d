"""The six figures of a device that its kernels' times depend on, and what stands in where the catalogue lacks one.

Constants are fractions of the figures that they were fitted with. On another device of the family the same fractions
are taken of its own figures (docs/latency.md, "Another device"); a figure that the catalogue lacks is replaced by that
of the device whose constants are used, and the replacement is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

from llmprof.device_figures import Device, KernelConstants, LatencyConstants

FAMILIES = {
    "sm70": "mma.sync",
    "sm75": "mma.sync",
    "sm80": "mma.sync",
    "sm86": "mma.sync",
    "sm89": "mma.sync",
    "sm90": "wgmma",
    "sm100": "tcgen05",
    "sm103": "tcgen05",
    "sm120": "mma.sync",
}
"""Which devices multiply matrices with the same instructions, and so run the same kernels: FlashAttention 2 with
mma.sync, FlashAttention 3 with Hopper's wgmma, others with data centre Blackwell's tcgen05, which its graphics cards
lack (PTX ISA 9.0, "Target ISA notes" of these instructions; recalled)."""

RATE_OF_FP8, RATE_OF_FP4 = 2.0, 2.0
"""Of bf16's, and of fp8's, on every matrix unit that multiplies them, as the catalogue's figures have it."""

FP4_TARGETS = {"sm100", "sm103", "sm120"}
"""Blackwell (PTX ISA 9.0, `mma` with .e2m1, recalled). Elsewhere fp4 is how weights are stored."""

ALIKE = (0.75, 1.34)
"""Devices whose peaks differ by less than this are taken for one chip at another clock, not for a smaller chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """FLOPs per second of bf16, fp8 and fp4 (None: it multiplies none), bytes per second, processors, bytes, hertz.

    `link` is in bytes per second, one direction towards all other devices of the node; None where nobody stated it.
    """

    bf16: float
    fp8: float | None
    bandwidth: float
    units: float
    cache: float
    clock: float
    link: float | None = None
    fp4: float | None = None


def fitted(constants: LatencyConstants, device: Device) -> Figures:
    """The figures that constants were fitted with, and those of `device` that no constant is a fraction of."""
    link, fp4 = device.interconnect, device.figures.get("peak_flops.fp4")
    return Figures(
        bf16=constants.bf16,
        fp8=constants.fp8,
        bandwidth=constants.memory_bandwidth,
        units=constants.units,
        cache=constants.last_level_cache,
        clock=constants.clock,
        link=None if link is None else link.per_direction.value,
        fp4=None if fp4 is None else fp4.value,
    )


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
    if fp8 is None and device.architecture not in {"sm80", "sm86", "sm75", "sm70"}:
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


def fed(kernels: tuple[KernelConstants, ...], theirs: Figures, ours: Figures) -> tuple[KernelConstants, ...]:
    """Kernels of one target on a device of another: operands are fed with the square root of the rate they are used at.

    A processor that multiplies x times as much in a clock has tiles of sqrt(x) times the side, which need sqrt(x) times
    the bytes (docs/latency.md, "Another device").
    """
    rate = (ours.bf16 / ours.units / ours.clock) / (theirs.bf16 / theirs.units / theirs.clock)
    return tuple(
        replace(each, constants={**each.constants, "b_sm": each.constants["b_sm"] * sqrt(rate)})
        if "b_sm" in each.constants
        else each
        for each in kernels
    )


def of_datasheet(device: Device) -> Figures | None:
    """What a roofline needs, from the catalogue alone; None where a peak or the bandwidth is not known."""
    said = device.figures
    peaks = [said[key].value for key in ("peak_flops.bf16", "peak_flops.fp16", "peak_flops.fp32") if key in said]
    if not peaks or "memory_bandwidth" not in said:
        return None
    fp8, fp4 = said.get("peak_flops.fp8"), said.get("peak_flops.fp4")
    return Figures(
        bf16=peaks[0],
        fp8=None if fp8 is None else fp8.value,
        fp4=None if fp4 is None else fp4.value,
        bandwidth=said["memory_bandwidth"].value,
        units=said["units"].value if "units" in said else 1,
        cache=said["last_level_cache"].value if "last_level_cache" in said else 1,
        clock=said["clock"].value if "clock" in said else 1e9,
        link=said["interconnect"].value if "interconnect" in said else None,
    )
