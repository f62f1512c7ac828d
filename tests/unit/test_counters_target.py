"""The watched processes on a CPU that stands for a GPU: what runs in which range, in what order, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from twin_archs import decoder, layer

from llmprof.measure.counters import caches, gpm, target
from llmprof.measure.counters.gpm import Integral
from llmprof.measure.counters.ranges import OUTER, Place, place_of
from llmprof.measure.counters.request import Request
from llmprof.measure.gpu_experiments import target as experiments
from llmprof.measure.gpu_experiments.catalogue import EXPERIMENTS
from llmprof.measure.gpu_experiments.experiment import Gpu
from llmprof.measure.gpu_experiments.rows import NORMS
from llmprof.profiling.counter_sources import whole_gpu
from llmprof.twin.core import NoFusedKernel
from llmprof.workload import Execution, Workload

ARCH = decoder(layer(), max_context=64)
CPU = torch.device("cpu")


class Recorder:
    """Stands for torch's NVTX, and notes what a sweep and a pass did in which ranges."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.events: list[tuple[str, tuple[str, ...]]] = []

    def range_push(self, name: str) -> None:
        self.stack.append(name)

    def range_pop(self) -> None:
        self.stack.pop()

    def note(self, what: str) -> None:
        self.events.append((what, tuple(self.stack)))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    found = Recorder()
    monkeypatch.setattr(torch.cuda, "nvtx", found)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    monkeypatch.setattr(caches, "last_level_cache_bytes", lambda device: 1024)
    read = caches.Sweep.read

    def noting(self: caches.Sweep) -> None:
        found.note("sweep")
        read(self)

    monkeypatch.setattr(caches.Sweep, "read", noting)
    yield found
    assert found.stack == []


def watched(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, temperature: str) -> dict[str, Any]:
    """Run a decode pass, with the kernels of a CPU, as if it were a GPU."""
    cuda_like = SimpleNamespace(type="cuda")
    monkeypatch.setattr(target, "resolve_device", lambda choice: cuda_like)
    build = target.build
    monkeypatch.setattr(target, "build", lambda arch, **rest: build(arch, **{**rest, "device": CPU}))
    monkeypatch.setattr(target, "Sweep", lambda device: caches.Sweep(CPU))
    run = target.Session.run

    def noting(self: target.Session) -> object:
        recorder.note("pass")
        return run(self)

    monkeypatch.setattr(target.Session, "run", noting)
    workload = Workload(phase="decode", batch=1, new_tokens=1, context=8)
    executions = (Execution(attention="unfused", kernels="cpu"), Execution(attention="fused", kernels="cpu"))
    passes = tuple((workload, execution) for execution in executions)
    return target.run(Request(arch=ARCH, passes=passes, device="cuda", temperature=temperature))  # type: ignore[arg-type]


def test_a_cold_pass_is_swept_before_it_and_drained_after_it(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = watched(recorder, monkeypatch, "cold")
    assert told["refused"] == {}
    assert set(told["kernels"]["decode/fused"].values()) == {"cpu"}
    here = Place(kind="pass", phase="decode", attention="unfused").name
    drain = Place(kind="drain", phase="decode", attention="unfused").name
    assert recorder.events[:6] == [
        ("sweep", ()),  # made, and read once
        ("pass", ()),  # warm-up
        ("pass", ()),
        ("sweep", ()),
        ("pass", (OUTER, here)),
        ("sweep", (OUTER, drain)),
    ]
    assert len(recorder.events) == 11
    found = place_of(" ".join(recorder.events[5][1]))
    assert found is not None
    assert found.kind == "drain"


def test_a_warm_pass_follows_one_like_it(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(recorder, monkeypatch, "warm")
    assert [what for what, _ in recorder.events[:6]] == ["sweep", "pass", "pass", "pass", "pass", "sweep"]


def test_a_pass_without_a_kernel_is_refused_and_the_others_run(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = target.Session

    class Picky(make):  # type: ignore[misc,valid-type]
        def __init__(self, twin: Any, workload: Workload, execution: Execution, **rest: Any) -> None:
            if execution.attention == "fused":
                raise NoFusedKernel("layers.0.attn.core", "soft caps")
            super().__init__(twin, workload, execution, **rest)

    monkeypatch.setattr(target, "Session", Picky)
    told = watched(recorder, monkeypatch, "cold")
    assert set(told["kernels"]) == {"decode/unfused"}
    assert told["refused"]["decode/fused"].startswith("layers.0.attn.core: no fused kernel fits: soft caps")


def test_a_sweep_needs_a_cache_of_known_size_and_room(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.errors import DeviceError

    assert caches.Sweep(CPU).nbytes == 3 * 1024
    monkeypatch.setattr(caches, "free_bytes", lambda device: 3071)
    with pytest.raises(DeviceError, match=r"3\.00 KiB does not fit"):
        caches.Sweep(CPU)
    monkeypatch.setattr(caches, "last_level_cache_bytes", lambda device: None)
    with pytest.raises(DeviceError, match="does not know how large"):
        caches.Sweep(CPU)


def test_the_steps_of_experiments_run_in_their_ranges(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Gpu(name="small", capability=(9, 0), l2=4096, multiprocessors=2, shared_per_multiprocessor=65536)
    monkeypatch.setattr(experiments, "resolve_device", lambda choice: CPU)
    monkeypatch.setattr(experiments, "gpu_of", lambda device: small)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    experiments.run_all({"rms-norm", "l2-reuse"})
    drained = [ranges for what, ranges in recorder.events if what == "sweep" and ranges]
    # Copies are counted with what they left in the cache, and are not drained; the norm is.
    assert drained == [(OUTER, experiments.place(NORMS, 0, "drain").name)]
    assert len([what for what, ranges in recorder.events if not ranges]) == 1 + len(EXPERIMENTS[0].steps(small)) + 1


def test_gpm_runs_every_pass_and_says_what_it_took(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def integrate(run: Any, synchronise: Any, properties: Any) -> Integral:
        run()
        synchronise()
        return Integral(
            dram_bytes=12345.6,
            joules=0.5,
            energy_reason="",
            passes=10,
            seconds=2.0,
            utilisation=0.25,
            peak_bytes_per_s=4.8e12,
            samples=8,
        )

    monkeypatch.setattr(gpm, "integrate", integrate)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: None)
    workload = Workload(phase="decode", batch=1, new_tokens=1, context=8)
    notes: list[str] = []
    found = whole_gpu(ARCH, ((workload, Execution(attention="fused", kernels="cpu")),), CPU, 0, notes)
    reading = found["decode/fused"]
    assert not isinstance(reading, str)
    assert (reading.tier, reading.caches, reading.whole.values) == ("gpm", "warm", {"dram_bytes": 12346})
    assert notes == [
        "decode/fused: NVML GPM over 10 passes in 2.0 s, memory busy 25.0% of 4.800 TB/s; energy: 0.5 J a pass"
    ]
