"""Service levels: what a plan predicts is what serving predicts, and no bound that spares a prediction is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.device import find
from llmprof.errors import InputError
from llmprof.latency.local import Local
from llmprof.latency.served_profile import HostConstant
from llmprof.latency.serving.serve import serve
from llmprof.planning.ask import Ask, Rank
from llmprof.planning.configuration import Configuration
from llmprof.planning.demand import Demand
from llmprof.planning.energy import JOULES_PER_KWH, Power, power_of
from llmprof.planning.pareto import front, front_of_bounds
from llmprof.planning.search import Plan, Search
from llmprof.planning.served import Serving
from llmprof.planning.served_figures import Predicted, predicted
from llmprof.planning.served_nearest import below_light, nearest_targets
from llmprof.planning.served_record import served_reasons
from llmprof.planning.served_search import ServedSearch
from llmprof.planning.slo import Slo, Target, Times
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes
from tests.faults import planted

PRICES = {"h100-sxm-80gb": 2.5, "l40s": 0.9}


@cache
def named(name: str) -> ArchSpec:
    (found,) = catalog.resolve([name], variant=None, all_variants=False)
    return found


@cache
def searched(
    rate: float | None = None,
    concurrency: int = 12,
    rank: Rank = "gpus",
    priced: bool = False,
    weights: str = "bf16",
    max_gpus: int = 4,
    name: str = "llama-3.2-3b",
) -> tuple[Search, Plan, Serving]:
    """One search of two devices, with all that it has predicted."""
    ask = Ask(
        demand=Demand(prompt_tokens=700, output_tokens=40, concurrency=concurrency),
        dtypes=(Dtypes(weights=weights),),  # type: ignore[arg-type]
        fill=rate is not None,
        rank=rank,
        prices=PRICES if priced else {},
        max_gpus=max_gpus,
    )
    search = Search(named(name), [find(device) for device in PRICES], ask)
    return search, search.plan(), Serving(search, rate)


def served(slo: Slo, rate: float | None = None, **more: object) -> ServedSearch:
    _, plan, serving = searched(rate, **more)
    return ServedSearch(plan, serving, Target(slo=slo, rate=rate))


def figures(search: ServedSearch) -> list[Predicted]:
    return [predicted(search.serving, c) for c in search.best(None)]


# --- the same figures as serving's own -----------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, 3.0])
def test_what_a_plan_predicts_is_what_serving_predicts(rate: float | None) -> None:
    """Every figure, of replicas, tensors and stages; `serve` times every pass anew."""
    search, plan, serving = searched(rate)
    for c in plan.configurations[:: max(1, len(plan.configurations) // 5)]:
        found = predicted(serving, c)
        demand = search.ask.demand if rate is None else replace(search.ask.demand, concurrency=c.concurrency)
        slots = None if rate is None else c.batch
        own = serve(search.arch, c.deployment, demand, request_rate=rate, slots=slots)
        # Passes of nearly the same context share the time of the one that came first, so that others may be it here.
        assert found.ttft.value == pytest.approx(max(own.ttft.value, found.least.ttft), rel=1e-4)
        assert found.tpot.high == pytest.approx(max(own.tpot.high, found.least.tpot), rel=1e-4)
        assert found.requests_per_s == pytest.approx(rate or own.requests_per_second, rel=1e-4)
        assert found.tokens_per_s_per_gpu == pytest.approx(found.requests_per_s * 40 / c.gpus, rel=1e-12)
        assert (found.label, found.assumptions) == (own.label, own.assumptions)


def test_no_prediction_is_below_its_bound() -> None:
    asked: tuple[tuple[float | None, str], ...] = ((None, "bf16"), (None, "fp8"), (20.0, "bf16"))
    for rate, weights in asked:
        _, plan, serving = searched(rate, weights=weights)
        for c in plan.configurations:
            least, seen = serving.least(c), serving.seen(c)
            for metric in ("ttft", "tpot"):
                assert seen.times.of(metric) >= least.of(metric) > 0
            assert least.ttft <= c.prefill.seconds
            assert c.decode is not None
            assert least.tpot <= c.decode.seconds
            if weights == "bf16":
                assert least.ttft == c.prefill.seconds
                assert (least.tpot == c.decode.seconds) == (rate is None)
        found = predicted(serving, plan.configurations[0])
        assert found.least.ttft <= found.ttft.low <= found.ttft.value <= found.ttft.high
        assert found.least.tpot <= found.tpot.low <= found.tpot.value <= found.tpot.high


def test_weights_of_8_bits_are_multiplied_as_such_where_a_device_can() -> None:
    """An H100 multiplies fp8 twice as fast as bf16, so that a prompt may take half of what it takes in bf16."""
    of = {}
    for weights in ("bf16", "fp8"):
        _, plan, serving = searched(weights=weights)
        c = next(c for c in plan.configurations if c.gpus == 1 and c.deployment.device.name == "h100-sxm-80gb")
        assert c.prefill.resource == "compute"
        of[weights] = serving.least(c).ttft
        assert of[weights] == c.prefill.seconds
    assert of["fp8"] == pytest.approx(of["bf16"] / 2, rel=1e-3)


def test_what_was_measured_here_comes_first() -> None:
    """A host that adds 2 ms more to each pass than public runs left: each token comes 2 ms later."""
    search, plan, serving = searched()
    host = HostConstant(
        engine="vllm", version="", device="h100-sxm-80gb", step_s=0.0026, points=3, mean_error=0.01, largest_error=0.02
    )
    here = Serving(search, None, Local(hosts=(host,)))
    for c in plan.configurations[:6]:
        own, public = here.seen(c).times.tpot, serving.seen(c).times.tpot
        if c.deployment.device.name == "h100-sxm-80gb":
            assert own - public == pytest.approx(0.002, rel=0.05)
            assert "3 served points" in predicted(here, c).assumptions[-1]
        else:
            assert own == public


# --- what spares predictions ------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, 45.0])
def test_bounds_that_spare_a_prediction_hold(rate: float | None) -> None:
    """Of a request alone, of a whole answer in a closed loop, and of what is answered at most and in any case."""
    search, plan, serving = searched(rate)
    for c in plan.configurations[::2]:
        alone, seen = serving.alone(c), serving.seen(c)
        assert alone.ttft <= seen.times.ttft
        assert alone.tpot <= seen.times.tpot
        assert serving.busy(c) <= seen.times.answer(search.ask.demand.output_tokens)
        if rate is not None:
            run, groups = serving.run(c)
            most = run.most_requests_per_second() * groups
            assert serving.surely(c) <= most
            assert serving.ceiling(c) >= most
            assert serving.answers(c) == (0.98 * most >= rate)


@pytest.mark.parametrize("rank", ["gpus", "price", "cost", "decode", "prefill", "throughput"])
def test_the_order_is_that_of_all_predictions(rank: Rank) -> None:
    """The first few, found with few predictions, are those of a search that predicts everything."""
    slo = Slo(ttft=0.4, tpot=0.012)
    few, every = served(slo, rank=rank, priced=True), served(slo, rank=rank, priced=True)
    first, all_of_them = few.best(3), every.best(None)
    assert first == all_of_them[:3]
    assert len(all_of_them) > 3
    assert len(few.seen) < len(every.seen)
    keys = [every._key(c, every.seen[c].times, every.seen[c].requests_per_s) for c in all_of_them]
    assert keys == sorted(keys)
    assert len({(c.deployment.device.name, c.gpus) for c in all_of_them}) == len(all_of_them)


def test_equal_loads_are_served_once() -> None:
    _, plan, serving = searched(concurrency=2, max_gpus=2)
    for _ in range(2):
        for c in plan.configurations:
            serving.seen(c)
    assert serving.simulated == len({(c.deployment.device.name, c.deployment.sharding) for c in plan.configurations})


def test_what_misses_at_the_speed_of_light_is_not_predicted() -> None:
    _, plan, _ = searched()
    fastest = min(c.decode.seconds for c in plan.configurations if c.decode)
    search = served(Slo(tpot=fastest * 0.99), concurrency=12)
    before = search.serving.simulated
    assert search.best(None) == search.front() == []
    assert search.serving.simulated == before
    assert {missed.stage for missed in search.missed.values()} == {"speed of light"}
    (reason,) = served_reasons(list(search.missed.values()))
    assert (reason.count, reason.nearest.value) == (len(plan.configurations), fastest)
    assert below_light(search)["tpot"].value == fastest


# --- properties ---------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    ttft=st.floats(0.02, 1.0),
    tpot=st.floats(0.004, 0.05),
    looser=st.floats(1.0, 4.0),
    of=st.sampled_from(("ttft", "tpot", "both")),
)
def test_a_looser_level_never_has_fewer_configurations(ttft: float, tpot: float, looser: float, of: str) -> None:
    tight = Slo(ttft=ttft, tpot=tpot)
    loose = Slo(ttft=ttft * (looser if of != "tpot" else 1), tpot=tpot * (looser if of != "ttft" else 1))
    few, many = served(tight), served(loose)
    kept = {c for c in few.plan.configurations if few.meets(c)}
    assert kept <= {c for c in many.plan.configurations if many.meets(c)}
    assert len(few.plan.configurations) == len(kept) + len(few.missed)


@settings(max_examples=6, deadline=None)
@given(rate=st.floats(2, 40), more=st.floats(1.3, 4))
def test_more_requests_never_need_fewer_devices(rate: float, more: float) -> None:
    slo = Slo(tpot=0.015)
    found = [served(slo, r).best(1) for r in (rate, rate * more)]
    gpus = [best[0].gpus if best else 99 for best in found]
    assert gpus[0] <= gpus[1]


def test_cost_follows_price() -> None:
    """4 devices at 2.5 an hour that answer 100 tokens a second: 10 / 3600 / 100 x 1e6 = 27.78 a million."""
    search = served(Slo(), priced=True)
    for each in figures(search):
        c = each.configuration
        assert c.price is not None
        expected = c.price * c.gpus / 3600 / each.tokens_per_s * 1e6
        assert each.cost_per_million == pytest.approx(expected, rel=1e-12)
        dearer = replace(c, price=3 * c.price)
        assert predicted(search.serving, dearer).cost_per_million == pytest.approx(3 * expected, rel=1e-12)
    assert all(each.cost_per_million is None for each in figures(served(Slo(ttft=0.1))))


def test_energy_follows_power() -> None:
    """700 W of 4 devices that answer 1,000 tokens a second, 40 to a request: 2.8 J a token, 0.78 kWh a million; 112 J
    a request. The boards' limits are 700 W (H100 SXM) and 350 W (L40S)."""
    power = Power(watts=700, stated=False)
    assert (power.joules(4, 1000 / 1e6), power.joules(4, 1000 / 40)) == (2_800_000, 112)
    assert round(2_800_000 / JOULES_PER_KWH, 4) == 0.7778
    limits = {"h100-sxm-80gb": 700, "l40s": 350}
    search = served(Slo(), priced=True)
    for each in figures(search):
        c = each.configuration
        assert each.power == Power(watts=limits[c.deployment.device.name], stated=False)
        a_second = limits[c.deployment.device.name] * c.gpus
        assert each.joules_per_million == pytest.approx(a_second / each.tokens_per_s * 1e6, rel=1e-12)
        assert each.joules_per_request == pytest.approx(40 * a_second / each.tokens_per_s, rel=1e-12)


