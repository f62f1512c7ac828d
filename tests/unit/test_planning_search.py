"""The search: what has room is what memory and count say, each pass is predicted once, and degrees are those that divide."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.device import find
from llmprof.planning.constraint import of_batch
from llmprof.planning.degrees import degrees, words
from llmprof.planning.demand import Demand, Scenario
from llmprof.planning.memory import memory_bar
from llmprof.planning.record import configuration_record
from llmprof.planning.search import plan
from llmprof.planning.work import Predictions
from llmprof.predict.record import count_record
from llmprof.predict.sharding.api import sharded_as
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec, Gqa
from llmprof.workload import Dtypes
from tests.faults import planted
from tests.predict_samples import arch, layer, stack
from tests.unit.planned import TWO, ask, named

EVERY = [path.stem for path in sorted((catalog.root() / "models").glob("*/*.yaml"))]


def dense(heads: int = 6, kv: int = 2, layers: int = 4, d: int = 48) -> ArchSpec:
    """Small, with `max_context`, so that every question has an answer."""
    one = layer(Gqa(n_heads=heads, n_kv_heads=kv, head_dim=8))
    return replace(arch(stack([one] * layers), d=d, v=64), max_context=4096)


# --- plan and count agree ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY[::5])
def test_the_work_of_a_plan_is_what_count_says(name: str) -> None:
    spec = named(name)
    asked = Predictions(spec, Dtypes(), Demand(prompt_tokens=24, output_tokens=5, concurrency=1))
    passes = [asked.workload("prefill", batch=1, context=24)]
    if asked.decodes:
        passes.append(asked.workload("decode", batch=7, context=asked.contexts[1]))
    for each in passes:
        record = count_record(spec, each)
        (work,) = asked.of(each, Sharding())
        assert work.flops == record["matmul_flops_causal"]
        assert work.op_level_bytes == record["hbm_bytes_fused"]
        assert work.weight_bytes <= record["weight_bytes"]
        assert work.cache_bytes <= record["kv_cache_bytes"] + record["recurrent_state_bytes"]


def test_the_memory_of_a_plan_is_what_count_says() -> None:
    """Weights and caches of the fullest device, spread and not, and in a request's every scenario."""
    spec = named("llama-3.1-8b")
    kept: tuple[Scenario, ...] = ("prompt", "prompt+output", "full-context")
    for scenario in kept:
        found = plan(spec, TWO, ask(scenario=scenario, concurrency=6))
        assert len(found.configurations) > 5
        for c in found.configurations:
            sharding = replace(c.deployment.sharding, data_parallel=1)
            asked = Predictions(spec, c.deployment.dtypes, found.ask.demand)
            work = asked.workload("decode", batch=c.batch, context=found.tokens)
            ranks = sharded_as(spec, work, sharding).ranks
            mine = (c.bar.bytes_of("weights"), c.bar.bytes_of("kv cache"))
            assert mine in [(rank.weight_bytes, rank.kv_cache_bytes) for rank in ranks]
            if sharding.ranks == 1:
                record = count_record(spec, work)
                assert mine == (record["weight_bytes"], record["kv_cache_bytes"])


# --- what has room ----------------------------------------------------------------------------------


