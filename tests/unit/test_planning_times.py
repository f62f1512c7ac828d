"""What bounds a time from below: by hand for a model that everybody knows, and against every step and every schedule."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.device import Device, entries, find
from llmprof.planning import times
from llmprof.planning.contexts import sampled
from llmprof.planning.demand import Demand
from llmprof.planning.times import Bound, Speeds
from llmprof.planning.work import Predictions, Work, carried_bytes
from llmprof.predict import compulsory
from llmprof.predict.api import predict
from llmprof.routing import routing_of
from llmprof.sharding import Collective, Sharding
from llmprof.spec.arch import ArchSpec, Gqa
from llmprof.workload import Dtypes, Execution, Phase, Workload
from tests.faults import planted
from tests.predict_samples import arch, layer, stack

FUSED = Execution(attention="fused")

OF_EACH_KIND = (
    "llama-3.2-1b",
    "gemma-3-1b",
    "deepseek-v2-lite",
    "deepseek-v3.2",
    "mixtral-8x7b",
    "jamba-v0.1",
    "mamba-130m",
    "rwkv-4-169m",
    "t5-small",
    "whisper-base",
    "bert-base",
    "chatglm-6b",
    "llama-4-scout-17b-16e",
)


@cache
def named(name: str) -> ArchSpec:
    (found,) = catalog.resolve([name], variant=None, all_variants=False)
    return found


def predictions(
    spec: ArchSpec, prompt: int, output: int, dtypes: Dtypes | None = None, concurrency: int = 1
) -> Predictions:
    demand = Demand(prompt_tokens=prompt, output_tokens=output, concurrency=concurrency)
    return Predictions(spec, dtypes or Dtypes(), demand)


# --- by hand --------------------------------------------------------------------------------------

LAYER = 2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096
"""Weights of a layer's matrices in Llama-3.1-8B: q and o, k and v, gate, up and down."""
HEAD = 128_256 * 4096
NORMS = 65 * 4096


def test_a_step_of_llama_3_1_8b() -> None:
    """It reads all weights but the token table, and the keys and values of 8 heads of 128 in 32 layers."""
    steps = predictions(named("llama-3.1-8b"), 4096, 1025).decode(Sharding(), 16)
    assert steps is not None
    assert (steps.first_context, steps.last_context) == (4097, 5120), "the prompt's pass makes the first token"
    (work,) = steps.stages
    context = (4097 + 5120) / 2
    assert work.weight_bytes == 2 * (32 * LAYER + HEAD + NORMS)
    assert work.cache_bytes == 16 * context * 131_072
    assert work.flops == 16 * (2 * (32 * LAYER + HEAD) + 4 * 32 * 32 * 128 * context)
    assert work.link_bytes == 0
    at = times.speeds(find("h100-sxm"), "bf16")
    bound = times.through(steps.stages, at)
    assert bound.seconds == pytest.approx((work.weight_bytes + work.cache_bytes) / 3.35e12, rel=1e-12)
    assert bound.resource == "memory bandwidth"
    assert bound.weight_seconds == pytest.approx(work.weight_bytes / 3.35e12, rel=1e-12)
    assert bound.share("compute") == pytest.approx((work.flops / 989e12) / bound.seconds, rel=1e-12)


def test_a_prompt_of_llama_3_1_8b() -> None:
    """Logits of the last position alone; of the attention square what the causal mask lets through."""
    (work,) = predictions(named("llama-3.1-8b"), 2048, 2).prefill(Sharding())
    pairs = 2048 * 2049 // 2
    assert work.flops == 2 * 2048 * 32 * LAYER + 2 * HEAD + 4 * 32 * 32 * 128 * pairs
    assert work.cache_bytes == 2048 * 131_072, "keys and values are written once"
    bound = times.prompt((work,), times.speeds(find("h100-sxm"), "bf16"), one_pass=True)
    assert bound.seconds == pytest.approx(work.flops / 989e12, rel=1e-12)
    assert bound.resource == "compute"


