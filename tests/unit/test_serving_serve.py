"""What clients of a deployment see: figures that follow from each other, ranges, prices, refusals, a fitted constant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog, device
from llmprof.errors import InputError
from llmprof.latency.compose import Chunk, Composer, Layout, Pass, PassTime
from llmprof.latency.estimate import Basis, Estimate
from llmprof.latency.op import Gemm, Launch, Op
from llmprof.latency.serving.fit import Point, fit_step
from llmprof.latency.serving.host import IDEAL
from llmprof.latency.serving.scheduler import Scheduler
from llmprof.latency.serving.serve import Demanded, ServedEstimate, serve, serve_with
from llmprof.latency.serving.stacks import BARE, TRTLLM, VLLM, Stack
from llmprof.latency.serving.steps import Steps, gathered, rounded
from llmprof.planning.demand import Demand
from llmprof.planning.deployment import Deployment
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes

LLAMA = catalog.find("llama-3.1-8b").arch()
H100 = Deployment(device=device.find("h100-sxm"))
DEMAND = Demand(prompt_tokens=512, output_tokens=64, concurrency=8)


class Products:
    """A pass takes `seconds`: each of its 129 matrix products an equal part, and nothing else any time."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    def time(self, op: Op) -> Estimate:
        seconds = self.seconds / 129 if isinstance(op, Gemm) else 0.0
        basis: Basis = "datasheet" if isinstance(op, Launch) else "calibrated"
        return Estimate(seconds=seconds, low=seconds / 2, high=seconds * 2, basis=basis)

    def floors(self, op: Op) -> tuple[float, float]:
        return 0.0, 0.0


def seconds_each(stack: Stack = BARE, layout: Layout | None = None, **options: object) -> ServedEstimate:
    """Passes of one second: 3 clients, prompts of 4 tokens, answers of 3."""
    steps = Steps(Composer(LLAMA, kernels=Products(), layout=layout or Layout()))
    demand = Demanded(prompt_tokens=4, output_tokens=3, concurrency=3)
    return serve_with(steps, stack, demand, waves=2, **options)  # type: ignore[arg-type]


def test_figures_of_passes_of_a_second() -> None:
    # Each wave is three passes: prompts of all, two more tokens. 6 requests, 18 tokens in 6 s.
    found = seconds_each()
    assert found.tpot.value == pytest.approx(1)
    assert (found.tpot.low, found.tpot.high) == pytest.approx((0.5, 2))
    assert found.ttft.value == pytest.approx(1)
    assert found.requests_per_second == pytest.approx(1)
    assert found.output_tokens_per_second == pytest.approx(3)
    assert found.tokens_per_second_per_user == pytest.approx(1)
    assert found.tokens_per_second_per_device == pytest.approx(3)
    assert (found.devices, found.slots, found.label) == (1, 3, "calibrated")


def test_a_host_that_nobody_fitted_is_no_calibration_where_it_takes_a_quarter_of_each_token() -> None:
    """Passes of a second; the host of others adds a third of one, of which 0.33 / 1.33 is 25%, or 0.32."""
    for added, fitted, label in (
        (0.32, False, "calibrated"),
        (1 / 3, False, "uncalibrated (family)"),
        (1 / 3, True, "calibrated"),
    ):
        host = replace(IDEAL, step_seconds=added + 1e-9)
        assert seconds_each(replace(BARE, host=host, fitted=fitted)).label == label
    own = seconds_each(VLLM.with_step(1.0, "a constant of this deployment"))
    assert own.label == "calibrated"


def test_the_range_of_a_first_token() -> None:
    found = seconds_each()
    # One prompt a pass, first tokens at 1, 2, 3; A has its third at 3 and comes again in the fourth pass. A slot less:
    # two at a time, and the third waits for three passes. Ends of the kernels: half and twice.
    assert found.ttft.low == pytest.approx(0.5)
    assert found.ttft.high >= 2 * 1.5
    assert found.ttft.low <= found.ttft.value <= found.ttft.high
    assert any("a slot is never used" in text for text in found.assumptions)


