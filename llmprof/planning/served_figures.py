"""The figures of one served configuration: ranges, rates, cost, what decides the time of a token, and on what basis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.latency.compose import PassTime
from llmprof.latency.compose_bounds import Limit
from llmprof.latency.estimate import UNCALIBRATED, Basis
from llmprof.latency.serving.variants import Interval, Variants
from llmprof.planning.configuration import MILLION, SECONDS_PER_HOUR, Configuration
from llmprof.planning.energy import Power, power_of
from llmprof.planning.served import Seen, Serving
from llmprof.planning.slo import Slo, Times

Verdict = Literal["yes", "likely", "no"]
"""Whether a service level is kept: by all of the range, by its middle, or not by that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What clients of `configuration` see: seconds, and rates of all replicas together.

    `least` are the bounds, below which neither a value nor the low end of a range is. `bound_by` is what the most of a
    decode pass goes to, the engine's own time included, and `bound_share` how much of it (of a prompt's pass where
    nothing is decoded). `running` is how many sequences of a replica are decoded together in that pass. `power` is
    that of one device, None where nobody knows it.
    """

    configuration: Configuration
    least: Times
    ttft: Interval
    tpot: Interval
    requests_per_s: float
    running: int
    bound_by: Limit
    bound_share: float
    basis: Basis
    assumptions: tuple[str, ...]
    power: Power | None

    @property
    def times(self) -> Times:
        """The values themselves."""
        return Times(ttft=self.ttft.value, tpot=self.tpot.value)

    @property
    def high(self) -> Times:
        """The high ends of both ranges."""
        return Times(ttft=self.ttft.high, tpot=self.tpot.high)

    @property
    def label(self) -> str:
        """``calibrated``, ``uncalibrated (family)`` or ``uncalibrated (datasheet)``."""
        return self.basis if self.basis == "calibrated" else f"{UNCALIBRATED} ({self.basis})"

    @property
    def tokens_per_s(self) -> float:
        """Of answers."""
        return self.requests_per_s * self.configuration.output_tokens

    @property
    def tokens_per_s_per_gpu(self) -> float:
        """The same, of one device."""
        return self.tokens_per_s / self.configuration.gpus

    @property
    def tokens_per_s_per_user(self) -> float | None:
        """Of the tokens after the first of one request; None where there are none."""
        return 1 / self.tpot.value if self.tpot.value else None

    @property
    def cost_per_million(self) -> float | None:
        """Of tokens of answers; None without a price."""
        return cost_per_million(self.configuration, self.requests_per_s)

    @property
    def joules_per_million(self) -> float | None:
        """Of tokens of answers, by all devices at `power`; None where that is not known."""
        return None if self.power is None else self.power.joules(self.configuration.gpus, self.tokens_per_s / MILLION)

    @property
    def joules_per_request(self) -> float | None:
        """The same of a request, its prompt included."""
        return None if self.power is None else self.power.joules(self.configuration.gpus, self.requests_per_s)

    def verdict(self, slo: Slo) -> Verdict:
        """Whether it keeps `slo`."""
        if slo.missed(self.times):
            return "no"
        return "likely" if slo.missed(self.high) else "yes"


def cost_per_million(c: Configuration, requests_per_s: float) -> float | None:
    """Of tokens of answers, at so many requests per second; None without a price."""
    price = c.price_per_hour
    return None if price is None else price / SECONDS_PER_HOUR / (requests_per_s * c.output_tokens) * MILLION


def predicted(serving: Serving, c: Configuration) -> Predicted:
    """All figures of one configuration; `Serving.seen` has the middle of them for less."""
    run, _ = serving.run(c)
    found, seen, least = serving.estimate(c), serving.seen(c), serving.least(c)
    running = _running(run, seen)
    decodes = run.load.output_tokens > 1
    middle = run.load.prompt_tokens + run.load.output_tokens / 2
    bound_by, share = _binding(run, run.steps.time(running, middle) if decodes else found.prefill, running)
    return Predicted(
        configuration=c,
        least=least,
        ttft=_above(least.ttft, found.ttft),
        tpot=_above(least.tpot, found.tpot),
        requests_per_s=seen.requests_per_s,
        running=running,
        bound_by=bound_by,
        bound_share=share,
        basis=found.basis,
        assumptions=found.assumptions,
        power=power_of(c.deployment.device, serving.search.ask.watts),
    )


def _above(least: float, found: Interval) -> Interval:
    return Interval(value=max(least, found.value), low=max(least, found.low), high=max(least, found.high))


def _running(run: Variants, seen: Seen) -> int:
    """Sequences that are decoded at a time: all clients of a closed loop, else what arrives while one is answered."""
    if run.load.rate is None:
        return min(run.batch, run.load.concurrency)
    answered = run.load.rate * seen.times.tpot * (run.load.output_tokens - 1)
    return max(1, min(run.batch, round(answered)))


def _binding(run: Variants, took: PassTime, running: int) -> tuple[Limit, float]:
    """What most of a pass goes to, and its part of all of it, with what the engine adds to the kernels."""
    limits, host = dict(took.limits), run.stack.host
    limits["host"] = limits.get("host", 0.0) + host.step_seconds + host.sequence_seconds * running
    longest = max(limits, key=lambda limit: limits[limit])
    return longest, limits[longest] / sum(limits.values())
