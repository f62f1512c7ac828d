"""The energy of answers: so many watts of every device all the time, over what is answered meanwhile.

The watts are those that somebody states, as measured, or else the most that the board of a device draws
(docs/devices.md): then the energy is an upper bound at the predicted rate, as no board is at its limit all the time.
Host, network and cooling are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmprof.device import Device
from llmprof.errors import InputError

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Watts of one device. `stated`: somebody said so; else it is the limit of its board.

    InputError for what is no positive number.
    """

    watts: float
    stated: bool

    def __post_init__(self) -> None:
        if not 0 < self.watts < float("inf"):
            raise InputError(f"the power of a device is {self.watts} W; it must be a positive number")

    @property
    def why(self) -> str:
        """Why an energy at this power is not confirmed, and what it is."""
        at = "the power that --watts states" if self.stated else "the limit of its board, and so at most"
        return f"every device at {at}, all the time, at the predicted rate; host and cooling are not in it"

    def joules(self, devices: int, per_second: float) -> float:
        """Of each of the things of which so many are done in a second by so many devices."""
        return self.watts * devices / per_second


UNKNOWN = "the catalogue has no power of its board; --watts says one"
"""Why a device has no energy."""


def power_of(device: Device, stated: Mapping[str, float]) -> Power | None:
    """The power of `device`: of `stated` by its name, else the limit of its board; None where nobody knows it."""
    if device.name in stated:
        return Power(watts=stated[device.name], stated=True)
    return None if device.board_power is None else Power(watts=device.board_power.value, stated=False)