def test_the_work_of_a_rank() -> None:
    """Half of each matrix, half of the heads; norms whole. Of a ring's bytes an all-reduce needs half one way."""
    (work,) = predictions(named("llama-3.1-8b"), 2048, 2).prefill(Sharding(tensor_parallel=2))
    assert work.weight_bytes == (32 * LAYER + HEAD) + 2 * NORMS
    reduced, gathered = 65 * 2048 * 4096 * 2, 128_256 * 2
    assert work.link_bytes == reduced // 2 + gathered // 2, "(n - 1) / n of both"


def test_a_prompt_of_latents_writes_latents_and_keys() -> None:
    """DeepSeek-V2-Lite: 512 values and a rotated key of 64, of which each kernel writes its own, in 27 layers."""
    (work,) = predictions(named("deepseek-v2-lite"), 64, 2).prefill(Sharding())
    assert work.cache_bytes == 64 * 27 * (512 + 64) * 2


def test_a_prompt_that_is_alone_has_the_experts_of_all_replicas() -> None:
    """OLMoE over four ranks: attention and head of one of them, and of 64 experts and the router a quarter of the work."""
    (work,) = predictions(named("olmoe-1b-7b"), 64, 2).alone(Sharding(data_parallel=4, expert_parallel=4))
    d, layers, head, router, expert = 2048, 16, 50_304 * 2048, 64 * 2048, 3 * 2048 * 1024
    own = 64 * layers * 4 * d * d + head
    assert work.flops == 2 * own + 4 * 64 * 65 // 2 * layers * d + 2 * 64 * layers * (router + 8 * expert) / 4
    held = layers * (4 * d * d + 3 * d) + d + head  # norms of the input, of queries and of keys; the last one
    assert work.weight_bytes == 2 * held + 2 * layers * (d + router + 16 * expert) / 4
    asked = predictions(named("olmoe-1b-7b"), 64, 2)
    for sharding in (Sharding(), Sharding(pipeline_parallel=2)):
        assert asked.alone(sharding) == asked.prefill(sharding)


def test_a_step_has_experts_dealt_out_evenly_over_ranks() -> None:
    """OLMoE, 1 token: 8 of 64 experts, all on the first of four ranks by the table, and 2 on each that deals evenly.

    Four replicas with a token each: 32 experts, 8 on each; of what is sent 8 hidden states go out, 3 of 4 away.
    """
    asked = predictions(named("olmoe-1b-7b"), 64, 4)
    step = asked.workload("decode", batch=1, context=65)
    d, layers, head, router, expert = 2048, 16, 50_304 * 2048, 64 * 2048, 3 * 2048 * 1024
    (work,) = asked.of(step, Sharding(data_parallel=4, expert_parallel=4))
    held = layers * (4 * d * d + 3 * d) + d + head
    # Of the norm before the experts and of the router a share, as of experts.
    assert work.weight_bytes == 2 * held + 2 * layers * (d + router + 32 * expert) / 4
    assert work.link_bytes == layers * 2 * 8 * d * 2 * 3 / 4
    full = asked.workload("decode", batch=2, context=65)
    (work,) = asked.of(full, Sharding(data_parallel=4, expert_parallel=4))
    assert work.weight_bytes == 2 * held + 2 * layers * (d + router + 16 * expert), "all have as much to do"

    mixtral = predictions(named("mixtral-8x7b"), 64, 4)
    step = mixtral.workload("decode", batch=1, context=65)
    for experts in (2, 4):
        shared = Sharding(tensor_parallel=4, expert_parallel=experts)
        assert mixtral.of(step, shared) == mixtral.of(step, Sharding(tensor_parallel=4))


def test_experts_without_any_other_part_of_a_layer() -> None:
    asked = predictions(named("nemotron-3-nano-30b-a3b"), 64, 2)
    sharding = Sharding(data_parallel=4, expert_parallel=4)
    (alone,), (every,), (whole,) = asked.alone(sharding), asked.prefill(sharding), asked.prefill(Sharding())
    assert whole.flops / 4 < alone.flops < every.flops
    assert alone.weight_bytes < every.weight_bytes