def test_replicas_and_stages_share_the_requests() -> None:
    three = seconds_each(replicas=3)
    assert (three.devices, three.slots) == (3, 1)
    assert three.output_tokens_per_second == pytest.approx(3 * 1)
    # Two stages of a pipeline hold a group each: a pass of one takes as long, and two are under way at a time.
    staged = seconds_each(layout=Layout(pipeline=2))
    assert (staged.devices, staged.slots) == (2, 2)
    # The third client is alone in its group: each of the three has a token a second.
    assert staged.output_tokens_per_second == pytest.approx(3 * 1)
    assert staged.tpot.value == pytest.approx(1)
    # Three have 11, 11 and 10 of the 32 layers: a group waits until 11 of 32 were run for each of the three.
    uneven = seconds_each(layout=Layout(pipeline=3))
    assert (uneven.devices, uneven.slots) == (3, 1)
    assert uneven.tpot.value == pytest.approx(33 / 32)
    assert uneven.output_tokens_per_second == pytest.approx(3 * 32 / 33)


def test_a_token_costs_what_its_devices_cost() -> None:
    found = seconds_each()  # 3 tokens per second on one device
    assert found.cost_per_million_tokens(3.6) == pytest.approx(3.6 / 3600 / 3 * 1e6)
    assert found.cost_per_million_tokens(7.2) == pytest.approx(2 * found.cost_per_million_tokens(3.6))
    assert found.joules_per_token(600) == pytest.approx(200)
    assert found.joules_per_token(None) is None
    for price in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="price per device and hour"):
            found.cost_per_million_tokens(price)
        with pytest.raises(InputError, match="power of a device"):
            found.joules_per_token(price)


def test_a_rate_that_cannot_be_answered_is_refused_with_what_can() -> None:
    # Three at a time are answered in three passes of a second: one request per second.
    slow = seconds_each(request_rate=0.01, slots=3)
    assert slow.tpot.value == pytest.approx(1)
    assert slow.requests_per_second == pytest.approx(0.01, rel=0.3)
    with pytest.raises(InputError, match="it answers 1 per second at most; lower the rate"):
        seconds_each(request_rate=1.0, slots=3)
    with pytest.raises(InputError, match="the request rate is -1"):
        seconds_each(request_rate=-1.0, slots=3)


def test_more_requests_than_can_be_simulated_are_refused() -> None:
    steps = Steps(Composer(LLAMA, kernels=Products()))
    # 62 passes for each prompt of 500,000 tokens.
    demand = Demanded(prompt_tokens=500_000, output_tokens=2, concurrency=10_000)
    with pytest.raises(InputError, match="prompts take 620,000 passes are more than can be simulated \\(500,000\\)"):
        serve_with(steps, BARE, demand)
    with pytest.raises(InputError, match="more than can be simulated"):
        serve_with(steps, BARE, DEMAND, request_rate=1.0, slots=1_000_000)
    # Of 10,000 clients four waves have 40,000 passes, not ten.
    found = serve_with(steps, BARE, replace(demand, prompt_tokens=4, concurrency=10_000))
    assert "40,000 requests" in found.assumptions[0]


