"""What clients of a deployment see: time to the first token, time per further token, throughput, and what it costs.

`serve` is the question that a plan asks. `serve_with` takes what times passes from its caller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from llmprof.device_figures import Device
from llmprof.errors import InputError
from llmprof.latency.compose import MATTERS, WEAKEST, Chunk, Composer, Layout, Pass, PassTime, Precision
from llmprof.latency.compose_bounds import DeviceKernels
from llmprof.latency.constants import DeviceModel
from llmprof.latency.estimate import UNCALIBRATED, WIDE, Basis
from llmprof.latency.serving.scheduler import BUDGET
from llmprof.latency.serving.simulate import Load
from llmprof.latency.serving.simulate import Served as Seen
from llmprof.latency.serving.stacks import Stack, stack_of
from llmprof.latency.serving.steps import Steps
from llmprof.latency.serving.variants import Interval, Variants
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes

WAVES = 10
"""Requests per client of a closed loop: what benchmarks of served models send (InferenceMAX and NVIDIA's perf scripts
ask for ten times the concurrency, recalled). The first wave arrives at once and waits longest, and counts."""
PASSES, MOST_PASSES = 40_000, 1_000_000
"""Passes with prompts that a run has at most before it is given fewer waves, and that it may have with two."""
OPEN_REQUESTS = 400
"""Requests of an open loop: enough that a mean over random arrivals settles to some percent."""


class Served(Protocol):
    """How a model is served, as `planning.deployment.Deployment` has it."""

    @property
    def device(self) -> Device: ...
    @property
    def sharding(self) -> Sharding: ...
    @property
    def dtypes(self) -> Dtypes: ...
    @property
    def engine(self) -> str: ...


class Requests(Protocol):
    """What is asked, as `planning.demand.Demand` has it: `concurrency` requests at a time over all replicas."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def chunk_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Demanded:
    """Requests of equal length, and the tokens that a pass takes at most."""

    prompt_tokens: int
    output_tokens: int
    concurrency: int
    chunk_tokens: int = BUDGET


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedEstimate:
    """What clients see of a deployment; seconds, tokens and requests of all its replicas together.

    `ttft` is a range over what is not known of a scheduler (`assumptions` says what), with the engine's own as its
    value; `tpot` is the mean over requests. `slots` is how many sequences a replica was started for, `devices` how many
    there are. `decode` and `prefill` are the passes that a replica spends its time in: all slots at the middle of their
    answers, and one prompt. `least_ttft` and `least_tpot` are what one request alone takes at the speed of light.
    `basis` is the weakest of all that they rest on.
    """

    ttft: Interval
    tpot: Interval
    requests_per_second: float
    output_tokens_per_second: float
    devices: int
    slots: int
    decode: PassTime
    prefill: PassTime
    least_ttft: float
    least_tpot: float
    basis: Basis
    assumptions: tuple[str, ...]

    @property
    def tokens_per_second_per_device(self) -> float:
        """Output tokens."""
        return self.output_tokens_per_second / self.devices

    @property
    def tokens_per_second_per_user(self) -> float:
        """Of the tokens after the first of one request."""
        return 1 / self.tpot.value if self.tpot.value else float("inf")

    @property
    def label(self) -> str:
        """``calibrated``, or ``uncalibrated (family)``."""
        return self.basis if self.basis == "calibrated" else f"{UNCALIBRATED} ({self.basis})"

    def cost_per_million_tokens(self, price_per_device_hour: float) -> float:
        """Of output tokens, in the currency of the price. InputError for a price that is no positive number."""
        if not 0 < price_per_device_hour < float("inf"):
            raise InputError(f"the price per device and hour is {price_per_device_hour}; it must be a positive number")
        return price_per_device_hour * self.devices / 3600 / self.output_tokens_per_second * 1e6

    def joules_per_token(self, watts_per_device: float | None) -> float | None:
        """Of output tokens, at that power all the time; None where no power is known of the device."""
        if watts_per_device is None:
            return None
        if not 0 < watts_per_device < float("inf"):
            raise InputError(f"the power of a device is {watts_per_device} W; it must be a positive number")
        return watts_per_device * self.devices / self.output_tokens_per_second


