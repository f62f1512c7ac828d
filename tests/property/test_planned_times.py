"""The whole chain of a predicted plan: a better device, or fewer tokens, never make a request that is alone take longer.

Of requests that meet others that is no law: quicker kernels change which of them meet, and by that now and then a mean.
What holds for those too is that nothing is below the speed of light, nor a value outside its range.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.device import Device, find
from llmprof.errors import InputError
from llmprof.planning.ask import Ask
from llmprof.planning.configuration import Configuration
from llmprof.planning.demand import Demand
from llmprof.planning.search import Search
from llmprof.planning.served import Serving
from llmprof.planning.served_figures import Predicted, predicted
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes

# Devices with constants of their own for all that these models launch: those of others are of devices like them, and
# which those are is decided by the very figures that change here.
FITTED = ("h100-sxm-80gb", "h200", "b200")
MODELS = ("llama-3.2-1b", "smollm2-135m", "gemma-3-1b")
SPREAD = (Sharding(), Sharding(data_parallel=2), Sharding(pipeline_parallel=2))

demands = st.builds(
    Demand,
    prompt_tokens=st.integers(1, 3000),
    output_tokens=st.integers(1, 40),
    concurrency=st.just(1),
    chunk_tokens=st.sampled_from((256, 2048)),
)


@cache
def better(name: str, memory: float, compute: float) -> Device:
    """A device with so many times the bandwidth and the peaks."""
    device = find(name)
    assert device.memory_bandwidth is not None
    return replace(
        device,
        memory_bandwidth=replace(device.memory_bandwidth, value=int(device.memory_bandwidth.value * memory)),
        peak_flops={each: replace(of, value=int(of.value * compute)) for each, of in device.peak_flops.items()},
    )


def served(model: str, device: Device, demand: Demand, sharding: Sharding, weights: str = "bf16") -> Predicted:
    (arch,) = catalog.resolve([model], variant=None, all_variants=False)
    dtypes = Dtypes(weights=weights)  # type: ignore[arg-type]
    search = Search(arch, [device], Ask(demand=demand, dtypes=(dtypes,)))
    made = search.configured(search.deployment(device, sharding, dtypes))
    assert isinstance(made, Configuration), made
    return predicted(Serving(search, None), made)


@settings(max_examples=12, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    name=st.sampled_from(FITTED),
    demand=demands,
    sharding=st.sampled_from(SPREAD[::2]),
    memory=st.sampled_from((1, 1.25, 3)),
    compute=st.sampled_from((1, 1.25, 3)),
    shorter=st.floats(0.2, 1),
)
def test_better_devices_and_fewer_tokens_never_take_longer(
    model: str, name: str, demand: Demand, sharding: Sharding, memory: float, compute: float, shorter: float
) -> None:
    base = served(model, find(name), demand, sharding)
    fewer = replace(
        demand,
        prompt_tokens=max(1, int(shorter * demand.prompt_tokens)),
        output_tokens=max(1, int(shorter * demand.output_tokens)),
    )
    for device, asked in ((better(name, memory, compute), demand), (find(name), fewer)):
        found = served(model, device, asked, sharding)
        for metric in ("ttft", "tpot"):
            assert found.times.of(metric) <= base.times.of(metric) * (1 + 1e-9), (metric, asked)


@settings(max_examples=12, deadline=None)
@given(
    model=st.sampled_from((*MODELS, "deepseek-v2-lite", "olmoe-1b-7b")),
    name=st.sampled_from(("h200", "mi300x", "a100-sxm-80gb", "tpu-v6e", "l40s")),
    demand=demands,
    clients=st.integers(1, 12),
    sharding=st.sampled_from(SPREAD),
    weights=st.sampled_from(("bf16", "fp8", "int4")),
)
def test_nothing_is_below_the_speed_of_light_or_outside_its_range(
    model: str, name: str, demand: Demand, clients: int, sharding: Sharding, weights: str
) -> None:
    asked = replace(demand, concurrency=max(clients, sharding.data_parallel))
    try:
        found = served(model, find(name), asked, sharding, weights)
    except InputError as error:
        assert "interconnect" in str(error), error
        return
    for least, interval in ((found.least.ttft, found.ttft), (found.least.tpot, found.tpot)):
        assert least <= interval.low <= interval.value <= interval.high
    # Little's law: clients ask again when they are answered, and no more are in flight than there are.
    in_flight = found.requests_per_s * found.times.answer(asked.output_tokens)
    assert in_flight <= asked.concurrency * (1 + 1e-6)
    assert found.tokens_per_s == found.requests_per_s * asked.output_tokens
