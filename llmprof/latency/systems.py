"""Names of measured systems, as tables of measurements write them, and the devices of the catalogue that they are.

The names with underscores are those of ai-dynamo/aiconfigurator (systems/*.yaml, read 2026-11-30), whose A100 and H100
have 80 GB; every name or alias of the catalogue is understood as well, whatever is between its parts.
"""

from __future__ import annotations

import re
from functools import lru_cache

from llmprof import device as catalogue
from llmprof.device_figures import Device

SYSTEMS = {
    "a100_sxm": "a100-sxm-80gb",
    "a100_80gb_sxm": "a100-sxm-80gb",
    "a100_pcie": "a100-pcie-80gb",
    "h100_80gb_sxm": "h100-sxm-80gb",
    "h100_sxm5": "h100-sxm-80gb",
    "h20_sxm": "h20",
    "gb200_sxm": "gb200",
    "b300_sxm": "b300",
    "rtx_6000_blackwell_server": "rtx-pro-6000-server",
    "rtx_pro_6000_blackwell_server": "rtx-pro-6000-server",
}


SAME_CHIP = {"gb300": "b300", "gb300_sxm": "b300", "gb300_nvl72": "b300"}
"""Systems that the catalogue lacks, and a device with the same chip: both are Blackwell Ultra (NVIDIA's product pages
of GB300 NVL72 and DGX B300, recalled). Their figures may differ."""


def device_of(name: str) -> Device | None:
    """The device of the catalogue that a table calls `name`, or that has its chip; None where there is none.

    A part of a name is never taken for it: an ``h100`` is two devices.
    """
    found = _names().get(_plain(name))
    return None if found is None else catalogue.find(found)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Plain names of all devices; the catalogue's own come before those of systems."""
    found = {_plain(name): device for name, device in (*SYSTEMS.items(), *SAME_CHIP.items())}
    for device in catalogue.entries():
        found |= {_plain(name): device.name for name in (device.name, *device.aliases)}
    return found


def _plain(name: str) -> str:
    """Letters and digits alone, without the vendor."""
    return re.sub("[^a-z0-9]", "", name.lower()).removeprefix("nvidia")