def test_stated_watts_win() -> None:
    h100, v100 = find("h100-sxm"), find("v100-32gb")
    assert power_of(h100, {"h100-sxm-80gb": 560.5}) == Power(watts=560.5, stated=True)
    assert power_of(h100, {"l40s": 290.0}) == Power(watts=700, stated=False)
    assert power_of(v100, {}) is None, "250 W as a PCIe card, 300 W as SXM2"
    for watts in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"the power of a device is .* positive"):
            Power(watts=watts, stated=True)


# --- the front ----------------------------------------------------------------------------------------


def test_a_front_by_hand() -> None:
    """(1, 5) and (2, 3) are on it; (2, 4) is slower, (3, 3) dearer, and (2, 3) again no better."""
    points = [(3, 3), (2, 4), (1, 5), (2, 3), (2, 3), (1, 6)]
    assert front(points, cost=lambda p: p[0], latency=lambda p: p[1]) == [(1, 5), (2, 3)]
    assert front([], cost=lambda p: p[0], latency=lambda p: p[1]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.floats(0.1, 1), st.booleans()), max_size=12))
def test_bounds_leave_a_front_as_it_is(points: list[tuple[int, int, float, bool]]) -> None:
    asked = []

    def latency(p: tuple[int, int, float, bool]) -> float | None:
        asked.append(p)
        return p[1] if p[3] else None

    found = front_of_bounds(points, cost=lambda p: p[0], bounds=[lambda p: p[1] * p[2]], latency=latency)
    expected = front([p for p in points if p[3]], cost=lambda p: p[0], latency=lambda p: p[1])
    assert [p[:2] for p in found] == [p[:2] for p in expected]
    assert len(asked) <= len(points)


