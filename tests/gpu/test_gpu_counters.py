"""Counters on a real GPU: what can be read is right, and what cannot be read says why and what would help."""

from __future__ import annotations

import pytest
import torch
from small_model import ARCH, BATCH

from llmprof.measure.counters import cupti_collect, ncu
from llmprof.measure.counters.caches import CACHES, Sweep
from llmprof.measure.counters.collect import collect, kernels_of
from llmprof.measure.counters.metrics import chip_of, sum_of
from llmprof.measure.counters.request import Request
from llmprof.measure.counters.target import run
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.device import resolve_device
from llmprof.measure.eviction import last_level_cache_bytes
from llmprof.measure.gpu_experiments.experiment import gpu_of
from llmprof.measure.gpu_experiments.judge import by_place, counted
from llmprof.measure.gpu_experiments.rows import NORMS
from llmprof.measure.gpu_experiments.without_counters import known_copy, launches
from llmprof.measure.gpu_process import run_command
from llmprof.workload import Execution, Workload

pytestmark = pytest.mark.gpu

PREFILL = Workload(phase="prefill", batch=BATCH, new_tokens=512, context=512)
DECODE = Workload(phase="decode", batch=BATCH, new_tokens=1, context=512)
PASSES = tuple((w, Execution(attention=a)) for w in (PREFILL, DECODE) for a in ("fused", "unfused"))  # type: ignore[arg-type]


def known(error: Unavailable) -> None:
    """A reason that names no cause and no remedy is a fault."""
    assert error.reason
    assert error.remedy
    assert "it said" not in error.remedy, f"a failure that nobody has thought of: {error}"


def test_the_sweep_is_three_caches_large() -> None:
    device = resolve_device("cuda")
    cache = last_level_cache_bytes(device)
    assert cache is not None
    assert Sweep(device).nbytes == CACHES * cache


@pytest.mark.parametrize("temperature", ["cold", "warm"])
def test_the_target_runs_its_passes_without_a_profiler_too(temperature: str) -> None:
    found = run(Request(arch=ARCH, passes=PASSES, device="cuda", temperature=temperature))  # type: ignore[arg-type]
    assert found["refused"] == {}
    assert set(found["kernels"]) == {"prefill/fused", "prefill/unfused", "decode/fused", "decode/unfused"}
    assert set(found["kernels"]["prefill/fused"].values()) <= {"flash", "efficient"}


def test_every_leaf_is_counted_or_there_is_a_reason() -> None:
    device = resolve_device("cuda")
    try:
        found = collect(
            Request(arch=ARCH, passes=PASSES, device="cuda"), chip_of(torch.cuda.get_device_capability(device))
        )
    except Unavailable as error:
        known(error)
        return
    leaves = {place.path for place in found.places if place.kind == "leaf"}
    assert {"embed", "layers.0.attn.core", "layers.1.ffn.down", "lm_head"} <= leaves
    for place, (first, second) in found.places.items():
        assert first.kernels == second.kernels, place
        assert not first.absent, place
        assert all(value >= 0 for value in first.sums.values())


def test_two_instruments_count_the_same_or_there_is_a_reason() -> None:
    device = resolve_device("cuda")
    request = Request(arch=ARCH, passes=PASSES, device="cuda")
    try:
        chip = chip_of(torch.cuda.get_device_capability(device))
        by_module = cupti_collect.collect(request, chip)
        by_kernel = collect(request, chip)
    except Unavailable as error:
        known(error)
        return
    tensor = chip.tensor["bf16"]
    for place, (first, _) in by_kernel.places.items():
        if place.kind == "leaf":
            # FLOPs of tensor cores do not depend on caches: two instruments cannot see different ones.
            assert sum_of(by_module.places[place][0].sums, tensor) == sum_of(first.sums, tensor), place


def test_a_norm_moves_what_it_reads_and_writes_or_there_is_a_reason() -> None:
    device = resolve_device("cuda")
    gpu = gpu_of(device)
    try:
        chip = chip_of(gpu.capability)
        tool = ncu.ask_version(ncu.find(), run_command)
        kernels = kernels_of(
            ("llmprof.measure.gpu_experiments.target", "--only", NORMS.name), chip.runs("bf16")[0], tool
        )
    except Unavailable as error:
        known(error)
        return
    (moved, *_) = counted(NORMS, gpu, chip, by_place(kernels))
    assert moved.ratio is not None
    assert 0.95 <= moved.ratio <= 1.10


def test_launches_are_seen_without_permission() -> None:
    device = resolve_device("cuda")
    (moved, launched) = launches(NORMS, gpu_of(device), device, "not asked")
    assert (moved.measured, moved.note) == (None, "not asked")
    assert launched.measured is not None
    assert launched.measured >= 1
    assert len(launched.kernels) == launched.measured


def test_gpm_knows_a_copy_or_says_why_not() -> None:
    device = resolve_device("cuda")
    found = known_copy(gpu_of(device), device)
    if found["measured"] is None:
        assert "use " in found["answer"]
        return
    assert 0.7 < found["ratio"] < 1.3
