"""Options that give a number for each device: one for all, or ``h100-sxm=2.5,l40s=1.0``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.device import Device


def parse(
    text: str, devices: Sequence[Device], *, option: str, what: str, meaning: str, example: str
) -> dict[str, float]:
    """The number of each device, by its name; `what` it is, its `meaning`, and how `option` may say it.

    InputError for what is no positive number, a device that is not known, one that has two numbers, or one that is not
    among those that are planned.
    """
    if "=" not in text:
        number = positive(text, option=option, meaning=meaning, example=example)
        return dict.fromkeys((device.name for device in devices), number)
    names = {device.name for device in devices}
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(
                f"{option}: found {part.strip()!r}; expected a device and its {what}, such as h100-sxm={example}"
            )
        device = named(name, option)
        if device.name not in names:
            raise InputError(f"{option}: {device.name} is none of the devices that are planned; leave it out")
        if device.name in found:
            raise InputError(f"{option}: {device.name} has two {what}s; leave one out")
        found[device.name] = positive(value, option=option, meaning=meaning, example=example)
    return found


def named(name: str, option: str) -> Device:
    """The device of this name or alias. InputError, with the option, where there is none."""
    from llmprof.device import find

    if not name.strip():
        raise InputError(f"{option}: found an empty name; expected devices of `llmprof devices list`")
    try:
        return find(name)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def positive(text: str, *, option: str, meaning: str, example: str) -> float:
    """A number above 0, of at most nine digits and nine decimals."""
    value = float(text) if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", text, re.ASCII) else math.nan
    if not value > 0:
        shown = repr(text.strip()) if len(text) <= 64 else f"a text of {len(text):,} characters"
        raise InputError(f"{option}: found {shown}; expected {meaning}, more than 0, such as {example}")
    return value
