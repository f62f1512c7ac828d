"""Which configurations of a plan keep a service level, best first, predicting no more of them than is asked for.

Bounds come first: what misses at the speed of light is rejected without a prediction. Then configurations are taken in
the order of the best that they could be, so that those behind need not be predicted once enough have been found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf
from typing import Literal, assert_never

from llmprof.errors import InputError
from llmprof.latency.serving.variants import FULL
from llmprof.planning.configuration import Configuration
from llmprof.planning.pareto import front_of_bounds
from llmprof.planning.search import Plan
from llmprof.planning.served import Seen, Serving
from llmprof.planning.served_figures import cost_per_million
from llmprof.planning.slo import Metric, Target, Times

Stage = Literal["speed of light", "predicted", "no times"]
"""Where a configuration fell out: at its bounds, by its predicted times, or for want of any."""

LIGHT, ALONE, ALL = range(3)
"""What is known of a configuration that is looked at: its bounds, what one request takes, or what all of them do."""

ENOUGH = 10
"""Configurations that are listed where nobody says."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Missed:
    """A configuration that does not serve what is asked: the metric, and what it is at least.

    `value` is in seconds, of "rate" in requests per second at most; `why` says in words what has no times.
    """

    configuration: Configuration
    stage: Stage
    metric: Metric | Literal["rate"] | None = None
    value: float = 0.0
    why: str = ""


