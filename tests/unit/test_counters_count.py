"""Reading counters for a request, with a GPU that is none: what is asked of whom, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from twin_archs import decoder, layer

from llmprof.device import find
from llmprof.ledger import Ledger, Verdict
from llmprof.measure.counters import collect as collecting
from llmprof.measure.counters.collect import Collected, Counted
from llmprof.measure.counters.metrics import L2, SHARED, Chip
from llmprof.measure.counters.ncu import Tool
from llmprof.measure.counters.ranges import Place
from llmprof.measure.counters.report import Kernel
from llmprof.measure.counters.request import Request as Wanted
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.predict.api import predict
from llmprof.predict.levels import levels
from llmprof.profiling import counters as subject
from llmprof.profiling.counter_device import device_of
from llmprof.profiling.counter_rows import PassReading, Reading
from llmprof.profiling.counters import Question, count
from llmprof.profiling.question import Request, Result
from llmprof.spec.arch import ArchSpec, Gqa
from llmprof.workload import Workload

ARCH = decoder(*[layer(attention=Gqa(n_heads=4, n_kv_heads=2, head_dim=64))] * 3, max_context=4096, vocab_size=4000)
SPEC = "h100-sxm-80gb"


def named(monkeypatch: pytest.MonkeyPatch, name: str, **figures: int) -> None:
    known = {"name": name, "major": 9, "minor": 0, "total_memory": 80 * 10**9, **figures}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(**known))


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says that there is an H100."""
    monkeypatch.setattr("llmprof.measure.device.resolve_device", lambda choice, **rest: torch.device("cuda", 0))
    named(monkeypatch, SPEC)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr("llmprof.measure.eviction.last_level_cache_bytes", lambda device: 0)


def ask(source: str = "auto", *, arch: ArchSpec = ARCH, layers: int | None = None, **rest: Any) -> Result:
    workloads = (
        Workload(phase="prefill", batch=1, new_tokens=512, context=512),
        Workload(phase="decode", batch=1, new_tokens=1, context=512),
    )
    request = Request(arch=arch, workloads=workloads, attentions=("fused", "unfused"), device="cuda", layers=layers)
    result = Result(arch=arch, workloads=workloads, attentions=request.attentions)
    count(request, result, Question(source=source, **rest), lambda line: None)  # type: ignore[arg-type]
    return result


def counted(factor: float) -> Callable[[Wanted, Chip], Collected]:
    """A GPU that moves `factor` times what is predicted, all of it read."""
    asked: list[Wanted] = []

    def collect(wanted: Wanted, chip: Chip) -> Collected:
        asked.append(wanted)
        places: dict[Place, tuple[Counted, Counted]] = {}
        for workload, execution in wanted.passes:
            prediction = predict(wanted.arch, workload, execution)
            found: Ledger = levels(prediction, find(SPEC))
            for path in found.paths():
                place = Place(kind="leaf", phase=workload.phase, attention=execution.attention, path=path)
                first, second = Counted(), Counted()
                flops = found.at(path, "matmul_flops_executed") or prediction.ledger.at(path, "matmul_flops") or 0
                metrics = {
                    chip.dram_read: (found.at(path, "dram_bytes") or 0) * factor,
                    chip.dram_write: 0.0,
                    L2: float(found.at(path, "l2_to_sm_bytes") or 0),
                    chip.tensor["bf16"][0]: flops * factor,
                }
                first.add(Kernel(name="k", place=place, metrics=metrics))
                smem = {SHARED: (found.at(path, "smem_bytes") or 0) * factor}
                second.add(Kernel(name="k", place=place, metrics=smem))
                places[place] = (first, second)
        fused = {f"{w.phase}/fused": {f"layers.{i}.attn.core": "flash" for i in range(9)} for w, _ in wanted.passes}
        return Collected(tool=Tool(path="ncu", version="2025.3.1"), places=places, kernels=fused, refused={})

    collect.asked = asked  # type: ignore[attr-defined]
    return collect


