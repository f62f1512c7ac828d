"""The six figures of a device that its kernels' times depend on: those that its constants were fitted with.

What stands in on another device, whose constants were not fitted, is in `carrying.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.device_figures import Device, LatencyConstants

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
