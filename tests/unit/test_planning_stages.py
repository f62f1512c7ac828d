"""What is served by pipelines whose stages have unequally many layers: bounds hold, and the deepest stage decides."""

from __future__ import annotations

import pytest

from llmprof.device import find
from llmprof.latency.serving.serve import serve
from llmprof.latency.serving.steps import Steps
from llmprof.planning.configuration import Configuration
from llmprof.planning.search import Search
from llmprof.planning.served import Serving
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes
from tests.faults import planted
from tests.unit.planned import ask, named

H200, BF16 = find("h200"), Dtypes()


def served(sharding: Sharding, rate: float | None = 5.0, clients: int = 64) -> tuple[Serving, Configuration]:
    search = Search(named("smollm2-135m"), [H200], ask(prompt=64, output=256, concurrency=clients, max_gpus=64))
    found = search.configured(search.deployment(H200, sharding, BF16))
    assert isinstance(found, Configuration)
    return Serving(search, rate), found


def rates(sharding: Sharding) -> tuple[float, float, float]:
    """Requests per second: in any case, as simulated, and at most."""
    serving, c = served(sharding)
    run, lanes = serving.run(c)
    return serving.surely(c), run.most_requests_per_second() * lanes, serving.ceiling(c)


UNEVEN = Sharding(pipeline_parallel=20)
"""30 layers: 9 stages of one, then 10 of two before the last, which has one."""


def test_what_is_answered_lies_between_its_bounds() -> None:
    for sharding in (UNEVEN, Sharding(pipeline_parallel=4), Sharding(pipeline_parallel=3, pipeline_layers=(1, 1, 28))):
        surely, most, ceiling = rates(sharding)
        assert surely <= most <= ceiling
    with planted(Serving.surely, " / steps.slack", ""):
        surely, most, _ = rates(UNEVEN)
        assert surely > most


def test_a_group_waits_for_the_deepest_stage() -> None:
    """Of equal stages a pass takes what it takes; of 20 with two layers at most, 40 / 30 of that."""
    for sharding, slack in ((Sharding(pipeline_parallel=15), 1), (UNEVEN, pytest.approx(4 / 3))):
        serving, c = served(sharding)
        assert serving.run(c)[0].steps.slack == slack
    told = Sharding(pipeline_parallel=2, pipeline_layers=(20, 10))
    (even, c), (slow, d) = served(Sharding(pipeline_parallel=2), None), served(told, None)
    assert slow.seen(d).times.tpot > even.seen(c).times.tpot
    by_itself = serve(slow.search.arch, d.deployment, slow.search.ask.demand)
    assert by_itself.tpot.value == pytest.approx(slow.seen(d).times.tpot, rel=0.05)
    assert by_itself.tpot.value > 1.1 * even.seen(c).times.tpot
    # 2 x 20 of 30 layers, at both ends of the range too.
    equal, waits = even.run(c)[0].steps, slow.run(d)[0].steps
    for of in (Steps.seconds, Steps.low, Steps.high):
        assert of(waits)(8, 100, ()) == pytest.approx(4 / 3 * of(equal)(8, 100, ()))


def test_few_clients_wait_for_no_stage() -> None:
    """30 layers on 4 stages, 8 in the deepest: three clients are through with 24 of them when the first comes again."""
    seen = {}
    for clients, slack in ((1, 1), (3, 1), (4, pytest.approx(32 / 30)), (64, pytest.approx(32 / 30))):
        serving, c = served(Sharding(pipeline_parallel=4), None, clients)
        assert serving.run(c)[0].steps.slack == slack
        seen[clients] = serving.seen(c).times.tpot
    assert seen[1] == pytest.approx(seen[3])
    assert seen[4] > 1.01 * seen[3]
