"""Where nothing keeps a service level: the nearest one that would be kept, by one change, each of them predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from llmprof.errors import InputError
from llmprof.planning.configuration import Configuration
from llmprof.planning.served_search import Missed, ServedSearch
from llmprof.planning.slo import Metric, Slo, Target, Times

LOOKED_AT, TRIED_AGAIN = 64, 6
"""Configurations of which the highest rate is looked for: of the first by their bounds the second by their passes."""
HALVINGS = 8
"""How often a rate is halved before nothing is said."""
FINER = 6
"""How often the last half is halved again: to 2% or less."""
MORE_DEVICES = (2, 4)
"""Times the devices that were allowed, where too many requests arrive for those."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NearestTarget:
    """What could be asked instead: one level or both (seconds), a rate, or more devices; `configuration` serves it."""

    change: Literal["ttft", "tpot", "both", "request_rate", "devices"]
    slo: Slo
    rate: float | None
    configuration: Configuration


def nearest_targets(search: ServedSearch) -> list[NearestTarget]:
    """One for each level that could be loosened alone, both together where neither would do, the rate, and devices."""
    slo = search.target.slo
    found = [made for metric in slo.asked if (made := _loosened(search, metric)) is not None]
    if not found and len(slo.asked) > 1:
        found = [made for made in (_both(search),) if made is not None]
    found += [made for made in (_rate(search), _more_devices(search)) if made is not None]
    return found


def below_light(search: ServedSearch) -> dict[Metric, Missed]:
    """The levels that not even bounds keep, where that is why nothing is left: each with the nearest configuration.

    Empty where something else is the matter.
    """
    missed = search.missed.values()
    if any(each.stage != "speed of light" or each.metric == "rate" for each in missed) or not missed:
        return {}
    found: dict[Metric, Missed] = {}
    for metric in search.target.slo.asked:
        of_metric = [each for each in missed if each.metric == metric]
        if of_metric:
            found[metric] = min(of_metric, key=lambda each: (each.value, each.configuration.gpus))
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
    rate, slo = search.target.rate, search.target.slo
    if rate is None:
        return None
    likely = sorted(search.plan.configurations, key=lambda c: -c.requests_per_s)[:LOOKED_AT]
    tried = sorted(likely, key=lambda c: -_promise(search, c))[:TRIED_AGAIN]

    def at(slower: float) -> Configuration | None:
        serving = search.serving.at(slower)
        for c in tried:
            try:
                kept = serving.answers(c) and not slo.missed(serving.seen(c).times)
            except InputError:
                continue
            if kept:
                return c
        return None

    low = rate
    best = None
    for _ in range(HALVINGS):
        low, high = low / 2, low
        best = at(low)
        if best is not None:
            break
    if best is None:
        return None
    for _ in range(FINER):
        middle = (low + high) / 2
        found = at(middle)
        low, high, best = (low, middle, best) if found is None else (middle, high, found)
    return NearestTarget(change="request_rate", slo=slo, rate=low, configuration=best)


def _more_devices(search: ServedSearch) -> NearestTarget | None:
    """The fewest devices beyond those that are allowed, where those answer fewer requests than arrive."""
    if not any(missed.metric == "rate" for missed in search.missed.values()):
        return None
    ask, serving = replace(search.plan.ask, rank="gpus"), search.serving
    for times in MORE_DEVICES:
        wider = serving.search.asking(replace(ask, max_gpus=times * ask.max_gpus))
        found = ServedSearch(wider.plan(), serving.over(wider), search.target).best(1)
        if found:
            return NearestTarget(
                change="devices", slo=search.target.slo, rate=search.target.rate, configuration=found[0]
            )
    return None


def _promise(search: ServedSearch, c: Configuration) -> float:
    """Requests per second that `c` may answer by the times of its passes; 0 where they have none."""
    try:
        return search.serving.ceiling(c)
    except InputError:
        return 0.0
