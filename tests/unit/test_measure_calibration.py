"""The kernels that a device is calibrated with: what each is said to do is what its real launch does."""

from __future__ import annotations

import pytest
import torch

from llmprof.latency.eager import work_of
from llmprof.measure.bytes import ByteCounter
from llmprof.measure.calibration import kernels
from llmprof.measure.calibration.clock import ROUNDS, host_seconds, time_points, undisturbed
from llmprof.measure.calibration.kernels import Point, Pool, points
from llmprof.measure.flops import FlopCounter
from llmprof.measure.module_time import module_seconds
from llmprof.measure.trace import DispatchMode
from llmprof.predict.api import predict
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.work import Work
from llmprof.workload import Dtypes, Execution
from tests.predict_samples import decode, gpt2, llama_3_8b, prefill

CPU = torch.device("cpu")
SMALL = 4 * 10**6
"""Bytes: larger points have the same formulas and take their time."""


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COLD_BYTES", 48 * 2**20)


@pytest.mark.usefixtures("small_pool")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_and_flops_of_every_point_are_those_of_its_launch(dtype: torch.dtype) -> None:
    pool, seen = Pool(dtype, CPU), set()
    for point in points(dtype, CPU):
        if point.work.bytes > SMALL:
            continue
        launch, counted, flops = point.make(pool), ByteCounter(), FlopCounter()
        with torch.no_grad(), DispatchMode([counted, flops], "point"):
            launch()
        assert sum(counted.by_path.values()) == point.work.bytes, point.label
        if point.work.family != "core":  # whose FLOPs are those under its mask
            assert sum(flops.by_path.values()) == point.work.flops, point.label
        seen.add(point.work.kind)
    assert {"mm", "addmm", "bmm", "baddbmm", "cpu", "add", "softmax", "layer_norm", "cast", "clone"} <= seen


def test_a_core_that_is_timed_does_what_a_predicted_one_does() -> None:
    """FLOPs of whole blocks, products, and keys that are read again, which no launch shows, in both halves alike."""
    timed = {point.label: point.work for point in points(torch.bfloat16, CPU) if point.work.family == "core"}
    for arch, workload, label in (
        (gpt2(), decode(1024), "12/12 x 1 x 1024 x 64"),
        (gpt2(), prefill(64), "12/12 x 64 x 64 x 64"),
        (gpt2(), prefill(256), "12/12 x 256 x 256 x 64"),
        (llama_3_8b(), decode(512), "32/8 x 1 x 512 x 128"),
        (llama_3_8b(), prefill(256), "32/8 x 256 x 256 x 128"),
    ):
        (group,) = predict(arch, workload, Execution(attention="fused", kernels="cpu")).program.groups
        (core,) = (op for op in group.ops if op.kind == "cpu")
        assert timed[f"attention {label}"] == work_of(core)


def test_labels_are_different_and_kinds_have_enough_points() -> None:
    every = list(points(torch.bfloat16, CPU))
    assert len({point.label for point in every}) == len(every)
    kinds: dict[str, int] = {}
    for point in every:
        kinds[point.work.kind] = kinds.get(point.work.kind, 0) + 1
    assert min(kinds.values()) >= 5, kinds


@pytest.mark.usefixtures("small_pool")
def test_matrices_that_are_read_in_turn_are_different_ones() -> None:
    pool = Pool(torch.float32, CPU)
    first, second = pool.random(512, 512, copy=0), pool.random(512, 512, copy=1)
    assert first.data_ptr() + 512 * 512 * 4 == second.data_ptr()
    assert pool.random(512, 512, copy=pool.copies(512 * 512)).data_ptr() == first.data_ptr()
    assert pool.own(3).data_ptr() != pool.random(3).data_ptr()


def test_launches_that_were_disturbed_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is read twice for each launch; every launch of the first round takes 5 s, of the others 2 s."""
    monkeypatch.setattr(kernels, "COLD_BYTES", 2**20)
    now, launched = [0.0], [0]

    def launch() -> None:
        launched[0] += 1
        now[0] += 5.0 if launched[0] <= 6 else 2.0

    monkeypatch.setattr("llmprof.measure.calibration.clock.time.perf_counter", lambda: now[0])
    point = Point(label="x", work=Work(kind="add", flops=0, bytes=1), make=lambda pool: launch)
    shown: list[tuple[int, int]] = []
    found = time_points([point], Pool(torch.float32, CPU), seconds=0.1, progress=lambda *at: shown.append(at))
    assert found == [2.0]
    assert shown == [(turn + 1, ROUNDS) for turn in range(ROUNDS)]


def test_the_middle_of_what_was_not_disturbed() -> None:
    assert undisturbed([1.0, 1.2, 1.4, 1.9, 2.1, 80.0]) == pytest.approx(1.3)
    assert undisturbed([3.0]) == 3.0


def test_a_cpu_waits_for_every_kernel() -> None:
    assert host_seconds(CPU) is None


def test_every_leaf_that_runs_is_clocked(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
    execution = Execution(attention="unfused", kernels="cpu")
    twin = build(gpt2(), dtypes=dtypes, device="cpu")
    session = Session(twin, decode(16, dtypes=dtypes), execution)
    found = module_seconds(session, CPU, passes=2)
    assert set(found) == {path for path, _ in twin.leaves}
    assert all(seconds > 0 for seconds in found.values())
    assert not any(leaf._forward_hooks or leaf._forward_pre_hooks for _, leaf in twin.leaves)
    # A clock that goes on by a second whenever it is read, in the pass that warms up by less.
    first, read, now = 1 + 2 * len(found), [0], [0.0]

    def clock() -> float:
        read[0] += 1
        now[0] += 0.6 if read[0] <= first else 1.0
        return now[0]

    monkeypatch.setattr("llmprof.measure.module_time.time.perf_counter", clock)
    assert [*module_seconds(session, CPU, passes=1).values()] == pytest.approx([1.0] * len(found))