def test_a_deployment_is_served_by_its_engine() -> None:
    found = serve(LLAMA, H100, DEMAND)
    bare = serve(LLAMA, H100, DEMAND, engine="none")
    architecture = serve(LLAMA, replace(H100, engine="architecture"), DEMAND)
    assert bare.tpot == architecture.tpot
    # vLLM's own code takes some milliseconds of each pass.
    assert found.tpot.value > bare.tpot.value + VLLM.host.step_seconds * 0.9
    assert found.decode.seconds == bare.decode.seconds
    assert found.decode.binding[0] == "memory bandwidth"
    assert found.prefill.binding[0] == "compute"
    own = serve(LLAMA, H100, DEMAND, step_seconds=0.0)
    assert found.tpot.value > own.tpot.value + VLLM.host.step_seconds * 0.9
    with pytest.raises(InputError, match="a host adds -1 s to a pass"):
        serve(LLAMA, H100, DEMAND, step_seconds=-1)
    with pytest.raises(InputError, match="no engine is called 'other'"):
        serve(LLAMA, H100, DEMAND, engine="other")
    with pytest.raises(InputError, match="no scheduler is called 'other'"):
        serve(LLAMA, H100, DEMAND, scheduler="other")


def test_schedulers_trade_first_tokens_against_the_rest() -> None:
    # Few slots, many clients: a static batch is the last to let anybody in.
    demand = replace(DEMAND, concurrency=32, prompt_tokens=2048)
    found = {
        name: serve(LLAMA, H100, demand, scheduler=name, slots=16, engine="none")
        for name in ("static", "continuous", "chunked", "prefill-first")
    }
    assert max(found, key=lambda name: found[name].ttft.value) == "static"
    assert min(found, key=lambda name: found[name].tpot.value) == "static"
    # Prompts that stand alone stop those that run; beside them they do less.
    assert found["prefill-first"].tpot.value > found["static"].tpot.value


def test_nothing_is_served_below_the_speed_of_light() -> None:
    for sharding in (Sharding(), Sharding(tensor_parallel=4)):
        found = serve(LLAMA, replace(H100, sharding=sharding), DEMAND, engine="none")
        assert found.tpot.low >= found.decode.floor * 0.97  # a length is rounded to 3%
        assert found.ttft.low >= found.prefill.floor * 0.97
        assert found.decode.floor < found.decode.seconds


@settings(max_examples=12, deadline=None)
@given(
    prompt=st.integers(1, 3000),
    output=st.integers(2, 40),
    concurrency=st.sampled_from([1, 1, 5, 24]),
    more=st.integers(200, 3000),
)
def test_longer_prompts_are_never_answered_sooner(prompt: int, output: int, concurrency: int, more: int) -> None:
    demand = Demand(prompt_tokens=prompt, output_tokens=output, concurrency=concurrency)
    base, longer = (
        serve(LLAMA, H100, replace(demand, prompt_tokens=tokens), engine="none") for tokens in (prompt, prompt + more)
    )
    # Lengths are rounded to 3%. The first of many may come sooner: longer prompts share fewer passes.
    assert longer.requests_per_second <= base.requests_per_second * 1.05
    if concurrency == 1:
        assert longer.ttft.value >= base.ttft.value * 0.97
        assert longer.tpot.value >= base.tpot.value * 0.97


def test_the_least_is_that_of_one_request_alone() -> None:
    found = serve(LLAMA, H100, DEMAND)
    # 8.03e9 weights of 2 bytes, less the table of the embedding, at 3.35e12 bytes per second: 4.5 ms.
    assert found.least_tpot == pytest.approx((8.03e9 - 0.525e9) * 2 / 3.35e12, rel=0.02)
    assert found.least_tpot < found.decode.floor < found.tpot.value
    assert found.least_ttft < found.ttft.low


def test_formats_and_devices_that_are_quicker_are_so_when_served() -> None:
    plain = serve(LLAMA, H100, DEMAND)
    assert serve(LLAMA, replace(H100, dtypes=Dtypes(weights="fp8")), DEMAND).tpot.value < plain.tpot.value
    assert serve(LLAMA, replace(H100, device=device.find("h200")), DEMAND).tpot.value < plain.tpot.value
    far = serve(LLAMA, replace(H100, device=device.find("l4")), DEMAND)
    assert far.label.startswith("uncalibrated")
    for interval in (far.tpot, far.ttft):
        assert interval.high >= 2 * interval.value
        assert interval.low <= interval.value / 2 or interval.low in (far.least_tpot, far.least_ttft)