def test_the_front_of_a_plan() -> None:
    search = served(Slo(), priced=True)
    found = search.front()
    times = {c: search.serving.seen(c).times.answer(40) for c in search.plan.configurations}
    assert [c.price_per_hour for c in found] == sorted(c.price_per_hour for c in found)  # type: ignore[type-var]
    for c in found:
        assert not any(o.price_per_hour <= c.price_per_hour and times[o] < times[c] for o in times)  # type: ignore[operator]
    for a, b in pairwise(found):
        assert times[b] < times[a]


# --- what would do ------------------------------------------------------------------------------------


def asking(search: ServedSearch, slo: Slo, rate: float | None, c: Configuration) -> bool:
    serving = search.serving if rate is None else search.serving.at(rate)
    return ServedSearch(search.plan, serving, Target(slo=slo, rate=rate)).meets(c) is not None


@pytest.mark.parametrize(
    ("slo", "changes"),
    [
        (Slo(ttft=0.01, tpot=1.0), ["ttft"]),
        (Slo(ttft=1.0, tpot=0.0015), ["tpot"]),
        (Slo(ttft=0.001, tpot=0.0001), ["both"]),
        (Slo(tpot=0.0001), ["tpot"]),
    ],
)
def test_the_nearest_level_is_kept(slo: Slo, changes: list[str]) -> None:
    search = served(slo)
    assert search.best() == []
    levels = [each for each in nearest_targets(search) if each.change in ("ttft", "tpot", "both")]
    assert [each.change for each in levels] == changes
    for each in levels:
        assert asking(search, each.slo, None, each.configuration)
        if each.change in ("ttft", "tpot"):
            level = each.slo.ttft if each.change == "ttft" else each.slo.tpot
            assert level is not None
            tighter = replace(each.slo, **{each.change: level * 0.999})
            assert not served(tighter).best(1), "it is the least that would do"