def test_packed_weights_may_be_multiplied_as_they_are() -> None:
    """Dense peaks of the data sheets: 989 TFLOP/s in bf16 and 1,979 in fp8 (H100), 624 TOP/s in int8 (A100)."""
    h100, a100 = find("h100-sxm"), find("a100-sxm-80gb")
    of = {weights: times.speeds(h100, "bf16", weights).flops for weights in ("bf16", "fp8", "int8", "int4")}
    in_8_bits = {name: h100.peak_flops[name].value for name in ("fp8", "int8") if name in h100.peak_flops}
    assert of["bf16"] == 989 * 10**12
    assert of["fp8"] == in_8_bits["fp8"] == 1979 * 10**12
    assert of["int8"] == in_8_bits.get("int8", of["bf16"])
    assert of["int4"] == max(in_8_bits.values())
    assert times.speeds(a100, "bf16", "fp8").flops == a100.peak_flops["bf16"].value, "it has no fp8"


def test_what_links_have_to_carry() -> None:
    calls = [
        (Collective(path="a", kind="all-reduce", count=2, bytes=80, wire_bytes=120), 3),
        (Collective(path="b", kind="all-gather", count=1, bytes=8, wire_bytes=6), 1),
        (Collective(path="c", kind="reduce-scatter", count=1, bytes=8, wire_bytes=6), 2),
        (Collective(path="d", kind="send", count=1, bytes=1000, wire_bytes=1000), 1),
    ]
    assert carried_bytes(calls) == 3 * 60 + 6 + 12


# --- what is least, of every kind -------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_the_least_is_a_part_of_what_is_stored_and_moved(name: str) -> None:
    spec = named(name)
    asked = predictions(spec, 32, 4)
    phases: tuple[Phase, ...] = ("prefill",) if spec.structure == "encoder" else ("prefill", "decode")
    for phase, weights in product(phases, ("bf16", "int4")):
        dtypes = Dtypes(weights=weights)  # type: ignore[arg-type]
        asked.dtypes = dtypes
        made = predict(spec, asked.workload(phase, batch=3, context=33), FUSED)
        least = compulsory.compulsory(made.program)
        assert 0 < least.weight_bytes <= made.weight_bytes
        assert least.cache_bytes <= made.kv_cache_bytes + made.recurrent_state_bytes
        assert least.nbytes <= made.cost.hbm_bytes


@pytest.mark.parametrize(
    "name",
    [
        "llama-3.2-1b",
        "gemma-3-1b",
        "mamba-130m",
        "t5-small",
        "chatglm-6b",
        "olmoe-1b-7b",
        "mixtral-8x7b",
        "gpt-oss-20b",
    ],
)
def test_a_step_grows_evenly_with_its_sequences(name: str) -> None:
    """Most steps are put together of two: they must be what a prediction of their own says.

    Of 64 experts, 8 for each token, all are touched from 8 tokens on; of 8, 2 for each, from 4; of 32, 4 for each, from 8.
    """
    rules = ("balanced", "concentrated") if name in ("olmoe-1b-7b", "mixtral-8x7b", "gpt-oss-20b") else ("balanced",)
    for rule, sharding in product(rules, (Sharding(), Sharding(tensor_parallel=2))):
        if sharding != Sharding() and name not in ("llama-3.2-1b", "mixtral-8x7b"):
            continue
        asked = predictions(named(name), 40, 9, Dtypes(kv_cache="fp16", activations="fp16", weights="fp16"))
        asked.routing = routing_of(rule)
        steps = [asked.workload("decode", batch=b, context=45) for b in (3, 4, 5, 6, 7, 9, 11, 40)]
        found = [asked.of(each, sharding) for each in steps]
        assert asked.predicted < len(steps)
        with planted(Predictions._even_from, 'workload.phase != "decode"', "True"):
            assert [asked.of(each, sharding) for each in steps] == found


