"""Where a tensor may stand: the notation of the tables of names, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

Slot = tuple[str, str]
"""A parameter of the architecture: the path of its leaf, and its name there."""

EXPERTS = "ffn.experts"
SHARED = ("embed", "lm_head")
"""What a layer of further tokens has copies of, in place of parameters of its own."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The parameters that one tensor holds, one after another; with `part`, a part of the one that it names."""

    slots: tuple[Slot, ...]
    part: bool = False

    def at(self, prefix: str) -> Reading:
        """The same below a layer or a stack."""
        return Reading(tuple((prefix + path, name) for path, name in self.slots), self.part)

    def of_further(self, index: int) -> Reading:
        """The same, relative to a layer, in the layer `index` of those that predict further tokens."""
        return Reading(tuple((_further(path, index), name) for path, name in self.slots), self.part)


def _further(path: str, index: int) -> str:
    if path in SHARED:
        return path
    if path.startswith("join."):
        return f"mtp.join.{index}.{path.removeprefix('join.')}"
    return f"mtp.norms.{index}" if path == "norms" else f"mtp.layers.{index}.{path}"


@lru_cache(maxsize=4096)
def readings(target: str, suffix: str | None) -> tuple[Reading, ...]:
    """What an entry of a table says of a tensor ``suffix`` (``weight``, ``bias``), or of one with a name of its own."""
    found = []
    for alternative in target.split(" | "):
        parts = [part.strip() for part in alternative.split(" + ")]
        found.append(Reading(tuple(_slot(part.removesuffix("*"), suffix) for part in parts), parts[0].endswith("*")))
    return tuple(dict.fromkeys(found))


def _slot(part: str, suffix: str | None) -> Slot:
    path, colon, name = part.partition(":")
    if not colon:
        return path, suffix or "weight"
    return path, f"{name}_bias" if suffix == "bias" and path == EXPERTS else name
