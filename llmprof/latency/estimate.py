"""A time with its interval and what it rests on: `estimate` of one op on one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Basis = Literal["calibrated", "family", "datasheet"]
"""What a time rests on: constants fitted to this device and kernel, those of devices like it, or its datasheet."""

UNCALIBRATED = "uncalibrated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """`seconds`, with an interval that holds 90% of measurements where `basis` is calibrated.

    Elsewhere `low` and `high` are at least a factor of two away, and `label` says that the time is uncalibrated.
    `note` says whose constants were used, and which figures of the device were missing and what stood in for them.
    """

    seconds: float
    low: float
    high: float
    basis: Basis
    note: str = ""

    @property
    def label(self) -> str:
        """``calibrated``, or ``uncalibrated (family)``, ``uncalibrated (datasheet)``."""
        return self.basis if self.basis == "calibrated" else f"{UNCALIBRATED} ({self.basis})"
