"""What the host spends around kernels, out of clocks of leaves whose kernels are known."""

from __future__ import annotations

from math import inf

import pytest

from llmprof.latency.eager import FAMILY, Constants, EagerModel, pass_time
from llmprof.predict.api import predict
from llmprof.profiling.host_costs import LeafCost, leaf_costs, small_models, split
from llmprof.work import Work
from llmprof.workload import Execution, Workload

MEMORY = frozenset({"memory"})


def kernels(t0: float) -> EagerModel:
    each = Constants(
        t0=t0, per_product=0.0, flops_per_s=inf, cached_bytes_per_s=inf, slowdown=1.0, cache_bytes=1.0, overlap=1.0,
        low=1.0, high=1.0, points=9, error=0.0,
    )  # fmt: skip
    families = ("matmul", "batched", "core", "memory")
    return EagerModel(constants={(family, FAMILY): each for family in families}, module_s=0.0)


def test_a_module_and_its_kernels_are_told_apart() -> None:
    """Leaves of 1, 2 and 6 kernels that cost 5 us and 2 us each, and clocks that are a little off."""
    costs = [
        LeafCost(kernels=count, families=MEMORY, beyond_s=5e-6 + count * 2e-6 + off)
        for count in (1, 2, 6)
        for off in (-1e-8, 1e-8)
    ]
    module, kernel = split(costs)
    assert module == pytest.approx(5e-6, rel=1e-3)
    assert kernel == pytest.approx(2e-6, rel=1e-3)


def test_neither_is_ever_below_nothing() -> None:
    costs = [LeafCost(kernels=count, families=MEMORY, beyond_s=-1e-6 * count) for count in (1, 2, 6)]
    assert split(costs) == (0.0, 0.0)


@pytest.mark.parametrize("attention", ["fused", "unfused"])
def test_what_is_left_of_every_leaf(attention: str) -> None:
    """Kernels of 1 us in leaves that are clocked at 10 us."""
    for arch in small_models():
        workload = Workload(phase="decode", batch=1, new_tokens=1, context=16)
        prediction = predict(arch, workload, Execution(attention=attention, kernels="cpu"))  # type: ignore[arg-type]
        paths = [path for leaf in pass_time(prediction, kernels(0.0)).leaves for path in leaf.paths]
        found = list(leaf_costs(prediction, kernels(1e-6), dict.fromkeys(paths, 1e-5)))
        assert len(found) == len(paths)
        assert all(cost.beyond_s == pytest.approx(1e-5 - cost.kernels * 1e-6) for cost in found)
        cores = [cost for cost in found if cost.families & {"core", "batched"}]
        assert len(cores) == 2  # one in each of two layers
        assert {cost.families & {"core", "batched"} for cost in cores} == {
            frozenset({"core" if attention == "fused" else "batched"})
        }


def test_a_module_with_a_core_has_a_cost_of_its_own() -> None:
    model = EagerModel(
        constants=kernels(0.0).constants, module_s=1.0, kernel_s=0.1, fused_core_s=5.0, unfused_core_s=7.0
    )
    mover, product, core = (Work(kind=kind, flops=0, bytes=0) for kind in ("add", "bmm", "cpu"))
    assert model.around([mover, mover], 2) == pytest.approx(1.2)
    assert model.around([mover, product], 2) == pytest.approx(7.2)
    assert model.around([core], 1) == pytest.approx(5.1)
