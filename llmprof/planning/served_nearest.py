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

TRIED_AGAIN = 6
"""Configurations of which the highest rate is looked for."""
HALVINGS = 8
"""How often a rate is halved before nothing is said, and how finely the last half is divided."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NearestTarget:
    """What could be asked instead: one level or both (seconds), or a rate; `configuration` would serve it."""

    change: Literal["ttft", "tpot", "both", "request_rate"]
    slo: Slo
    rate: float | None
    configuration: Configuration


def nearest_targets(search: ServedSearch) -> list[NearestTarget]:
    """One for each level that could be loosened alone, both together where neither would do, and the rate."""
    slo = search.target.slo
    found = [made for metric in slo.asked if (made := _loosened(search, metric)) is not None]
    if not found and len(slo.asked) > 1:
        found = [made for made in (_both(search),) if made is not None]
    slower = _rate(search)
    return found if slower is None else [*found, slower]


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
    """The highest rate at which one of the most promising configurations keeps the levels, to some percent."""
    rate, slo = search.target.rate, search.target.slo
    if rate is None:
        return None
    tried = sorted(search.plan.configurations, key=lambda c: -_promise(search, c))[:TRIED_AGAIN]

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
    for _ in range(HALVINGS // 2):
        middle = (low + high) / 2
        found = at(middle)
        low, high, best = (low, middle, best) if found is None else (middle, high, found)
    return NearestTarget(change="request_rate", slo=slo, rate=low, configuration=best)


def _promise(search: ServedSearch, c: Configuration) -> float:
    """Requests per second that `c` is known to answer, or may at best; less of it where its levels are missed."""
    missed = search.missed.get(c)
    if missed is not None and missed.stage == "no times":
        return 0.0
    if missed is not None and missed.metric == "rate":
        return min(missed.value, c.requests_per_s)
    return c.requests_per_s / 2