def test_an_expert_more_is_read_for_a_token_more() -> None:
    asked = predictions(named("olmoe-1b-7b"), 8, 4)
    read = [asked.of(asked.workload("decode", batch=b, context=9), Sharding())[0].weight_bytes for b in (4, 8, 16)]
    assert read[1] - read[0] == 4 * 8 * 3 * 2048 * 1024 * 2 * 16, "8 of 64 experts for each of 4 tokens, in 16 layers"
    assert read[2] == read[1], "all are read"


# --- the mean of the steps --------------------------------------------------------------------------


@given(
    first=st.integers(1, 300), steps=st.integers(1, 300), chunk=st.integers(1, 64), slope=st.integers(0, 9),
    within=st.integers(0, 9),
)  # fmt: skip
def test_few_steps_stand_for_all(first: int, steps: int, chunk: int, slope: int, within: int) -> None:
    """Layers that see everything and layers that see their chunk: the mean of the few is that of all."""

    def cost(context: int) -> int:
        return 7 + slope * context + within * ((context - 1) % chunk + 1)

    last = first + steps - 1
    shares = sampled(first, last, {chunk})
    assert len(shares) <= 8
    assert all(first <= context <= last for context in shares)
    mean = sum(cost(context) for context in range(first, last + 1)) / steps
    assert sum(share * cost(context) for context, share in shares.items()) == pytest.approx(mean, rel=1e-9)


@given(first=st.integers(1, 200), steps=st.integers(1, 200), window=st.integers(1, 300))
def test_a_window_makes_them_less_never_more(first: int, steps: int, window: int) -> None:
    last = first + steps - 1
    mean = sum(min(window, context) for context in range(first, last + 1)) / steps
    few = sum(share * min(window, context) for context, share in sampled(first, last, set()).items())
    assert few <= mean * (1 + 1e-12)
    if last <= window or first >= window:
        assert few == pytest.approx(mean)


def test_chunks_of_two_sizes_are_bounded_by_the_emptiest_step() -> None:
    assert sampled(100, 200, {8, 12}) == {1: 1.0}


def test_a_model_of_chunks_takes_its_steps_apart() -> None:
    chunked = layer(Gqa(n_heads=2, n_kv_heads=1, head_dim=4, chunk=8))
    spec = arch(stack([chunked]), d=8, v=16)
    steps = predictions(spec, 5, 13).decode(Sharding(), 1)
    assert steps is not None
    every = [
        predictions(spec, 5, 13).of(Workload(phase="decode", batch=1, new_tokens=1, context=c), Sharding())[0]
        for c in range(6, 18)
    ]
    assert steps.stages[0].cache_bytes == pytest.approx(sum(each.cache_bytes for each in every) / 12)
    assert steps.stages[0].flops == pytest.approx(sum(each.flops for each in every) / 12)


# --- bounds of several devices ----------------------------------------------------------------------

AT = Speeds(flops=10, memory_bytes=2, link_bytes=1)


def test_the_slowest_resource_decides() -> None:
    work = Work(flops=100, weight_bytes=6, cache_bytes=2, op_level_bytes=50, link_bytes=3)
    bound = times.of_device(work, AT)
    assert (bound.seconds, bound.resource) == (10, "compute")
    assert (bound.memory_seconds, bound.weight_seconds, bound.link_seconds) == (4, 3, 3)
    assert bound.op_level_seconds == 25
    assert times.of_device(work, Speeds(flops=1000, memory_bytes=2, link_bytes=None)).resource == "memory bandwidth"
    assert times.of_device(work, Speeds(flops=1000, memory_bytes=200, link_bytes=1)).resource == "interconnect"


def test_a_prompt_through_stages() -> None:
    stages = (Work(100, 4, 0, 0, 0), Work(40, 10, 0, 0, 0))
    assert times.prompt(stages, AT, one_pass=True).seconds == 10 + 5, "one after another"
    assert times.prompt(stages, AT, one_pass=False).seconds == 10 + 5, "the other reads its weights for the last chunk"
    assert times.prompt((Work(100, 4, 0, 0, 0), Work(90, 4, 0, 0, 0)), AT, one_pass=False).seconds == 10 + 2


