"""Whether a device is one that the options of an engine were read for, and the capability of its kernels."""

from __future__ import annotations

from collections.abc import Mapping

from llmprof.device import Device
from llmprof.planning.deploy.line import Refusal

VENDORS = {"nvidia": "NVIDIA", "amd": "AMD"}


def check_gpu(device: Device, vendors: tuple[str, ...] = ("nvidia", "amd")) -> None:
    """Raise Refusal where `device` is no GPU of these vendors."""
    if device.memory is None or device.vendor not in vendors:
        names = " and ".join(VENDORS[vendor] for vendor in vendors)
        raise Refusal(f"is described here for GPUs of {names} alone, and {device.name} is none")


def check_packed(dtype: str, capability: int | None, since: Mapping[str, int]) -> None:
    """Raise Refusal where kernels for weights in `dtype` begin with a later capability than this, if it is known."""
    if capability is not None and capability < since.get(dtype, 0):
        raise Refusal(f"has no kernels for weights in {dtype} on sm{capability}")


def compute_capability(device: Device) -> int | None:
    """``90`` for sm90; None for what NVIDIA has not made, or where nobody has looked it up."""
    target = device.architecture
    return int(target.removeprefix("sm")) if target is not None and target.startswith("sm") else None
