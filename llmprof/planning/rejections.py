"""Why configurations were rejected: how many for each reason, and the one that came nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmprof.planning.degrees import words
from llmprof.planning.search import Lack, Plan, Rejected
from llmprof.units import format_bytes

REASONS: dict[Lack, str] = {
    "weights": "no room for the weights alone",
    "one request": "no room for one request beside the weights",
    "all requests": "no room for all requests at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A reason, how many configurations it rejected, and in words what the nearest of them was short of."""

    reason: str
    count: int
    nearest: str


def rejections(plan: Plan) -> list[Reason]:
    """The reasons of a plan that is a matter of memory."""
    made = []
    for lack, reason in REASONS.items():
        members = [each for each in plan.rejected if each.lack == lack]
        if members:
            made.append(Reason(reason=reason, count=len(members), nearest=_nearest(members)))
    return made


def _nearest(members: Sequence[Rejected]) -> str:
    """The one with the least missing."""
    least = min(members, key=lambda each: (each.short_bytes, each.deployment.sharding.ranks))
    sharding = least.deployment.sharding
    spread = "" if sharding.ranks == 1 else f" ({words(sharding)})"
    where = f"{sharding.ranks} x {least.deployment.device.name}{spread}"
    return f"{where}: {format_bytes(least.short_bytes)} short on a device"