def test_a_gpu_that_moves_what_is_predicted_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = counted(1.03)
    monkeypatch.setattr(collecting, "collect", fake)
    result = ask()
    assert result.counters is not None
    assert result.counters.outcome == "measured"
    rows = result.counters.rows
    assert {row.verdict for row in rows} == {Verdict.AGREES, None}
    whole = [row for row in rows if not row.path]
    assert [(row.phase, row.attention, row.verdict) for row in whole] == [
        ("prefill", "fused", Verdict.AGREES),
        ("prefill", "unfused", Verdict.AGREES),
        ("decode", "fused", None),  # a step of so small a model moves less than 1 MB
        ("decode", "unfused", None),
    ]
    # All but tiny modules have a verdict on memory; the core's shared memory has one in prefill.
    assert [r.verdict for r in rows if (r.path, r.quantity, r.phase) == ("lm_head", "dram_bytes", "prefill")] == [
        Verdict.AGREES
    ] * 2
    core = [r for r in rows if (r.path, r.phase, r.attention) == ("layers.0.attn.core", "prefill", "fused")]
    assert {r.quantity: r.verdict for r in core}["smem_bytes"] is Verdict.AGREES
    # Prediction and measurement are of the smallest slice: one layer stands for three equal ones.
    (asked,) = fake.asked  # type: ignore[attr-defined]
    assert (asked.arch.n_layers, asked.temperature) == (1, "cold")
    assert "counters are those of 1 of 3 layers" in result.counters.notes
    assert "counted by Nsight Compute 2025.3.1; caches cold, clocks left alone" in result.counters.notes


def test_more_layers_are_counted_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = counted(1.0)
    monkeypatch.setattr(collecting, "collect", fake)
    ask(layers=2, caches=("cold", "warm"))
    assert [(w.arch.n_layers, w.temperature) for w in fake.asked] == [(2, "cold"), (2, "warm")]  # type: ignore[attr-defined]


def test_a_gpu_that_moves_more_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "collect", counted(1.3))
    result = ask("ncu")
    assert result.counters is not None
    assert result.counters.outcome == "failed"
    assert {r.path for r in result.counters.rows if r.verdict is Verdict.DIFFERS} >= {"", "lm_head"}


def refuse(*args: object, **rest: object) -> Any:
    raise Unavailable("no permission", "ask for it")


@pytest.mark.parametrize(("source", "outcome"), [("auto", "not asked"), ("ncu", "unmeasured")])
def test_without_any_counter_every_row_says_why(monkeypatch: pytest.MonkeyPatch, source: str, outcome: str) -> None:
    monkeypatch.setattr(subject, "kernel_counters", refuse)
    monkeypatch.setattr(subject, "whole_gpu", refuse)
    result = ask(source)
    assert result.counters is not None
    assert result.counters.outcome == outcome
    notes = {row.note for row in result.counters.rows}
    assert notes == {"no permission; ask for it"}, "one reason is said once"
    assert {row.verdict for row in result.counters.rows} == {Verdict.UNMEASURED}
    assert all(row.predicted for row in result.counters.rows if row.quantity == "dram_bytes")


def gpm(arch: ArchSpec, passes: Any, *rest: object) -> dict[str, PassReading | str]:
    return {
        f"{w.phase}/{e.attention}": PassReading(
            phase=w.phase,
            attention=e.attention,
            caches="warm",
            tier="gpm",
            modules={},
            whole=Reading(values={"dram_bytes": 10**9}),
            cores={},
        )
        if e.attention == "unfused"
        else "no fused kernel fits"
        for w, e in passes
    }


