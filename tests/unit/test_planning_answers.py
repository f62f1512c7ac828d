"""What a search answers: an order, what binds, why others were rejected, and what would have room where nothing has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.device import Device, entries, find
from llmprof.errors import InputError
from llmprof.planning.ask import RANKS, Ask, Rank
from llmprof.planning.constraint import of_batch, of_time
from llmprof.planning.degrees import words
from llmprof.planning.fewest import fewest
from llmprof.planning.footprint import Footprint, footprint
from llmprof.planning.memory import Deployment
from llmprof.planning.nearest import Nearest, nearest
from llmprof.planning.rank import best_of_each, ranked
from llmprof.planning.rejections import rejections
from llmprof.planning.scenarios import scenarios
from llmprof.planning.search import Plan, Search, plan
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes
from tests.unit.planned import TWO, ask, named

# --- order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", RANKS)
def test_the_order_is_what_was_asked_for(rank: Rank) -> None:
    devices = [find(name) for name in ("h200", "l4", "mi300x", "a100-sxm-80gb")]
    found = plan(named("llama-3.1-8b"), devices, ask(rank=rank, prices={"h200": 3.5, "l4": 0.5}))
    by: dict[Rank, list[float]] = {
        "price": [c.price_per_hour or 1e9 for c in found.configurations],
        "gpus": [c.gpus for c in found.configurations],
        "cost": [c.cost_per_million or 1e9 for c in found.configurations],
        "decode": [c.decode.seconds for c in found.configurations if c.decode],
        "prefill": [c.prefill.seconds for c in found.configurations],
        "throughput": [-c.tokens_per_s for c in found.configurations],
    }
    assert by[rank] == sorted(by[rank])
    assert len(set(by[rank])) > 1
    if rank in ("price", "cost"):
        assert {c.deployment.device.name for c in found.configurations[-5:]} <= {"mi300x", "a100-sxm-80gb"}
    best = best_of_each(found.configurations)
    assert len(best) == len({(c.deployment.device.name, c.gpus) for c in found.configurations})
    assert best[0] is found.configurations[0]
    assert ranked(best, rank) == best


@cache
def three_devices() -> Plan:
    return plan(named("llama-3.1-8b"), [find(name) for name in ("h200", "l4", "mi300x")], ask(max_gpus=4))


@settings(max_examples=20, deadline=None)
@given(
    prices=st.tuples(*[st.floats(0.01, 100)] * 3),
    dearer=st.integers(0, 2),
    by=st.floats(0, 100),
    rank=st.sampled_from(("price", "cost")),
)
def test_a_device_that_costs_more_never_ranks_better(
    prices: tuple[float, float, float], dearer: int, by: float, rank: Rank
) -> None:
    found = three_devices()
    names = sorted({c.deployment.device.name for c in found.configurations})

    def places(of: dict[str, float]) -> list[int]:
        priced = [replace(c, price=of[c.deployment.device.name]) for c in found.configurations]
        return [at for at, c in enumerate(ranked(priced, rank)) if c.deployment.device.name == names[dearer]]

    before = dict(zip(names, prices, strict=True))
    after = before | {names[dearer]: before[names[dearer]] + by}
    assert all(was <= is_now for was, is_now in zip(places(before), places(after), strict=True))


def test_what_a_million_tokens_cost() -> None:
    found = plan(named("llama-3.1-8b"), [find("h200")], ask(prices={"h200-sxm": 9.0, "h200": 3.6}))
    (c,) = [each for each in found.configurations if words(each.deployment.sharding) == "TP2"]
    assert c.price_per_hour == 7.2
    assert c.cost_per_million == pytest.approx(7.2 / 3600 * 1e6 / c.tokens_per_s)
    assert c.tokens_per_s == 256 * c.requests_per_s == 256 / c.request.seconds


def test_what_binds() -> None:
    (c, *_) = plan(named("llama-3.1-8b"), [find("h200")], ask(concurrency=1)).configurations
    assert of_batch(c) == "concurrency"
    bound = of_time(c)
    assert bound.resource == "memory bandwidth"
    assert bound.weights_share is not None
    assert bound.weights_share > 0.98
    assert str(bound) == "memory bandwidth: weights 98%, cache 2%"


# --- what is rejected, and what would do ------------------------------------------------------------


def test_reasons_are_counted() -> None:
    found = plan(named("llama-3.1-70b"), entries(), ask(prompt=8192, concurrency=64))
    reasons = rejections(found)
    assert sum(each.count for each in reasons) == len(found.rejected)
    counted = Counter(each.lack for each in found.rejected)
    assert [each.count for each in reasons] == [counted[k] for k in ("weights", "one request", "all requests")]
    assert all(" short on a device" in each.nearest for each in reasons)
    assert {device.name for device, _ in found.unplanned} >= {"t4", "epyc-9654", "b300"}


def none_found(search: Search) -> Plan:
    found = search.plan()
    assert not found.configurations
    return found


def again(search: Search, change: Nearest, value: int | str) -> Search:
    """The search with `value` in place of what was asked."""
    asked = search.ask
    match change.change:
        case "device":
            return Search(search.arch, [find(str(value))], asked)
        case "devices":
            return search.asking(replace(asked, max_gpus=int(value)))
        case "weight_dtype":
            return search.asking(replace(asked, dtypes=(replace(asked.dtypes[0], weights=value),)))  # type: ignore[arg-type]
        case "kv_dtype":
            return search.asking(replace(asked, dtypes=(replace(asked.dtypes[0], kv_cache=value),)))  # type: ignore[arg-type]
        case "prompt_tokens":
            return search.asking(replace(asked, demand=replace(asked.demand, prompt_tokens=int(value))))
        case "concurrency":
            return search.asking(replace(asked, demand=replace(asked.demand, concurrency=int(value))))


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        (
            ask(prompt=6_000, concurrency=8, max_gpus=1),
            {"device", "devices", "concurrency", "prompt_tokens", "kv_dtype"},
        ),
        (ask(prompt=3_000, concurrency=70, max_gpus=2), {"device", "devices", "concurrency", "prompt_tokens"}),
    ],
)
def test_the_nearest_has_room_and_one_more_has_not(asked: Ask, changes: set[str]) -> None:
    search = Search(named("llama-3.1-8b"), [find("l4")], asked)
    none_found(search)
    found = nearest(search)
    assert {each.change for each in found} >= changes
    for each in found:
        assert again(search, each, each.value).plan().configurations, each
        if each.change in ("prompt_tokens", "concurrency"):
            none_found(again(search, each, int(each.value) + 1))
        if each.change == "devices":
            none_found(again(search, each, int(each.value) - 1))


def test_narrower_weights_are_the_nearest() -> None:
    search = Search(named("llama-3.1-8b"), [find("v100-16gb")], ask(dtypes=(Dtypes(activations="fp16"),)))
    assert not search.devices, "it has no peak"
    small = replace(find("l4"), name="small", memory=find("v100-16gb").memory)
    search = Search(named("llama-3.1-8b"), [small], ask(max_gpus=1))
    none_found(search)
    by_change = {each.change: each.value for each in nearest(search)}
    assert by_change["weight_dtype"] == "fp8"
    assert "kv_dtype" not in by_change


def test_a_change_of_the_cache_is_none_of_the_engine() -> None:
    """Weights leave less than a request takes in fp8; in int4 it would have room, but vLLM keeps no such cache."""
    search = Search(named("llama-3.1-8b"), [find("rtx-4090")], ask(prompt=32_768, max_gpus=1))
    none_found(search)
    assert "kv_dtype" not in {each.change for each in nearest(search)}
    asking = search.asking(replace(search.ask, dtypes=(Dtypes(kv_cache="int4"),)))
    assert asking.engine == "architecture"
    assert asking.plan().configurations


def test_as_many_as_an_engine_counts_that_is_started_for_them() -> None:
    """A cache that is all there is to hold has room for as many as a pool has pages for, but for the spare one."""
    (c,) = plan(named("llama-3.1-8b"), [find("h100-sxm")], ask(fill=True, max_gpus=1)).configurations
    (held,) = [each for name, each in scenarios(c, ask()).items() if name == "prompt+output"]
    assert held.largest_batch == c.batch
    assert held.maximum_concurrency is not None
    assert c.batch <= held.maximum_concurrency < c.batch + 1


def test_nothing_would_do() -> None:
    tiny = replace(find("l4"), name="tiny", memory=replace(find("l4").memory, value=2**30))  # type: ignore[type-var]
    search = Search(named("llama-3.1-70b"), [tiny], ask(max_gpus=1))
    none_found(search)
    assert {each.change for each in nearest(search)} == {"device"}


def test_the_fewest_of_each_device_in_each_format() -> None:
    devices = [find("l4"), find("h200")]
    search = Search(named("llama-3.1-70b"), devices, ask())
    found = {(each.device.name, each.dtypes.weights): each.gpus for each in fewest(search)}
    assert set(found) == {(device.name, weights) for device in devices for weights in ("bf16", "fp8", "int4")}
    for device in devices:
        counts = [found[device.name, weights] or 99 for weights in ("bf16", "fp8", "int4")]
        assert counts == sorted(counts, reverse=True), "narrower weights never need more"
    assert found["h200", "bf16"] == min(
        c.gpus for c in search.plan().configurations if c.deployment.device.name == "h200"
    )


# --- other structures -------------------------------------------------------------------------------


def test_an_encoder_has_prompts_alone() -> None:
    found = plan(named("bert-base"), TWO, ask(prompt=128, output=0))
    (c, *_) = found.configurations
    assert c.decode is None
    assert (c.largest_batch, c.maximum_concurrency_of(128)) == (None, None)
    assert of_batch(c) == "concurrency"
    assert c.tokens_per_s == c.requests_per_s * 128


def test_an_encoder_decoder_keeps_its_source_apart() -> None:
    found = plan(named("t5-small"), TWO, ask(prompt=300, output=20))
    assert found.tokens == 20
    (c, *_) = found.configurations
    assert c.decode_contexts == (2, 20)
    held = scenarios(c, found.ask)
    assert [each.tokens for each in held.values()] == [1, 20]
    assert c.bar.bytes_of("kv cache") == 4 * 6 * 2 * 512 * 2 * (20 + 300)


def test_a_model_that_no_engine_keeps_is_planned_without_one() -> None:
    found = plan(named("rwkv-4-169m"), TWO, ask(prompt=100))
    assert found.engine == "architecture"
    assert "rwkv-4" in (found.without_engine or "")
    assert found.configurations


def test_what_the_engine_cannot_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unlike(spec: ArchSpec, deployment: Deployment, chunk_tokens: int, source_tokens: int | None) -> Footprint:
        if deployment.sharding.tensor_parallel == 2:
            raise InputError("vLLM divides it otherwise")
        return footprint(spec, deployment, chunk_tokens, source_tokens)

    monkeypatch.setattr("llmprof.planning.search.footprint", unlike)
    found = plan(named("llama-3.2-1b"), [find("h200")], ask(max_gpus=4))
    tried = {words(c.deployment.sharding) for c in found.configurations}
    assert {"-", "TP4", "PP2", "DP2"} <= tried
    assert not any("TP2" in each for each in tried)
    assert ("TP2", "vLLM divides it otherwise") in [(each.what, each.why) for each in found.refused]


def test_a_state_of_one_size_has_room_for_any_context() -> None:
    (c, *_) = plan(named("mamba-130m"), TWO, ask()).configurations
    assert c.largest_context is None


def test_the_full_context_must_be_stated() -> None:
    with pytest.raises(InputError, match="states no max_context"):
        Search(named("mamba-130m"), TWO, ask(scenario="full-context"))


def test_a_prompt_that_the_model_cannot_take() -> None:
    with pytest.raises(InputError, match="learned positions"):
        Search(named("gpt2"), TWO, ask(prompt=1000, output=200))


def test_links_that_nothing_is_known_of() -> None:
    l4: Device = find("l4")
    found = plan(named("llama-3.1-8b"), [l4, find("h200")], ask())
    for c in found.configurations:
        s = c.deployment.sharding
        shares = s.tensor_parallel > 1
        assert (c.unlinked is not None) == (shares and c.deployment.device.name == "l4")
        assert (c.prefill.link_seconds > 0) == (shares and c.deployment.device.name == "h200")
