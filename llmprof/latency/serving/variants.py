"""One load served under an engine's own assumptions and under those that could as well hold: the range of a TTFT.

The kernels' times say how fast tokens come to within some percent. When the first one comes is decided by what nobody
states of a run: whether requests keep in step and are computed together, whether one waits for a slot, and how much of
the run is its start. Each is varied alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmprof.errors import InputError
from llmprof.latency.compose_pass import Chunk
from llmprof.latency.serving.scheduler import Scheduler
from llmprof.latency.serving.simulate import Load, Served, StepTime, simulate
from llmprof.latency.serving.stacks import Stack
from llmprof.latency.serving.steps import Steps
from llmprof.units import number_of

FULL = 0.98
"""Share of what a deployment can answer at most above which an open loop has no steady state to speak of."""
SATURATING = 4
"""Waves of requests by which the most that a deployment answers is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure between two bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """`load` on one group of at most `batch` sequences; `closed` loops are started for exactly that many."""

    steps: Steps
    stack: Stack
    load: Load
    batch: int

    def own(self) -> Served:
        """Under the engine's own assumptions, at the times themselves."""
        return self._served(self.stack.scheduler, self.steps.seconds())

    def ttft(self, own: Served) -> Interval:
        """The mean of `own`, and the least and most of its variants at the ends of the kernels' intervals."""
        means = [own.mean_ttft, _mean(own.ttft[self._first_wave :]) or own.mean_ttft]
        if self.load.rate is None:
            means.append(self._out_of_step(own).mean_ttft)
        means += [self._served(other, self.steps.seconds()).mean_ttft for other in self._others()]
        low, high = self._spread()
        return Interval(value=own.mean_ttft, low=min(means) * low, high=max(means) * high)

    def tpot(self, own: Served) -> Interval:
        """The mean of `own` between those with all kernels and the host at the low and high ends of their intervals."""
        scheduler, stack = self.stack.scheduler, self.stack
        low = self._served(scheduler, self.steps.low(), stack.low).mean_tpot
        high = self._served(scheduler, self.steps.high(), stack.high).mean_tpot
        return Interval(value=own.mean_tpot, low=min(low, own.mean_tpot), high=max(high, own.mean_tpot))

    def most_requests_per_second(self) -> float:
        """What the group answers when all its slots are always taken."""
        load = replace(self.load, rate=None, concurrency=self.batch, requests=self.batch * SATURATING)
        served = replace(self, load=load)._served(self.stack.scheduler, self.steps.seconds())
        return load.requests / served.seconds

    def check_rate(self, groups: int) -> None:
        """InputError where an open loop asks more of `groups` such groups than they can answer."""
        if self.load.rate is None:
            return
        most = self.most_requests_per_second()
        if self.load.rate > FULL * most:
            raise InputError(
                f"{self.load.rate * groups:.4g} requests per second are more than the deployment can answer: with "
                f"{self.batch * groups} at a time it answers {most * groups:.4g} per second at most; lower the rate "
                "or add devices"
            )

    def assumptions(self) -> tuple[str, ...]:
        """What the range is over, in sentences."""
        scheduler, host = self.stack.scheduler, self.stack.host
        requests = number_of(self.load.requests, "request")
        loop = (
            f"closed loop of {number_of(self.load.concurrency, 'client')}, {requests}, the first of all at once"
            if self.load.rate is None
            else f"{requests} at random times, {self.load.rate:.4g} per second on average"
        )
        together = (
            "one prompt" if scheduler.prompts == 1 else f"up to {number_of(scheduler.tokens, 'token')} of prompts"
        )
        return (
            f"{loop}, per group of up to {number_of(self.batch, 'sequence')}",
            f"scheduler {scheduler.name}: {together} in a pass; the range has both ways",
            f"a slot is never used: {'assumed' if scheduler.spare_slots else 'not assumed'}; the range has both ways",
            "the range has the run without its start, and one in which no two requests come together",
            f"host: {host.basis}",
        )

    def _out_of_step(self, own: Served) -> Served:
        """The clients start evenly over the time of one request, so that no two requests come together."""
        whole = own.mean_ttft + own.mean_tpot * (self.load.output_tokens - 1)
        load = replace(self.load, stagger_seconds=whole / self.load.concurrency)
        return replace(self, load=load)._served(self.stack.scheduler, self.steps.seconds())

    @property
    def _first_wave(self) -> int:
        return self.load.concurrency if self.load.rate is None else self.load.requests // 10

    def _others(self) -> list[Scheduler]:
        own = self.stack.scheduler
        others = [replace(own, prompts=None if own.prompts == 1 else 1)]
        if self.load.rate is None:
            others.append(replace(own, spare_slots=0 if own.spare_slots else 1))
        return others

    def _spread(self) -> tuple[float, float]:
        """The ends of the interval of a pass with one prompt, as factors."""
        prompt = Chunk(tokens=min(self.load.prompt_tokens, self.stack.scheduler.tokens))
        time = self.steps.time(0, 0, (prompt,))
        return time.low / time.seconds, time.high / time.seconds

    def _served(self, scheduler: Scheduler, step: StepTime, host: float = 1.0) -> Served:
        paced = replace(self.stack.host, step_seconds=self.stack.host.step_seconds * host)
        slots = scheduler.slots(self.batch) if self.load.rate is None else self.batch
        return simulate(self.load, scheduler=scheduler, host=paced, slots=slots, step=step)


def _mean(values: tuple[float, ...]) -> float | None:
    return sum(values) / len(values) if values else None