def test_what_ncu_may_not_gpm_may_and_both_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "kernel_counters", refuse)
    monkeypatch.setattr(subject, "whole_gpu", gpm)
    result = ask("auto", caches=("cold", "warm"))
    assert result.counters is not None
    assert "no permission; ask for it" in result.counters.notes
    rows = result.counters.rows
    assert [(r.phase, r.tier, r.caches, r.verdict) for r in rows if r.attention == "unfused"] == [
        ("prefill", "gpm", "warm", None),
        ("decode", "gpm", "warm", None),
    ]
    assert {r.note for r in rows if r.attention == "fused"} == {"no fused kernel fits"}
    monkeypatch.setattr(subject, "kernel_counters", lambda *args: pytest.fail("nvml asks no ncu"))
    assert ask("nvml").counters is not None


def test_a_gpu_that_the_catalogue_does_not_know_has_the_figures_of_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "collect", counted(1.0))
    named(monkeypatch, "NVIDIA Nothing 9000")
    result = ask()
    assert result.counters is not None
    assert "has no 'NVIDIA Nothing 9000'" in result.counters.notes[0]
    # Without the size of its cache nothing is predicted, and it is said of each pass.
    assert [note for note in result.counters.notes if "last-level cache of NVIDIA Nothing 9000 is not known" in note]
    assert {row.verdict for row in result.counters.rows} == {Verdict.UNPREDICTED}
    assert result.counters.outcome == "not asked"
    whole = {"L2_cache_size": 52428800, "multi_processor_count": 132, "shared_memory_per_multiprocessor": 233472}
    named(monkeypatch, "NVIDIA Nothing 9000", **whole)
    told = ask().counters
    assert told is not None
    assert "last_level_cache 52,428,800, units 132, sram_per_unit 233,472" in told.notes[1]
    assert told.outcome == "measured"
    by_name = ask(device_spec=SPEC).counters
    assert by_name is not None
    assert by_name.outcome == "measured"


def test_a_memory_that_runs_out_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.errors import DeviceError

    def full(*args: object) -> Any:
        raise DeviceError("cuda ran out of memory")

    monkeypatch.setattr(subject, "kernel_counters", refuse)
    monkeypatch.setattr(subject, "whole_gpu", full)
    found = ask("nvml").counters
    assert found is not None
    assert {row.note for row in found.rows} == {"cuda ran out of memory"}


def test_none_and_a_cpu_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("none").counters is None
    monkeypatch.setattr("llmprof.measure.device.resolve_device", lambda choice, **rest: torch.device("cpu"))
    assert ask("auto").counters is None


def test_a_training_peak_is_observed_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.measure import training_peak as witness
    from llmprof.measure.memory import SensedPeak
    from llmprof.objectives import training_workload
    from llmprof.profiling.training_peak import observe
    from llmprof.twin.build import build
    from llmprof.workload import Dtypes, Execution

    workload = training_workload(ARCH, "causal-lm", text=16, batch=1, prefix_tokens=None, dtypes=Dtypes())
    execution = Execution(attention="fused")
    result = Result(arch=ARCH)
    twin = build(ARCH, dtypes=workload.dtypes, device="meta")
    sensed = SensedPeak(peak_bytes=2048, requested_bytes=2000, note="blocks")
    monkeypatch.setattr(witness, "sense_training_peak", lambda session: sensed)
    for device in (torch.device("meta"), torch.device("cuda", 0)):
        assert result.timings == []
        observe(ARCH, twin, device, workload, execution, text=16, seed=0, result=result)
    (entry,) = result.timings
    assert (entry["sensed_peak_bytes"], entry["sensed_requested_bytes"], entry["phase"]) == (2048, 2000, "train")
    assert entry["predicted_peak_live_bytes"] == predict(ARCH, workload, execution).ledger.at("", "peak_live_bytes")
    assert "was asked for 2,000 B at the peak" in result.notes[0]


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
    ],
)
def test_a_driver_s_name_is_found_in_the_catalogue(monkeypatch: pytest.MonkeyPatch, said: str, name: str) -> None:
    named(monkeypatch, said, L2_cache_size=1)
    notes: list[str] = []
    assert device_of(torch.device("cuda", 0), None, notes).name == name
    assert not [note for note in notes if "the catalogue of devices has no" in note]