def serve(
    arch: ArchSpec,
    deployment: Served,
    demand: Requests,
    *,
    scheduler: str | None = None,
    request_rate: float | None = None,
    engine: str | None = None,
    slots: int | None = None,
    step_seconds: float | None = None,
) -> ServedEstimate:
    """What clients of `deployment` see, in a closed loop of `demand.concurrency` or at `request_rate` per second.

    `engine` is ``vllm``, ``sglang``, ``trtllm`` or ``none`` (kernels alone), by default the deployment's; `scheduler`
    takes the place of the engine's own (``static``, ``continuous``, ``chunked``, ``prefill-first``). `slots` is how
    many sequences a replica is started for, at most those that fit (`planning.inverse.largest_batch`); by default those
    of the demand, without asking whether they fit. `step_seconds` is what this host adds to a pass, as `fit.fit_step`
    finds it from served points.

    Raises InputError where the architecture, its layout or its formats have no times, where the demand is none, and
    for a rate that the deployment cannot answer.
    """
    name = engine or ("none" if deployment.engine == "architecture" else deployment.engine)
    stack = stack_of(name)
    if scheduler is not None:
        stack = stack.with_scheduler(scheduler)
    if step_seconds is not None:
        stack = stack.with_step(step_seconds, "a constant of this deployment")
    stack = replace(stack, scheduler=replace(stack.scheduler, tokens=demand.chunk_tokens))
    composer = Composer(
        arch,
        kernels=DeviceKernels(DeviceModel.of(deployment.device)),
        layout=Layout.of(deployment.sharding),
        precision=Precision.of(deployment.dtypes),
        engine=None if name == "none" else stack.engine,
    )
    return serve_with(
        Steps(composer, deployment.sharding.pipeline_layers),
        stack,
        demand,
        replicas=replicas_of(composer.layout, deployment.sharding.ranks),
        request_rate=request_rate,
        slots=slots,
    )


def replicas_of(layout: Layout, ranks: int) -> int:
    """Independent copies of the attention among `ranks` devices, each of which has requests of its own."""
    return ranks // (layout.tensor * layout.pipeline)


def serve_with(
    steps: Steps,
    stack: Stack,
    demand: Requests,
    *,
    replicas: int = 1,
    request_rate: float | None = None,
    slots: int | None = None,
    waves: int = WAVES,
) -> ServedEstimate:
    """`serve` with passes timed by `steps`, the requests shared evenly by `replicas` of each pipeline's lanes.

    Stages of a pipeline work on as many groups of sequences at a time: each group is served as if it were alone, with
    its share of the requests, and waits for the deepest stage where stages have unequally many layers.
    """
    run, lanes = run_of(steps, stack, demand, replicas=replicas, request_rate=request_rate, slots=slots, waves=waves)
    run.check_rate(lanes)
    return estimated(run, run.own(), replicas=replicas, clients=None if request_rate else demand.concurrency)


