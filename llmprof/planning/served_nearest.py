"""Where nothing keeps a service level: the nearest one that would be kept, by one change, each of them predicted."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Context, Decimal
from math import inf
from typing import Literal

from llmprof.errors import InputError
from llmprof.planning.configuration import Configuration
from llmprof.planning.served_search import Missed, ServedSearch
from llmprof.planning.slo import Metric, Slo, Target, Times

LOOKED_AT, TRIED_AGAIN = 64, 4
"""Configurations of which another load is looked for: of the first by their bounds the second by their passes, both of
those that answer most and of those that are quickest."""
HALVINGS = 12
"""How often a rate is halved before nothing is said."""
FINER = 6
"""How often the last half is halved again: to 2% or less."""
MORE_DEVICES = (2, 4)
"""Times the devices that were allowed, where those do not do."""

Change = Literal["ttft", "tpot", "both", "request_rate", "concurrency", "devices"]


@dataclass(frozen=True, eq=False, kw_only=True)
class NearestTarget:
    """What could be asked instead: one level or both (seconds), a rate, fewer requests at once, or more devices.

    `configuration` serves it. `concurrency` is None where that is as it was.
    """

    change: Change
    slo: Slo
    rate: float | None
    configuration: Configuration
    concurrency: int | None = None


def nearest_targets(search: ServedSearch) -> list[NearestTarget]:
    """One for each level that could be loosened alone, both together where neither would do, the load, and devices."""
    slo = search.target.slo
    found = [made for metric in slo.asked if (made := _loosened(search, metric)) is not None]
    if not found and len(slo.asked) > 1:
        found = [made for made in (_both(search),) if made is not None]
    fewer = _concurrency if search.target.rate is None else _rate
    return found + [made for made in (fewer(search), _more_devices(search)) if made is not None]


def below_light(search: ServedSearch) -> dict[Metric, Missed]:
    """The levels that no configuration keeps at its bounds, each with the one that comes nearest."""
    found: dict[Metric, Missed] = {}
    for metric in search.target.slo.asked:
        nearest = min(search.plan.configurations, key=lambda c: (search.serving.least(c).of(metric), c.gpus))
        least, most = search.serving.least(nearest).of(metric), search.target.slo.of(metric)
        if most is not None and least > most:
            found[metric] = Missed(configuration=nearest, stage="speed of light", metric=metric, value=least)
    return found


def _loosened(search: ServedSearch, metric: Metric) -> NearestTarget | None:
    """The least that one level would have to be, with the other and the rate as they are."""
    slo = replace(search.target.slo, **{metric: None})
    best = _quickest(search, slo, lambda times: times.of(metric))
    if best is None:
        return None
    times, c = best
    return NearestTarget(
        change=metric, slo=replace(slo, **{metric: times.of(metric)}), rate=search.target.rate, configuration=c
    )


def _both(search: ServedSearch) -> NearestTarget | None:
    """The least by which both would have to be loosened, by one factor."""
    slo = search.target.slo
    assert slo.ttft is not None
    assert slo.tpot is not None
    ttft, tpot = slo.ttft, slo.tpot
    best = _quickest(search, Slo(), lambda times: max(times.ttft / ttft, times.tpot / tpot))
    if best is None:
        return None
    times, c = best
    made = Slo(ttft=times.ttft, tpot=times.tpot)
    return NearestTarget(change="both", slo=made, rate=search.target.rate, configuration=c)


def _quickest(search: ServedSearch, slo: Slo, measure: Callable[[Times], float]) -> tuple[Times, Configuration] | None:
    """Of all that keep `slo` at the rate that is asked for the one with the least of `measure`."""
    asking = ServedSearch(search.plan, search.serving, Target(slo=slo, rate=search.target.rate))
    best: tuple[Times, Configuration] | None = None
    least = inf
    for c in sorted(asking.open, key=lambda each: (measure(asking.serving.least(each)), each.gpus)):
        if measure(asking.serving.least(c)) >= least:
            break
        alone = asking.alone(c)
        if alone is None or measure(alone) >= least:
            continue
        seen = asking.meets(c)
        if seen is not None and measure(seen.times) < least:
            least, best = measure(seen.times), (seen.times, c)
    return best


def _rate(search: ServedSearch) -> NearestTarget | None:
    """The highest rate at which one of the most promising configurations keeps the levels, to 2%."""
    tried = _promising(search)
    asked = search.target.rate
    assert asked is not None

    def at(slower: float) -> Configuration | None:
        return _first(search, tried, Target(slo=search.target.slo, rate=slower))

    high = _rounded(min(asked, max((_ceiling(search, c) for c in tried), default=asked)))
    best, low = None, high
    for _ in range(HALVINGS):
        low, high = _rounded(low / 2), low
        best = at(low) if low > 0 else None
        if best is not None:
            break
    if best is None:
        return None
    for _ in range(FINER):
        middle = _rounded((low + high) / 2)
        found = at(middle) if middle > low else None
        low, high, best = (low, middle, best) if found is None else (middle, high, found)
    return NearestTarget(change="request_rate", slo=search.target.slo, rate=low, configuration=best)


def _concurrency(search: ServedSearch) -> NearestTarget | None:
    """The most requests at once, fewer than are asked for, of which a promising configuration keeps the levels."""
    ask, target = search.plan.ask, search.target
    tried = _promising(search)

    def at(fewer: int) -> Configuration | None:
        asking = copy(search.serving.search)
        asking.ask = replace(ask, fill=False, demand=replace(ask.demand, concurrency=fewer))
        made = [asking.configured(c.deployment) for c in tried if c.replicas <= fewer]
        return _first(search, [c for c in made if isinstance(c, Configuration)], target)

    high = max((c.concurrency for c in tried), default=1) if ask.fill else ask.demand.concurrency
    best, low = (at(1), 1) if high > 1 else (None, 1)
    if best is None:
        return None
    while high - low > max(1, low // 50):
        # What is asked for may be a thousand times too much, so that large gaps are halved by their ratio.
        middle = round((low * high) ** 0.5) if high > 4 * low else (low + high) // 2
        found = at(middle)
        low, high, best = (low, middle, best) if found is None else (middle, high, found)
    return NearestTarget(
        change="concurrency", slo=target.slo, rate=None, configuration=best, concurrency=best.concurrency
    )


def _first(search: ServedSearch, tried: list[Configuration], target: Target) -> Configuration | None:
    """The best of those that are tried which meets another target."""
    serving = search.serving if target.rate is None else search.serving.at(target.rate)
    plan = replace(search.plan, configurations=tuple(tried))
    found = ServedSearch(plan, serving, target).best(1)
    return found[0] if found else None


def _promising(search: ServedSearch) -> list[Configuration]:
    """Those that answer most requests by the times of their passes, and those that are quickest with one alone."""
    every, slo = search.plan.configurations, search.target.slo

    def late(times: Times) -> float:
        """By how much the level that is missed most is."""
        return max(times.of(metric) / most for metric in slo.asked if (most := slo.of(metric)) is not None)

    def alone(c: Configuration) -> float:
        try:
            return late(search.serving.alone(c))
        except InputError:
            return inf

    many = sorted(every, key=lambda c: -c.requests_per_s)[:LOOKED_AT]
    found = sorted(many, key=lambda c: -_ceiling(search, c))[:TRIED_AGAIN]
    if slo.asked:
        quick = sorted(every, key=lambda c: late(search.serving.least(c)))[:LOOKED_AT]
        found += sorted(quick, key=alone)[:TRIED_AGAIN]
    return list(dict.fromkeys(found))


def _more_devices(search: ServedSearch) -> NearestTarget | None:
    """The fewest devices beyond those that are allowed; none where each would be filled up as these are."""
    ask, serving = replace(search.plan.ask, rank="gpus"), search.serving
    if ask.fill and search.target.rate is None:
        return None
    for times in MORE_DEVICES:
        wider = serving.search.asking(replace(ask, max_gpus=times * ask.max_gpus))
        found = ServedSearch(wider.plan(), serving.over(wider), search.target).best(1)
        if found:
            return NearestTarget(
                change="devices", slo=search.target.slo, rate=search.target.rate, configuration=found[0]
            )
    return None


def _rounded(rate: float) -> float:
    """Down to three digits, as it is written."""
    return float(Context(prec=3, rounding=ROUND_FLOOR).create_decimal(Decimal(rate)))


def _ceiling(search: ServedSearch, c: Configuration) -> float:
    """Requests per second that `c` may answer by the times of its passes; 0 where they have none."""
    try:
        return search.serving.ceiling(c)
    except InputError:
        return 0.0
