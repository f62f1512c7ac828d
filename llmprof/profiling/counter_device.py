"""The device that counters are held against: the catalogue's, with what its file leaves open as the driver says it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from llmprof.device import Device, Figure, Target, find
from llmprof.errors import InputError

if TYPE_CHECKING:
    import torch

_FIGURES = {
    "last_level_cache": "L2_cache_size",
    "units": "multi_processor_count",
    "sram_per_unit": "shared_memory_per_multiprocessor",
}
"""A figure of a device -> the property of torch's that says it. Properties that this torch lacks stay open."""


def device_of(device: torch.device, name: str | None, notes: list[str]) -> Device:
    """The catalogue's device `name`, or the one with torch's name for `device`, or one of the driver's figures alone.

    Figures that the catalogue lacks are the driver's; `notes` say which. Raises InputError for a `name` that is not
    known.
    """
    import torch

    properties: Any = torch.cuda.get_device_properties(device)
    try:
        # A driver says "NVIDIA H100 80GB HBM3"; the catalogue's names have no spaces.
        known = find(name if name is not None else properties.name.replace(" ", "-"))
    except InputError:
        if name is not None:
            raise
        known = _unnamed(properties)
        notes.append(
            f"the catalogue of devices has no {properties.name!r}: its figures are those of its driver; --device-spec "
            "names another"
        )
    found: dict[str, Figure] = {}
    for figure, told in _FIGURES.items():
        value = getattr(properties, told, None)
        if getattr(known, figure) is None and value:
            found[figure] = Figure(value=int(value), sources=())
    if found:
        said = ", ".join(f"{figure} {each.value:,}" for figure, each in found.items())
        notes.append(f"of {known.name}, as its driver says: {said}")
    target = f"sm{properties.major}{properties.minor}"
    if known.architecture is None and target in get_args(Target):
        known = replace(known, architecture=target)  # type: ignore[arg-type]  # it is one of them
    return replace(known, **found)  # type: ignore[arg-type]  # by the names of figures alone


def _unnamed(properties: Any) -> Device:
    """A device of which only the driver has said something."""
    return Device(
        name=str(properties.name),
        aliases=(),
        vendor="nvidia",
        notes=None,
        memory=Figure(value=int(properties.total_memory), sources=()),
        memory_bandwidth=None,
        peak_flops={},
        units=None,
        sram_per_unit=None,
        last_level_cache=None,
    )
