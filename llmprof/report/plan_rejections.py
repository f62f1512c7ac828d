"""What a plan rejected and why, and what would have room where nothing has."""

from __future__ import annotations

from collections.abc import Sequence

from llmprof.planning.degrees import words
from llmprof.planning.nearest import Nearest
from llmprof.planning.rejections import rejections
from llmprof.planning.search import Plan
from llmprof.report.plan_tables import heading, settings
from llmprof.report.tables import Table


def rejection_tables(plan: Plan) -> list[Table]:
    """What was rejected and why: for want of room, of a figure, or of a degree that divides what it has to."""
    room = rejections(plan)
    made = []
    if room:
        made.append(
            Table(
                title=f"Rejected: {len(plan.rejected):,} of {plan.considered:,} configurations",
                columns=("why", "the nearest of them", "how many"),
                rows=tuple((each.reason, each.nearest, f"{each.count:,}") for each in room),
                left=2,
            )
        )
    by_reason: dict[str, list[str]] = {}
    for device, why in plan.unplanned:
        by_reason.setdefault(why, []).append(device.name)
    notes = [f"{why}: {', '.join(names)}" for why, names in by_reason.items()]
    alike: dict[str, list[str]] = {}
    for each in plan.refused:
        # What is wrong with one degree begins with its number, and goes on alike for all that are wrong alike.
        _, says, rest = each.why.partition(f" is {each.what[2:]}, ")
        alike.setdefault(rest.removeprefix("which ").removeprefix("but it ") if says else each.why, []).append(
            each.what
        )
    notes += [f"{', '.join(whats)}: {why}" for why, whats in alike.items()]
    if notes:
        made.append(Table(title="Not tried", columns=(), rows=(), notes=tuple(notes)))
    return made


def nothing_table(plan: Plan, found: Sequence[Nearest]) -> Table:
    """What would have room where nothing has, by one change each."""
    rows = tuple(
        (
            _change(each),
            f"{each.deployment.sharding.ranks} x {each.deployment.device.name}",
            words(each.deployment.sharding),
        )
        for each in found
    )
    notes = ["Nothing has room. By one of these changes alone something would, as the same search has found."]
    if not found:
        notes = [
            "Nothing has room, nor by one change: more devices, narrower weights or cache, fewer or shorter requests."
        ]
    columns = ("change", "then on", "spread") if found else ()
    return Table(title=heading(plan), columns=columns, rows=rows, left=3, notes=(*settings(plan), *notes))


def _change(each: Nearest) -> str:
    options = {
        "device": "--device",
        "devices": "--max-gpus",
        "weight_dtype": "--weight-dtype",
        "kv_dtype": "--kv-dtype",
        "prompt_tokens": "--context",
        "concurrency": "--concurrency",
    }
    return f"{options[each.change]} {each.value}"
