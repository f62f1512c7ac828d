"""Accelerators by name: how much memory each has, and every further figure with its own sources.

One YAML file of ``specs/devices`` describes one accelerator (docs/devices.md). A name is found exactly or not at all:
a part of a name is never taken for it, as an H100 is two devices.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache

from llmprof import catalog
from llmprof.device_document import load
from llmprof.device_figures import Device, Figure, Interconnect, LinkKind, Target
from llmprof.errors import InputError
from llmprof.spec.nodes import short

__all__ = ["Device", "Figure", "Interconnect", "LinkKind", "Target", "called", "entries", "find", "load"]


def find(name: str) -> Device:
    """The device of this name or alias, upper or lower case.

    Raises InputError for a name that is not known, with those near to it.
    """
    found = called(name)
    if found is None:
        raise _unknown(name, name.strip().lower())
    return found


def called(name: str) -> Device | None:
    """The device of exactly this name or alias, upper or lower case; None where there is none."""
    wanted = name.strip().lower()
    for device in entries():
        if wanted == device.name or wanted in (alias.lower() for alias in device.aliases):
            return device
    return None


@lru_cache(maxsize=1)
def entries() -> tuple[Device, ...]:
    """Every device of the catalogue, sorted by name. Raises InputError where this installation carries none."""
    return tuple(load(path) for path in sorted((catalog.root() / "devices").glob("*.yaml")))


def _unknown(name: str, wanted: str) -> InputError:
    known = {text.lower(): device.name for device in entries() for text in (device.name, *device.aliases)}
    # Only to suggest: a name that fits several devices is not taken for any of them.
    near = [device for text, device in known.items() if len(wanted) > 1 and text.startswith(wanted)]
    near = near or [known[text] for text in get_close_matches(wanted, known, n=3, cutoff=0.6)]
    names = list(dict.fromkeys(near))
    guess = f"did you mean {' or '.join(names)}?" if names else f"known are {', '.join(d.name for d in entries())}"
    return InputError(f"no device is called {short(name)!r}; {guess}")