class ServedSearch:
    """The question what of `plan` meets `target`, answered configuration by configuration and kept."""

    def __init__(self, plan: Plan, serving: Serving, target: Target) -> None:
        self.plan, self.serving, self.target = plan, serving, target
        self.output_tokens = serving.demand.output_tokens
        self.missed: dict[Configuration, Missed] = {}
        self.seen: dict[Configuration, Seen] = {}
        self.open: list[Configuration] = []
        """Those that meet it at the speed of light."""
        for c in plan.configurations:
            missed = self._at_the_speed_of_light(c)
            if missed is None:
                self.open.append(c)
            else:
                self.missed[c] = missed

    # --- one of them ------------------------------------------------------------------------------

    def meets(self, c: Configuration) -> Seen | None:
        """What clients of `c` see; None where that is not what is asked, and `missed` then says why."""
        if c not in self.seen and self.alone(c) is not None:
            missed = self._served(c)
            if missed is not None:
                self.missed[c] = missed
        return None if c in self.missed else self.seen[c]

    def alone(self, c: Configuration) -> Times | None:
        """What a request takes that meets no other; None where that is not what is asked, or has no times."""
        if c in self.missed:
            return None
        try:
            alone = self.serving.alone(c)
            missed = self._alone(c, alone) or self._busy(c)
        except InputError as error:
            missed = Missed(configuration=c, stage="no times", why=str(error))
        if missed is not None:
            self.missed[c] = missed
            return None
        return alone

    def _alone(self, c: Configuration, alone: Times) -> Missed | None:
        for metric in self.target.slo.missed(alone):
            return Missed(configuration=c, stage="predicted", metric=metric, value=alone.of(metric))
        return None

    def _busy(self, c: Configuration) -> Missed | None:
        """Whether a whole answer takes longer than both levels together leave for it."""
        slo, behind = self.target.slo, self.output_tokens - 1
        if slo.ttft is None or slo.tpot is None or behind < 1:
            return None
        tpot = (self.serving.busy(c) - slo.ttft) / behind
        return Missed(configuration=c, stage="predicted", metric="tpot", value=tpot) if tpot > slo.tpot else None

    def latency(self, times: Times) -> float:
        """What configurations are compared by."""
        return self.target.slo.latency(times, self.output_tokens)

    def _at_the_speed_of_light(self, c: Configuration) -> Missed | None:
        least, rate = self.serving.least(c), self.target.rate
        for metric in self.target.slo.missed(least):
            return Missed(configuration=c, stage="speed of light", metric=metric, value=least.of(metric))
        if rate is not None and c.requests_per_s < rate:
            return Missed(configuration=c, stage="speed of light", metric="rate", value=c.requests_per_s)
        return None

    def _served(self, c: Configuration) -> Missed | None:
        serving = self.serving
        try:
            if not serving.answers(c):
                return Missed(configuration=c, stage="predicted", metric="rate", value=FULL * serving.most(c))
            seen = self.seen[c] = serving.seen(c)
        except InputError as error:
            return Missed(configuration=c, stage="no times", why=str(error))
        for metric in self.target.slo.missed(seen.times):
            return Missed(configuration=c, stage="predicted", metric=metric, value=seen.times.of(metric))
        return None

    # --- all of them ------------------------------------------------------------------------------

    def best(self, limit: int | None = ENOUGH) -> list[Configuration]:
        """Those that meet it, best first: of each number of a device in each choice of dtypes the best way to spread.

        The order is that of `--rank`, then of the latency. At most `limit`; None for all.
        """
        found: dict[object, Configuration] = {}
        # Each is taken up with the key that it would have at the speed of light, then as if it met no other request,
        # then with its own: the first that comes up with its own is the best that is left.
        heap = [(self._at_light(c), number, LIGHT, c) for number, c in enumerate(self.open)]
        heapify(heap)
        while heap and (limit is None or len(found) < limit):
            _, number, known, c = heappop(heap)
            same = c.deployment.device.name, c.gpus, c.deployment.dtypes
            if same in found:
                continue
            if known == ALL:
                found[same] = c
                continue
            key = self._if_alone(c) if known == LIGHT else self._as_seen(c)
            if key is not None:
                heappush(heap, (key, number, known + 1, c))
        return list(found.values())

    def front(self) -> list[Configuration]:
        """Of those that meet it the ones that none is both as cheap and as quick as, cheapest first."""

        def light(c: Configuration) -> float:
            return self.latency(self.serving.least(c))

        def alone(c: Configuration) -> float:
            times = self.alone(c)
            if times is None:
                return 0.0
            whole = len(self.target.slo.asked) != 1
            return max(self.latency(times), self.serving.busy(c) if whole else 0.0)

        def latency(c: Configuration) -> float | None:
            seen = self.meets(c)
            return None if seen is None else self.latency(seen.times)

        return front_of_bounds(self.open, cost=self.cost, bounds=(light, alone), latency=latency)

    def cost(self, c: Configuration) -> float:
        """What configurations cost: the price of an hour, or devices where nothing has a price."""
        if not self.plan.ask.prices:
            return c.gpus
        return inf if c.price_per_hour is None else c.price_per_hour

    @property
    def unpredicted(self) -> Sequence[Configuration]:
        """Of those that meet it at the speed of light the ones that nobody had to ask about."""
        return [c for c in self.open if c not in self.missed and c not in self.seen]

    def _at_light(self, c: Configuration) -> tuple[float, ...]:
        return self._key(c, self.serving.least(c), c.requests_per_s)

    def _if_alone(self, c: Configuration) -> tuple[float, ...] | None:
        times = self.alone(c)
        return None if times is None else self._key(c, times, min(c.requests_per_s, self.serving.ceiling(c)))

    def _as_seen(self, c: Configuration) -> tuple[float, ...] | None:
        seen = self.meets(c)
        return None if seen is None else self._key(c, seen.times, seen.requests_per_s)

    def _key(self, c: Configuration, times: Times, requests_per_s: float) -> tuple[float, ...]:
        behind = (c.gpus, self.latency(times), times.answer(self.output_tokens))
        match self.plan.ask.rank:
            case "gpus":
                return behind
            case "price":
                return (_or_last(c.price_per_hour), *behind)
            case "cost":
                return (_or_last(cost_per_million(c, requests_per_s)), *behind)
            case "decode":
                return (times.tpot, *behind)
            case "prefill":
                return (times.ttft, *behind)
            case "throughput":
                return (-requests_per_s, *behind)
        assert_never(self.plan.ask.rank)


def _or_last(price: float | None) -> float:
    return inf if price is None else price