def test_a_request_shares_the_weights_of_steps_and_has_its_own_prompt() -> None:
    prefill, decode = (Work(60, 8, 2, 30, 0),), (Work(40, 8, 12, 24, 4),)
    bound = times.per_request(prefill, decode, steps=6, batch=4, at=AT)
    assert bound.compute_seconds == (60 + 40 * 6 / 4) / 10
    assert bound.memory_seconds == (2 + 20 * 6 / 4) / 2
    assert bound.link_seconds == 4 * 6 / 4
    alone = times.per_request(prefill, None, steps=0, batch=4, at=AT)
    assert alone.memory_seconds == (2 + 8 / 4) / 2, "four prompts may share the weights"


work_of_a_stage = st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 9), st.integers(1, 9))
"""Weights, FLOPs for a sequence, cache of a sequence, and weights that a sequence adds up to a limit, as experts do."""


@given(
    stages=st.lists(work_of_a_stage, min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 6), min_size=1, max_size=7),
)
def test_no_way_to_cut_a_batch_is_quicker_than_the_bound(
    stages: list[tuple[int, int, int, int]], cuts: list[int]
) -> None:
    """Each microbatch goes through all stages; each stage takes all microbatches before the next token of any."""

    def work(stage: tuple[int, int, int, int], sequences: int) -> Work:
        weights, flops, kept, expert = stage
        return Work(flops * sequences, weights + min(20, expert * sequences), kept * sequences, 0, 0)

    def seconds(stage: tuple[int, int, int, int], sequences: int) -> float:
        return times.of_device(work(stage, sequences), AT).seconds

    whole = sum(cuts)
    part = max(1, whole // len(stages))
    bound = times.step(tuple(work(stage, part) for stage in stages), tuple(work(stage, whole) for stage in stages), AT)
    through_all = sum(seconds(stage, max(cuts)) for stage in stages)
    all_in_turn = max(sum(seconds(stage, cut) for cut in cuts) for stage in stages)
    assert max(through_all, all_in_turn) >= bound.seconds * (1 - 1e-12)


def test_a_bound_that_is_none_is_seen() -> None:
    """The schedule above tells a bound from what is none: every microbatch in turn, as if stages did not overlap."""
    stages = (Work(0, 4, 0, 0, 0), Work(0, 4, 0, 0, 0))
    with planted(times.step, "max(through(part, at)", "min(through(part, at)"):
        assert times.step(stages, stages, AT).seconds == 2
    assert times.step(stages, stages, AT).seconds == 4


def test_rows_that_are_written_and_read_again_are_counted_once() -> None:
    with planted(compulsory.of_ops, "max(read.get(each, 0), written.get(each, 0))", "read[each] + written[each]"):
        steps = predictions(named("llama-3.1-8b"), 2048, 2).decode(Sharding(), 1)
    assert steps is not None
    assert steps.stages[0].cache_bytes == 2050 * 131_072, "as the fault has it"


# --- what a device must have ------------------------------------------------------------------------


def test_what_is_missing_is_said() -> None:
    said = {device.name: times.missing(device, "bf16") for device in entries()}
    assert said["h100-sxm-80gb"] is None
    assert "no peak in bf16 for it, only in fp16" in (said["t4"] or "")
    assert "no memory bandwidth" in (said["b300"] or "")
    assert "as much memory as is installed" in (said["epyc-9654"] or "")
    assert times.missing(find("t4"), "fp16") is None
    assert all(device.notes for device in entries() if times.WHY in (said[device.name] or ""))


@pytest.mark.parametrize("device", [each for each in entries() if times.missing(each, "bf16") is None])
def test_a_quicker_device_is_never_bounded_lower_than_its_figures_say(device: Device) -> None:
    at = times.speeds(device, "bf16")
    bound: Bound = times.of_device(Work(at.flops, at.memory_bytes / 2, 0, at.memory_bytes / 2, 0), at)
    assert bound.seconds == 1
    assert bound.memory_seconds == 0.5