def test_the_nearest_rate_and_number_of_devices() -> None:
    search = served(Slo(tpot=0.03), 400.0, max_gpus=2)
    assert search.best() == []
    slower, more = nearest_targets(search)
    assert (slower.change, more.change) == ("request_rate", "devices")
    assert slower.rate is not None
    assert slower.rate < 400
    assert asking(search, slower.slo, slower.rate, slower.configuration)
    assert more.configuration.gpus > 2


# --- planted faults -----------------------------------------------------------------------------------


def test_a_prediction_below_its_bound_shows() -> None:
    with planted(Serving.seen, "max(own.mean_tpot, least.tpot)", "0.1 * own.mean_tpot"), pytest.raises(AssertionError):
        test_no_prediction_is_below_its_bound()


@pytest.mark.parametrize(
    ("rate", "function", "old", "new"),
    [
        (None, Serving.alone, "steps.time(1,", "steps.time(64,"),
        (None, Serving.busy, "clients * lanes", "2 * clients * lanes"),
        (None, Serving.ceiling, "min(found, room / step", "min(found, 0.5 * room / step"),
        (45.0, Serving.surely, "(prompt + (demand", "(0 * prompt + (demand"),
    ],
)
def test_a_bound_that_is_none_shows(rate: float | None, function: Callable[..., object], old: str, new: str) -> None:
    with planted(function, old, new), pytest.raises(AssertionError):
        test_bounds_that_spare_a_prediction_hold(rate)


def test_an_order_that_is_none_shows() -> None:
    fault = planted(ServedSearch._if_alone, "self._key(c, times,", "self._key(c, Times(ttft=9.0, tpot=9.0),")
    with fault, pytest.raises(AssertionError):
        test_the_order_is_that_of_all_predictions("decode")


# --- what cannot be asked -----------------------------------------------------------------------------


def test_levels() -> None:
    slo = Slo(ttft=0.5)
    assert slo.missed(Times(ttft=0.5, tpot=9)) == ()
    assert slo.missed(Times(ttft=0.51, tpot=9)) == ("ttft",)
    assert Slo(ttft=1, tpot=1).missed(Times(ttft=2, tpot=2)) == ("ttft", "tpot")
    assert slo.latency(Times(ttft=2, tpot=1), 4) == 2
    assert Slo().latency(Times(ttft=2, tpot=1), 4) == 5


def test_what_has_no_times() -> None:
    target = Target(slo=Slo(tpot=1.0))
    with pytest.raises(InputError, match="structure encoder"):
        target.check(named("bert-base-uncased"), 10)
    with pytest.raises(InputError, match="none after the first"):
        target.check(named("llama-3.2-3b"), 1)
    with pytest.raises(InputError, match="no times are known"):
        searched(name="mamba-130m")
    mi355x = Search(named("llama-3.2-3b"), [find("mi355x")], searched()[0].ask)
    search = ServedSearch(mi355x.plan(), Serving(mi355x, None), target)
    search.best(None)
    unknown = [missed for missed in search.missed.values() if missed.stage == "no times"]
    assert {missed.configuration.deployment.sharding.ranks > 1 for missed in unknown} == {True}
    assert "interconnect" in unknown[0].why