def test_a_constant_of_a_deployment_is_found_again() -> None:
    steps = Steps(Composer(LLAMA, kernels=Products(0.01)))
    stack = replace(BARE, host=replace(IDEAL, sequence_seconds=0.001))
    truth = replace(stack, host=replace(stack.host, step_seconds=0.005))
    demands = [Demanded(prompt_tokens=4, output_tokens=5, concurrency=batch) for batch in (1, 2, 4)]
    points = [
        Point(steps=steps, asked=demand, tpot_seconds=serve_with(steps, truth, demand, waves=4).tpot.value)
        for demand in demands
    ]
    # One sequence: 10 ms of kernels, 5 of the pass, 1 of the sequence.
    assert points[0].tpot_seconds == pytest.approx(0.016)
    found = fit_step(stack, points)
    assert found.stack.host.step_seconds == pytest.approx(0.005, abs=1e-5)
    assert found.largest_error < 1e-3
    assert found.stack.host.sequence_seconds == 0.001
    assert "3 served points" in found.stack.host.basis
    assert found.stack.high < VLLM.high
    # Points that are quicker than the kernels alone: nothing is taken from the kernels.
    quick = [replace(point, tpot_seconds=0.001) for point in points]
    assert fit_step(stack, quick).stack.host.step_seconds == pytest.approx(0, abs=1e-5)


def test_points_that_say_nothing_are_refused() -> None:
    steps = Steps(Composer(LLAMA, kernels=Products()))
    with pytest.raises(InputError, match="at least one served point"):
        fit_step(BARE, [])
    for tpot, output in ((0.0, 5), (float("nan"), 5), (1.0, 1)):
        with pytest.raises(InputError, match="a served point"):
            Point(steps=steps, asked=Demanded(prompt_tokens=4, output_tokens=output, concurrency=1), tpot_seconds=tpot)


@pytest.mark.parametrize(
    ("value", "near"),
    # Below 64 every integer; from 64 on multiples of 2, from 512 on of 16, from 1,024 on of 32. A half goes to even.
    [(0.3, 1), (1, 1), (31.2, 31), (63, 63), (65, 64), (67, 68), (1000, 992), (1001, 1008), (1024, 1024), (1041, 1056)],
)
def test_lengths_are_rounded_to_three_percent(value: float, near: int) -> None:
    assert rounded(value) == near


def test_close_passes_share_a_time() -> None:
    asked: list[Pass] = []

    class Listening(Composer):
        def time(self, asked_for: Pass) -> PassTime:
            asked.append(asked_for)
            return super().time(asked_for)

    steps = Steps(Listening(LLAMA, kernels=Products()))
    for context in (1001, 1002.5, 1010, 1001, 1024, 1030):
        steps.time(8, context)
    assert [each.decode_context for each in asked] == [1008, 1024]
    chunks = (Chunk(tokens=1001), Chunk(tokens=1002), Chunk(tokens=5, prefix=7), Chunk(tokens=1001))
    assert gathered(chunks) == (
        Chunk(tokens=1008, sequences=2),
        Chunk(tokens=5, prefix=7),
        Chunk(tokens=1008),
    )


def test_a_stack_takes_another_scheduler_and_keeps_its_budget() -> None:
    stack = replace(VLLM, scheduler=Scheduler(name="chunked", tokens=2048)).with_scheduler("static")
    assert stack.scheduler == Scheduler(name="static", tokens=2048)
    assert stack.host == VLLM.host


def test_a_stack_as_it_was_measured() -> None:
    assert VLLM.as_measured is VLLM
    found = TRTLLM.as_measured
    assert (found.scheduler.prompts, found.scheduler.spare_slots) == (1, 1)
    assert replace(found, scheduler=TRTLLM.scheduler) == TRTLLM
    assert TRTLLM.scheduler.slots(8) == 8
