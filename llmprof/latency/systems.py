"""Names of measured systems, as tables of measurements write them, and the devices of the catalogue that they are.

The names with underscores are those of ai-dynamo/aiconfigurator (systems/*.yaml, read 2026-11-30), whose A100 and H100
have 80 GB; every name or alias of the catalogue is understood as well, with - or _ between its parts.
"""

from __future__ import annotations

from llmprof import device as catalogue
from llmprof.device_figures import Device

SYSTEMS = {
    "a100_sxm": "a100-sxm-80gb",
    "a100_pcie": "a100-pcie-80gb",
    "h100_sxm": "h100-sxm-80gb",
    "h100_pcie": "h100-pcie-80gb",
    "h200_sxm": "h200",
    "b200_sxm": "b200",
    "gb200_sxm": "gb200",
    "gb200": "gb200",
    "b300_sxm": "b300",
    "h20_sxm": "h20",
}


SAME_CHIP = {"gb300": "b300", "gb300_sxm": "b300"}
"""Systems that the catalogue lacks, and a device with the same chip: both are Blackwell Ultra (NVIDIA's product pages
of GB300 NVL72 and DGX B300, recalled). Their figures may differ."""


def device_of(name: str) -> Device | None:
    """The device of the catalogue that a table calls `name`, or that has its chip; None where there is none."""
    wanted = name.strip().lower()
    system = wanted.replace("-", "_")
    known = SYSTEMS.get(system) or SAME_CHIP.get(system) or wanted
    return catalogue.called(known) or catalogue.called(wanted.replace("_", "-"))