def test_what_has_room_is_what_memory_says() -> None:
    found = plan(named("llama-3.1-8b"), TWO, ask(prompt=20_000, concurrency=24))
    assert found.configurations
    assert found.rejected
    assert found.considered == len(found.configurations) + len(found.rejected)
    for c in found.configurations:
        bar = memory_bar(c.arch, c.deployment, sequences=c.batch, tokens=20_256, chunk_tokens=8192)
        assert bar == c.bar
        assert bar.fits
        assert c.batch == -(-24 // c.replicas)
        assert c.largest_batch is not None
        assert c.concurrency <= c.largest_batch
    for each in found.rejected:
        bar = memory_bar(found.arch, each.deployment, sequences=each.batch, tokens=20_256, chunk_tokens=8192)
        assert bar.free_bytes == -each.short_bytes < 0
        assert (each.batch > 1) == (each.lack == "all requests")


def test_as_many_as_have_room() -> None:
    found = plan(named("llama-3.1-8b"), TWO, ask(fill=True))
    for c in found.configurations:
        assert c.concurrency == c.largest_batch
        assert of_batch(c) == "memory"
        more = memory_bar(c.arch, c.deployment, sequences=c.batch + 1, tokens=c.tokens, chunk_tokens=8192)
        assert not more.fits


@settings(max_examples=6, deadline=None)
@given(
    gpus=st.integers(1, 4),
    prompt=st.integers(1, 3000),
    memory=st.sampled_from(("l4", "h200", "v100-16gb")),
    name=st.sampled_from(("llama-3.2-1b", "gemma-3-1b", "olmoe-1b-7b")),
)
def test_more_devices_never_hold_fewer_requests(gpus: int, prompt: int, memory: str, name: str) -> None:
    h100 = find("h100-sxm")
    device = replace(h100, name="sample", memory=find(memory).memory)

    def most(count: int) -> int:
        found = plan(named(name), [device], ask(prompt=prompt, fill=True, max_gpus=count))
        return max((c.concurrency for c in found.configurations), default=0)

    few = most(gpus)
    assert most(gpus + 1) >= few
    if gpus <= 3:
        assert most(2 * gpus) >= 2 * few, "twice as many replicas, at least"


@settings(max_examples=6, deadline=None)
@given(prompt=st.integers(1, 100_000), further=st.integers(0, 20_000), more=st.integers(0, 9))
def test_more_context_and_more_requests_never_need_less(prompt: int, further: int, more: int) -> None:
    spec, device = named("llama-3.2-1b"), [find("h100-sxm")]
    few = {words(c.deployment.sharding): c for c in plan(spec, device, ask(prompt=prompt, max_gpus=2)).configurations}
    many = plan(spec, device, ask(prompt=prompt + further, concurrency=4 + more, max_gpus=2)).configurations
    for c in many:
        less = few[words(c.deployment.sharding)]
        assert c.bar.used_bytes >= less.bar.used_bytes
        assert c.prefill.seconds >= less.prefill.seconds
        assert c.decode is not None
        assert less.decode is not None
        assert c.decode.seconds >= less.decode.seconds * (1 - 1e-12)


# --- each pass once ---------------------------------------------------------------------------------


def test_a_pass_is_predicted_once_whatever_the_devices() -> None:
    """The same device under twelve names: as many predictions as for one, and no more than there are passes."""
    h200 = find("h200")
    twelve = [replace(h200, name=f"h200-{number}") for number in range(12)]
    for spec in (named("llama-3.1-8b"), named("olmoe-1b-7b")):
        one, many = plan(spec, [h200], ask(concurrency=16)), plan(spec, twelve, ask(concurrency=16))
        assert many.considered == 12 * one.considered
        assert many.predicted == one.predicted
        distinct = {(replace(c.deployment.sharding, data_parallel=1), c.batch) for c in one.configurations}
        # A prompt; the first and the last step, of all sequences and of those of a microbatch.
        assert one.predicted <= 5 * len(distinct)


def test_forgetting_what_was_predicted_is_seen() -> None:
    h200 = find("h200")
    two = [h200, replace(h200, name="other")]
    once = plan(named("llama-3.2-1b"), two, ask()).predicted
    with planted(Predictions.of, "self._known.get(key)", "None"):
        assert plan(named("llama-3.2-1b"), two, ask()).predicted > once


# --- degrees ----------------------------------------------------------------------------------------


def spread_of(spec: ArchSpec, **more: int) -> tuple[set[str], dict[str, str]]:
    asked = Predictions(spec, Dtypes(), Demand(prompt_tokens=8, output_tokens=2, concurrency=1))
    limits = {"max_gpus": 8, "node_gpus": 8, "replicas": 1, **more}
    found = degrees(spec, asked.workload("prefill", batch=1, context=8), **limits)
    return {words(s) for s in found.shardings}, {each.what: each.why for each in found.refused}


def test_degrees_are_those_that_fit() -> None:
    """6 heads, 2 of keys and values, 4 layers, d_ff 6."""
    tried, refused = spread_of(dense())
    assert tried == {"-", "TP2", "TP6", "PP2", "PP4", "TP2 PP2", "TP2 PP4"}
    assert set(refused) == {"TP4", "TP8", "PP8"}
    assert "use one of: 1, 2, 6" in refused["TP4"]
    assert "more stages than the 4 layers" in refused["PP8"]


def test_stages_are_as_many_as_share_the_layers_evenly_or_as_devices_come_in() -> None:
    tried, refused = spread_of(dense(layers=15), max_gpus=16, replicas=1)
    assert {each for each in tried if "TP" not in each} == {"-", "PP2", "PP3", "PP4", "PP5", "PP8", "PP15"}
    assert "more stages than the 15 layers" in refused["PP16"]
    found = plan(named("deepseek-v3"), [find("h200")], ask(max_gpus=8, dtypes=(Dtypes(weights="fp8"),)))
    (c,) = [each for each in found.configurations if words(each.deployment.sharding) == "TP2 PP4"]
    assert c.bar.stage == 2, "the third of them has 16 of the 61 layers"
    assert configuration_record(c, 1)["pipeline_layers"] == "15,15,16,15"


def test_a_tensor_stays_in_its_node_and_a_pipeline_need_not() -> None:
    tried, _ = spread_of(dense(heads=8, kv=8, layers=8, d=64), max_gpus=16, node_gpus=2)
    assert "TP2 PP8" in tried
    assert not any("TP4" in each for each in tried)


def test_replicas_are_no_more_than_requests() -> None:
    tried, _ = spread_of(dense(), replicas=3)
    assert {"DP2", "DP3", "TP2 DP3", "PP2 DP3"} <= tried
    assert "DP4" not in tried


def test_experts_are_shared_or_sent() -> None:
    tried, _ = spread_of(named("olmoe-1b-7b"), replicas=16, max_gpus=16)
    assert {"EP2 DP2", "EP16 DP16"} <= tried
    assert {"TP8", "TP8 EP8"} <= spread_of(named("mixtral-8x7b"))[0]
    h200 = find("h200")
    found = plan(named("olmoe-1b-7b"), [h200], ask(concurrency=16, max_gpus=16)).configurations
    unlinked = {words(c.deployment.sharding): c.unlinked for c in found}
    assert "several nodes" in (unlinked["EP16 DP16"] or "")
    assert unlinked["EP8 DP8"] is None


def test_no_replica_that_shares_experts_is_said_to_have_more_than_it_may() -> None:
    """Nine requests on eight replicas: two in the fullest, but a step reads the experts of one in each at least."""
    olmoe, h200 = named("olmoe-1b-7b"), [find("h200")]
    steps = []
    for concurrency in (8, 9, 16):
        found = plan(olmoe, h200, ask(concurrency=concurrency)).configurations
        (c,) = [each for each in found if words(each.deployment.sharding) == "EP8 DP8"]
        assert c.batch == -(-concurrency // 8)
        assert c.decode is not None
        steps.append(c.decode.seconds)
    assert steps[0] == steps[1] < steps[2]


def test_a_model_without_rules_has_replicas_alone() -> None:
    tried, refused = spread_of(named("opt-350m"), replicas=2)
    assert tried == {"-", "DP2"}
    assert list(refused) == ["TP, PP and EP of any degree"]


def test_a_model_whose_layers_no_ranks_share_has_stages_and_replicas() -> None:
    tried, refused = spread_of(named("mamba-130m"), replicas=2)
    assert {"PP2", "DP2", "PP2 DP2"} <= tried
    assert set(refused) == {"TP2", "TP4", "TP8"}
    assert "attention of kind mamba-1" in refused["TP2"]
