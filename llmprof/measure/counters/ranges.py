"""The NVTX ranges that say which module, of which pass, launched a kernel.

Everything that is counted lies in a range called `OUTER`; in it each pass has a range, and in that each leaf. Names are
made of letters that no filter and no report of Nsight Compute has a meaning for (``@ , [ ] / * + : "``), and end with a
bar, so that a name that some tool cut short is noticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

OUTER = "llmprof"
"""The range of everything that is counted. As a filter it is written ``llmprof/``, which takes in what lies in ranges
within it (tried with `actions_by_nvtx` of ncu-report 2025.3.1 on a report that NVIDIA published, 2026-11-30)."""

Kind = Literal["pass", "leaf", "drain"]
"""``drain`` is what runs after a pass to bring what it left in the cache to memory."""

_NAME = re.compile(rf"{OUTER}\|(pass|leaf|drain)\|(\w+)\|(\w+)\|([\w.]*)\|")
_BEGINNING = re.compile(rf"{OUTER}\|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a kernel was launched: by a leaf, by a pass outside of its leaves, or by a drain."""

    kind: Kind
    phase: str
    attention: str
    path: str = ""

    @property
    def name(self) -> str:
        """The name of its range."""
        return f"{OUTER}|{self.kind}|{self.phase}|{self.attention}|{self.path}|"


def place_of(text: str) -> Place | None:
    """The innermost place that a text with names of ranges tells, in whatever order; None where it tells none.

    ValueError where a name is cut short or where it tells two places that are not one within the other.
    """
    found = {
        Place(kind=cast(Kind, kind), phase=phase, attention=attention, path=path)
        for kind, phase, attention, path in _NAME.findall(text)
    }
    if len(_BEGINNING.findall(text)) != len(_NAME.findall(text)):
        raise ValueError(f"the name of a range is cut short in {text!r}")
    inner = [place for place in found if place.kind != "pass"] or list(found)
    passes = {(place.phase, place.attention) for place in found}
    if len(inner) > 1 or len(passes) > 1:
        raise ValueError(f"{text!r} names ranges that are not one within the other")
    return inner[0] if inner else None
