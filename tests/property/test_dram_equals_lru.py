"""Across generated architectures and workloads, what reaches memory is the same to both halves, below any cache."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from llmprof.spec.arch import ArchSpec
from llmprof.twin.core import NoFusedKernel
from llmprof.workload import Execution, Workload
from tests.importing import EVERYTHING
from tests.memory_levels import levels
from tests.strategies import archs, workloads

questions = archs().flatmap(lambda arch: st.tuples(st.just(arch), workloads(arch)))


def check(question: tuple[ArchSpec, Workload], attention: str, capacity: int, device: str) -> None:
    arch, work = question
    execution = Execution(attention=attention, kernels="cpu" if device == "cpu" else "cuda")  # type: ignore[arg-type]
    try:
        found = levels(arch, work, execution, (capacity, 2 * capacity, None), device=device)
    except NoFusedKernel:
        event("no fused kernel")
        return
    assert found.differences() == []
    assert sum(found.simulated[None].values()) <= sum(found.simulated[capacity].values())


capacities = st.one_of(st.integers(0, 2_000), st.integers(0, 100_000))


@pytest.mark.slow
@settings(max_examples=1500 if EVERYTHING else 40)
@given(question=questions, attention=st.sampled_from(["fused", "unfused"]), capacity=capacities)
def test_on_meta(question: tuple[ArchSpec, Workload], attention: str, capacity: int) -> None:
    check(question, attention, capacity, "meta")


@settings(max_examples=200 if EVERYTHING else 15)
@given(question=questions, attention=st.sampled_from(["fused", "unfused"]), capacity=capacities)
def test_on_real_tensors(question: tuple[ArchSpec, Workload], attention: str, capacity: int) -> None:
    check(question, attention, capacity, "cpu")
