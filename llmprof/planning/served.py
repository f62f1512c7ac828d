"""What clients see of the configurations of a plan: predicted times, and the bounds that no prediction goes below.

A thin layer over `latency.serving`, which serves the requests in a simulation: passes are timed once for each way to
lie on a device, and equal loads are served once, however many replicas there are.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from math import ceil, inf

from llmprof.device import Device
from llmprof.errors import InputError
from llmprof.latency.common import peak
from llmprof.latency.compose import Chunk, Composer, Layout, Pass, Precision
from llmprof.latency.compose_bounds import DeviceKernels
from llmprof.latency.constants import DeviceModel
from llmprof.latency.local import NOTHING, Local
from llmprof.latency.serving.serve import ServedEstimate, busy_groups, estimated, replicas_of, run_of
from llmprof.latency.serving.simulate import Load, Served
from llmprof.latency.serving.stacks import Stack, stack_of
from llmprof.latency.serving.steps import Steps
from llmprof.latency.serving.variants import FULL, Variants
from llmprof.planning import times
from llmprof.planning.configuration import Configuration
from llmprof.planning.memory import Deployment
from llmprof.planning.search import Search
from llmprof.planning.slo import Times
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes

ROUNDED = 0.95
"""Passes are rounded to lengths near them (`latency.serving.steps`): what is below such a part of a time is below it
however either is rounded."""
GROWS = 2
"""By how much the sequences at a time are raised until they answer what arrives."""

Lane = tuple[str, Layout, tuple[int, ...], Dtypes]
"""What decides the times of passes: a device, how one replica lies on such devices, the dtypes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The middle of a prediction: times of a request, and what all replicas answer in a second."""

    times: Times
    requests_per_s: float


class Serving:
    """The requests of a search, served by its configurations.

    `rate`: so many requests arrive each second, at random times; None: as many clients as run at once, each of which
    asks again when it is answered. What `local` has was measured here, and comes before the catalogue's. Raises
    InputError where nothing is known of the kernels of such a model.
    """

    def __init__(self, search: Search, rate: float | None, local: Local = NOTHING) -> None:
        self.search, self.rate, self.demand, self.local = search, rate, search.ask.demand, local
        self.engine = "vllm" if search.engine == "vllm" else "none"
        self._stacks = {device.name: self._stack_of(device) for device in search.devices}
        self._lanes: dict[Lane, Steps] = {}
        self._least: dict[tuple[Lane, int, int], Times] = {}
        self._seen: dict[tuple[Lane, Load, int, float], Served] = {}
        self._most: dict[tuple[Lane, int], float] = {}
        self.simulated = 0
        """How many loads have been served: no more than there are different ones."""
        for dtypes in search.ask.dtypes:
            self._steps(search.deployment(search.devices[0], Sharding(), dtypes)).composer.ops(
                Pass(decode_sequences=1, decode_context=1)
            )

    def _stack_of(self, device: Device) -> Stack:
        stack = self.local.stack(stack_of(self.engine), "", device)
        return replace(stack, scheduler=replace(stack.scheduler, tokens=self.demand.chunk_tokens))

    @property
    def scheduler(self) -> str:
        """Its name, of all devices alike."""
        return stack_of(self.engine).scheduler.name

    def stack(self, c: Configuration) -> Stack:
        """The engine that serves `c`, with passes as large as are asked for."""
        return self._stacks[c.deployment.device.name]

    def at(self, rate: float) -> Serving:
        """The same requests at another rate; passes that have been timed stay so."""
        made = copy(self)
        made.rate = rate
        return made

    def over(self, search: Search) -> Serving:
        """The same requests in a search over other numbers of devices."""
        made = copy(self)
        made.search = search
        return made

    # --- bounds -----------------------------------------------------------------------------------

    def least(self, c: Configuration) -> Times:
        """The speed of light: a prompt that is alone, and a step of all that are in flight.

        Of requests that arrive as they like it is a step of one of them alone. Weights of 8 bits may be multiplied as
        such, where a device can: the peak is then that one.
        """
        lane = self._lane(c.deployment)
        key = (lane, c.replicas if c.deployment.sharding.expert_parallel > 1 else 1, 1 if self.rate else c.batch)
        found = self._least.get(key)
        if found is None:
            found = self._least[key] = self._light(c)
        return found

    def _light(self, c: Configuration) -> Times:
        deployment, sharding = c.deployment, c.deployment.sharding
        at = times.speeds(deployment.device, deployment.dtypes.activations)
        if c.unlinked is not None:
            at = replace(at, link_bytes=None)
        quicker = replace(at, flops=max(at.flops, int(self._peak(deployment))))
        passes = self.search.passes(deployment.dtypes)
        prefill, decode = c.prefill, c.decode
        if quicker != at:
            one_pass = c.prompt_tokens <= c.chunk_tokens
            prefill = times.prompt(passes.alone(sharding), quicker, one_pass=one_pass)
        if decode is not None and (self.rate is not None or quicker != at):
            batch = 1 if self.rate is not None else c.batch
            whole, part = (passes.decode(sharding, n) for n in (batch, max(1, batch // sharding.pipeline_parallel)))
            assert whole is not None
            assert part is not None
            decode = times.step(part.stages, whole.stages, quicker)
        return Times(ttft=prefill.seconds, tpot=0.0 if decode is None else decode.seconds)

    def _peak(self, deployment: Deployment) -> float:
        if deployment.dtypes.weights != "fp8":
            return 0.0
        try:
            return peak("fp8", DeviceModel.of(self.local.device(deployment.device)).figures)
        except InputError:
            return 0.0

    def alone(self, c: Configuration) -> Times:
        """What a request takes that meets no other, which is no more than what one takes that does.

        InputError where a kernel of it has no time.
        """
        steps, host, demand = self._steps(c.deployment), self.stack(c).host, self.demand
        whole = demand.prompt_tokens // demand.chunk_tokens
        first = steps.time(0, 0, (Chunk(tokens=min(demand.prompt_tokens, demand.chunk_tokens)),)).seconds
        ttft = host.round_trip_seconds + max(1, whole) * (first + host.step_seconds)
        tpot = 0.0
        if demand.output_tokens > 1:
            tpot = steps.time(1, demand.prompt_tokens + 1).seconds + host.step_seconds
        light = self.least(c)
        return Times(ttft=max(light.ttft, ROUNDED * ttft), tpot=max(light.tpot, ROUNDED * tpot))

    def busy(self, c: Configuration) -> float:
        """What a whole answer takes on average at least, as all clients of a closed loop are always served.

        N clients wait until all but the last N requests are answered. 0 where requests arrive as they like.
        """
        if self.rate is not None:
            return 0.0
        run, lanes = self.run(c)
        clients = run.load.concurrency
        return (1 - clients / run.load.requests) * clients * lanes / self.ceiling(c)

    def most(self, c: Configuration) -> float:
        """Requests per second that all replicas answer at most, as predicted.

        Where that is more than arrive, it may be too little: no more is tried than is needed.
        """
        run, lanes = self.run(c)
        room = run.batch
        wanted = inf if self.rate is None else self.rate / lanes / FULL
        ceiling = self.ceiling(c)
        if ceiling < wanted * lanes < inf:
            return ceiling
        # As many are in flight as arrive while one is answered: no fewer than if each met no other.
        least = wanted * self.alone(c).answer(self.demand.output_tokens) if wanted < inf else room
        at_once = 1 << ceil(least).bit_length()
        while True:
            found = self._answered(c, run, min(room, at_once))
            if found >= wanted or at_once >= room:
                return found * lanes
            at_once *= GROWS

    def answers(self, c: Configuration) -> bool:
        """Whether all that arrives is answered, with something to spare (`latency.serving.variants.FULL`)."""
        return self.rate is None or FULL * self.surely(c) >= self.rate or FULL * self.most(c) >= self.rate

    def surely(self, c: Configuration) -> float:
        """Requests per second that are answered in any case: as if no prompt shared a pass with other tokens.

        Passes that do both take less than two, as they read the weights once.
        """
        (run, lanes), demand = self.run(c), self.demand
        steps, host, room = run.steps, run.stack.host, run.batch
        whole, rest = divmod(demand.prompt_tokens, demand.chunk_tokens)
        sizes = [demand.chunk_tokens] * whole + [rest] * (rest > 0)
        chunks = [Chunk(tokens=size, prefix=demand.chunk_tokens * number) for number, size in enumerate(sizes)]
        prompt = sum(steps.time(0, 0, (chunk,)).seconds + host.step_seconds for chunk in chunks)
        step = steps.time(room, demand.prompt_tokens + demand.output_tokens).seconds + host.step_seconds
        return ROUNDED * lanes / steps.slack / (prompt + (demand.output_tokens - 1) * step / room)

    def _answered(self, c: Configuration, run: Variants, at_once: int) -> float:
        key = (self._lane(c.deployment), at_once)
        if key not in self._most:
            self.simulated += 1
            self._most[key] = replace(run, batch=at_once).most_requests_per_second()
        return self._most[key]

    def ceiling(self, c: Configuration) -> float:
        """Requests per second that are not reached however many run: all places taken in every pass, or passes that are
        full of prompts."""
        (run, lanes), demand = self.run(c), self.demand
        steps, host, room = run.steps, run.stack.host.step_seconds, run.batch
        full = Chunk(tokens=min(demand.prompt_tokens, demand.chunk_tokens))
        together = -(-demand.chunk_tokens // demand.prompt_tokens)
        chunks = max(1, demand.prompt_tokens // demand.chunk_tokens)
        prompts = steps.time(0, 0, (full._replace(sequences=together),)).seconds + host
        found = together / chunks / prompts
        if demand.output_tokens > 1:
            step = steps.time(room, demand.prompt_tokens + 1).seconds + host
            found = min(found, room / step / (demand.output_tokens - 1))
        return found / ROUNDED * lanes

    # --- what is served -----------------------------------------------------------------------------

    def seen(self, c: Configuration) -> Seen:
        """The middle of what clients see, no better than the bounds.

        All that arrives is answered, where `answers` says so: a run that begins and ends empty would say less.
        """
        run, lanes = self.run(c)
        key = (self._lane(c.deployment), run.load, run.batch, run.steps.slack)
        if key not in self._seen:
            self.simulated += 1
            self._seen[key] = run.own()
        own, least = self._seen[key], self.least(c)
        times = Times(ttft=max(own.mean_ttft, least.ttft), tpot=max(own.mean_tpot, least.tpot))
        clients = self.clients(c)
        if clients is None:
            return Seen(times=times, requests_per_s=self.rate or 0.0)
        answered = run.load.requests / own.seconds * busy_groups(run, lanes, clients)
        if times != Times(ttft=own.mean_ttft, tpot=own.mean_tpot):
            # Where a time is a bound, clients wait longer than those of the run did (Little's law).
            answered = min(answered, clients / times.answer(run.load.output_tokens))
        return Seen(times=times, requests_per_s=answered)

    def estimate(self, c: Configuration) -> ServedEstimate:
        """All that is predicted of `c`, ranges included, without the bounds."""
        run, lanes = self.run(c)
        self.seen(c)
        own = self._seen[self._lane(c.deployment), run.load, run.batch, run.steps.slack]
        replicas = lanes // c.deployment.sharding.pipeline_parallel
        return estimated(run, own, replicas=replicas, clients=self.clients(c))

    def clients(self, c: Configuration) -> int | None:
        """Clients of a closed loop, no more than are asked for; None where requests arrive as they like."""
        if self.rate is not None:
            return None
        return c.concurrency if self.search.ask.fill else min(c.concurrency, self.search.ask.demand.concurrency)

    def run(self, c: Configuration) -> tuple[Variants, int]:
        """The load of one group of sequences and what serves it, and how many groups there are."""
        steps = self._steps(c.deployment)
        return run_of(
            steps,
            self.stack(c),
            replace(self.demand, concurrency=c.concurrency),
            replicas=replicas_of(steps.composer.layout, c.deployment.sharding.ranks),
            request_rate=self.rate,
            slots=None if self.rate is None else c.batch,
        )

    # --- passes ---------------------------------------------------------------------------------------

    def _lane(self, deployment: Deployment) -> Lane:
        sharding = deployment.sharding
        return deployment.device.name, Layout.of(sharding), sharding.pipeline_layers, deployment.dtypes

    def _steps(self, deployment: Deployment) -> Steps:
        lane = self._lane(deployment)
        if lane not in self._lanes:
            composer = Composer(
                self.search.arch,
                kernels=DeviceKernels(DeviceModel.of(self.local.device(deployment.device))),
                layout=lane[1],
                precision=Precision.of(deployment.dtypes),
                engine=None if self.engine == "none" else self.engine,
            )
            self._lanes[lane] = Steps(composer, lane[2])
        return self._lanes[lane]
