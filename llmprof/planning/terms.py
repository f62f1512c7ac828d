"""What one device of a deployment holds, part by part: a bar that ends in what is free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Basis = Literal["confirmed", "unconfirmed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One part of a device's memory.

    `basis` says whether something independent confirms the figure, `note` where it comes from or, of what does not
    apply, why it is 0. A term that says what an engine's pages add to the architecture's own cache may be negative.
    """

    name: str
    bytes: int
    basis: Basis
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBar:
    """The terms of one device, in the order in which they are shown, and the memory that they share.

    `capacity_note` says where that figure is from, `stage` which stage of the pipeline the device is of.
    """

    capacity_bytes: int
    terms: tuple[Term, ...]
    capacity_note: str = ""
    stage: int = 0

    @property
    def used_bytes(self) -> int:
        """The sum of all terms."""
        return sum(term.bytes for term in self.terms)

    @property
    def free_bytes(self) -> int:
        """What is left of the capacity; negative where the terms do not fit."""
        return self.capacity_bytes - self.used_bytes

    @property
    def fits(self) -> bool:
        """Whether the terms are no more than the capacity."""
        return self.free_bytes >= 0

    def bytes_of(self, name: str) -> int:
        """The bytes of the term of that name; 0 where the bar has none."""
        return sum(term.bytes for term in self.terms if term.name == name)
