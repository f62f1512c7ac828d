"""What leaves take inside a pass, out of passes whose kernels are known."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest

from llmprof.latency.eager import FAMILY, Constants, EagerModel, leaves_of, pass_time
from llmprof.latency.in_pass import Surroundings
from llmprof.predict.api import predict
from llmprof.profiling.small_passes import (
    NARROW,
    SIZES,
    WIDE,
    LeafTime,
    PassTimes,
    fitted,
    judged,
    leaf_times,
    small_models,
)
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    from llmprof.latency.in_pass import LeafKind

TRUE: dict[LeafKind, Surroundings] = {
    "mover": Surroundings(module_s=5e-6, kernel_s=5e-7, factor=1.2),
    "product": Surroundings(module_s=7e-6, kernel_s=0.0, factor=1.05),
    "fused core": Surroundings(module_s=3e-5, kernel_s=0.0, factor=2.0),
}


def times(model: int, *, between: float = 0.0, slower: float = 1.0, without: str = "") -> list[PassTimes]:
    """Passes of six sizes by known constants; whole passes take `between` for each leaf more, and are `slower`."""
    ran = []
    for size in (1e-6, 3e-6, 1e-5, 1e-4, 1e-3, 4e-3):
        kinds: tuple[tuple[LeafKind, int], ...] = (("mover", 1), ("mover", 8), ("product", 1), ("fused core", 1))
        leaves = tuple(
            LeafTime(
                kind=kind, kernels=kernels, alone=size * kernels, taken=TRUE[kind].seconds(kernels, size * kernels)
            )
            for kind, kernels in kinds
            if kind != without
        )
        taken = slower * sum(leaf.taken for leaf in leaves) + between * len(leaves)
        ran.append(PassTimes(model=model, leaves=leaves, taken=taken))
    return ran


def test_known_surroundings_are_found_again() -> None:
    found = fitted(times(0))
    assert set(found) == set(TRUE)
    for kind, each in TRUE.items():
        assert found[kind].module_s == pytest.approx(each.module_s, rel=1e-6)
        assert found[kind].kernel_s == pytest.approx(each.kernel_s, abs=1e-12)
        assert found[kind].factor == pytest.approx(each.factor, rel=1e-6)


def test_what_a_pass_takes_beside_its_leaves_is_theirs() -> None:
    found = fitted(times(0, between=2e-6, slower=1.1))
    assert found["product"].module_s == pytest.approx(2e-6 + 1.1 * 7e-6, rel=1e-6)
    assert found["mover"].kernel_s == pytest.approx(1.1 * 5e-7, rel=1e-6)
    assert found["fused core"].factor == pytest.approx(1.1 * 2.0, rel=1e-6)


def test_nothing_is_ever_below_nothing() -> None:
    quick = [
        PassTimes(model=0, leaves=(LeafTime(kind="mover", kernels=n, alone=1e-6 * n, taken=1e-7),), taken=1e-7)
        for n in (1, 2, 6)
    ]
    (found,) = fitted(quick).values()
    assert min(found.module_s, found.kernel_s, found.factor) >= 0


def test_a_model_is_judged_by_what_the_others_show() -> None:
    """One model of three is a tenth slower: it misses by what the others do not have, and they by what it has."""
    found = judged([*times(0), *times(1), *times(2, slower=1.1)])
    assert found.passes == 18
    assert 0.02 < found.error < 0.05  # of the two: between a tenth and nothing
    assert found.high == pytest.approx(1.1, rel=1e-6)
    assert found.low < 1
    same = judged([*times(0), *times(1)])
    assert same.error == pytest.approx(0.0, abs=1e-6)
    # Errors are parts of what was measured: twelve passes took twice what they should, and six half of it.
    assert judged([*times(0), *times(1, slower=2), *times(1, slower=2)]).error == pytest.approx(0.5)


def test_a_kind_that_the_others_have_not_is_taken_for_a_mover() -> None:
    found = judged([*times(0, without="fused core"), *times(1)])
    assert found.high > 1.2  # cores of 30 us and twice their time
    assert "fused core" in found.leaves


@pytest.mark.parametrize("attention", ["fused", "unfused"])
def test_leaves_of_every_small_model(attention: str) -> None:
    """Kernels of 1 us in leaves that are clocked at 10 us; the names of what is built are the names of what is timed."""
    each = Constants(
        t0=1e-6, per_product=0.0, flops_per_s=inf, cached_bytes_per_s=inf, slowdown=1.0, cache_bytes=1.0, overlap=1.0,
        low=1.0, high=1.0, points=9, error=0.0,
    )  # fmt: skip
    model = EagerModel(constants={(family, FAMILY): each for family in ("matmul", "batched", "core", "memory")})
    for arch in (*small_models(NARROW), *small_models(WIDE)):
        seen = set()
        for batch, new, context in SIZES:
            workload = Workload(phase="decode" if new == 1 else "prefill", batch=batch, new_tokens=new, context=context)
            prediction = predict(arch, workload, Execution(attention=attention, kernels="cpu"))  # type: ignore[arg-type]
            paths = [path for leaf in pass_time(prediction, model).leaves for path in leaf.paths]
            found = list(leaf_times(prediction, model, dict.fromkeys(paths, 1e-5)))
            assert len(found) == len(paths)
            assert all(leaf.taken == 1e-5 and leaf.alone == pytest.approx(leaf.kernels * 1e-6) for leaf in found)
            assert sum(leaf.kernels for leaf in found) == sum(line.count for line in prediction.ops)
            assert len(list(leaves_of(prediction))) < len(paths)
            seen |= {leaf.kind for leaf in found}
        assert seen >= {"mover", "product", "cache", "embed", f"{attention} core"}


def test_weights_of_the_widest_models_are_more_than_a_cache_holds() -> None:
    workload = Workload(phase="decode", batch=1, new_tokens=1, context=16)
    params = [
        predict(arch, workload, Execution(attention="fused", kernels="cpu")).ledger.total("params")
        for arch in small_models(WIDE)
    ]
    assert min(params[:2]) * 2 > 48 * 10**6