def run_of(
    steps: Steps,
    stack: Stack,
    demand: Requests,
    *,
    replicas: int = 1,
    request_rate: float | None = None,
    slots: int | None = None,
    waves: int = WAVES,
) -> tuple[Variants, int]:
    """The load of one group of sequences, and how many groups there are. InputError for a load that is too large."""
    layout = steps.composer.layout
    lanes = replicas * layout.pipeline
    batch = max(1, -(-demand.concurrency // lanes))
    room = batch if slots is None else max(1, slots // layout.pipeline)
    chunks = -(-demand.prompt_tokens // stack.scheduler.tokens)
    load = Load(
        prompt_tokens=demand.prompt_tokens,
        output_tokens=demand.output_tokens,
        requests=batch * _fewer(waves, batch * chunks) if request_rate is None else OPEN_REQUESTS,
        concurrency=batch,
        rate=None if request_rate is None else request_rate / lanes,
    )
    if request_rate is not None:
        _fewer(waves, room * chunks)  # what it answers at most is found with all slots taken
    else:
        steps = steps.of_groups(-(-demand.concurrency // replicas))
    return Variants(steps=steps, stack=stack, load=load, batch=room), lanes


def estimated(
    run: Variants, own: Seen, *, replicas: int, clients: int | None = None, ttft: Interval | None = None
) -> ServedEstimate:
    """What clients of all replicas see, where those of one group see `own`, the run under its own assumptions.

    `clients` are those of a closed loop of all groups, of which the fullest group has its share rounded up.
    `ttft` takes the place of the range of a first token, which needs three further runs, where nobody asks for it.
    """
    steps, load, layout = run.steps, run.load, run.steps.composer.layout
    answered = load.requests / own.seconds * busy_groups(run, replicas * layout.pipeline, clients)
    decode = steps.time(min(run.batch, load.concurrency), load.prompt_tokens + load.output_tokens / 2)
    prefill = steps.time(0, 0, (Chunk(tokens=min(load.prompt_tokens, run.stack.scheduler.tokens)),))
    least_ttft = steps.composer.time(Pass(chunks=(Chunk(tokens=load.prompt_tokens),))).floor
    least_tpot = steps.composer.time(Pass(decode_sequences=1, decode_context=load.prompt_tokens + 1)).floor
    host = run.stack.host
    beside = host.step_seconds + host.sequence_seconds * min(run.batch, load.concurrency)
    assumed: Basis = "calibrated"
    if not run.stack.fitted and beside >= MATTERS * (beside + decode.seconds):
        assumed = "family"  # a quarter of every token is what the host of others took
    basis = max(decode.basis, prefill.basis, assumed, key=WEAKEST.__getitem__)
    return ServedEstimate(
        ttft=_wide(run.ttft(own) if ttft is None else ttft, basis, least_ttft),
        tpot=_wide(run.tpot(own), basis, least_tpot),
        requests_per_second=answered,
        output_tokens_per_second=answered * load.output_tokens,
        devices=replicas * layout.tensor * layout.pipeline,
        slots=run.batch,
        decode=decode,
        prefill=prefill,
        least_ttft=least_ttft,
        least_tpot=least_tpot,
        basis=basis,
        assumptions=run.assumptions(),
    )


def busy_groups(run: Variants, groups: int, clients: int | None) -> float:
    """How many of `groups` as full as that of `run` it takes for so many `clients` of a closed loop.

    A client is taken to wait as long in each: those of groups with one client less are answered a little sooner.
    """
    return groups if clients is None else min(groups, clients / run.load.concurrency)


def _fewer(waves: int, passes: int) -> int:
    """As many of `waves`, each of so many passes with prompts, as a run may have. InputError for more than it can."""
    if 2 * passes > MOST_PASSES:
        raise InputError(
            f"requests whose prompts take {passes:,} passes are more than can be simulated ({MOST_PASSES // 2:,}); "
            "ask for less concurrency, shorter prompts or a larger token budget"
        )
    return max(2, min(waves, PASSES // passes))


def _wide(found: Interval, basis: Basis, least: float) -> Interval:
    """`found` with ends at least a factor of two away where the kernels are not calibrated, and none below light.

    A front end that sends a first token late has the second at once, and so few tokens come faster than light. An
    answer of one token has no time per further token: 0.
    """
    value = max(found.value, least) if found.value else 0.0
    found = replace(found, value=value, high=max(found.high, value))
    if basis != "calibrated":
        found = replace(found, low=min(found.low, found.value / WIDE), high=max(found.high, found.value * WIDE))
    return replace(found, low=min(found.value, max(found.low, least)))
