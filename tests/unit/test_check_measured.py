"""Measured limits: another kind, with a statistic, samples and a tolerance, and never passed where nothing was measured."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from budget_samples import Corner

from llmprof.check import measured
from llmprof.check.budgets import load
from llmprof.check.measured import Plan
from llmprof.errors import DeviceError, InputError
from llmprof.profiling.timed import Run, timed
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

ENTRY = "budgets:\n  - spec: small.yaml\n    phase: decode\n    measured:\n"
TIME = ENTRY + "      {{device: cpu, {}limits: {{time_ms: '{}'}}}}\n"


@pytest.fixture
def corner(tmp_path: Path) -> Corner:
    return Corner(tmp_path)


def instrument(**found: Any) -> measured.Measure:
    """A device that always says the same: 10, 20, 30 and 100 ms over and over."""
    values: dict[str, Any] = {
        "device": "cuda:0",
        "kernel": "flash",
        "warm_ns": (10_000_000, 20_000_000, 30_000_000, 100_000_000) * 5,
        "warm_up_runs": 6,
        "requested_bytes": 20 * 2**30,
        "peak_note": "blocks are rounded up",
    }
    return lambda arch, workload, plan: Run(**values | found)


def test_a_plan_as_it_is_written(corner: Corner) -> None:
    text = ENTRY + (
        "      device: cuda:1\n      attention: unfused\n      statistic: mean\n      samples: 30\n"
        "      tolerance: 2.5%\n      limits: {time_ms: '<= 45', peak_allocated_bytes: '<= 90% of h200'}\n"
    )
    (file,) = load([corner.budget(text)])
    plan = file.cases[0].entry.plan
    assert plan is not None
    assert (plan.device, plan.attention, plan.statistic, plan.samples) == ("cuda:1", "unfused", "mean", 30)
    assert plan.tolerance == Fraction(1, 40)
    assert [limit.quantity.name for limit in plan.limits] == ["time_ms", "peak_allocated_bytes"]
    (file,) = load([corner.budget(TIME.format("", "<= 45"))])
    assert file.cases[0].entry.plan == Plan(device="cpu", limits=file.cases[0].entry.plan.limits)  # type: ignore[union-attr]


@pytest.mark.parametrize(("statistic", "value"), [("median", 25.0), ("mean", 40.0), ("min", 10.0), ("max", 100.0)])
def test_statistics_by_hand(corner: Corner, statistic: str, value: float) -> None:
    at = corner.report(TIME.format(f"statistic: {statistic}, ", f"<= {value:g}"), measure=instrument())
    (finding,) = at.findings
    assert (finding.status, finding.value, finding.bound.unit) == ("passed", value, "ms")
    assert finding.note == f"{statistic} of 20 warm passes after 6 to warm up; on cuda:0, flash attention"
    below = corner.report(TIME.format(f"statistic: {statistic}, ", f"<= {value - 0.001:g}"), measure=instrument())
    assert below.findings[0].status == "failed"
    assert "0.001 ms over" in below.findings[0].sentence


@pytest.mark.parametrize(
    ("tolerance", "limit", "status"),
    [
        ("5%", "<= 24", "passed"),  # 25.2
        ("4%", "<= 24", "failed"),  # 24.96
        ("4.1666667%", "<= 24", "passed"),
        ("0%", "<= 25", "passed"),
        ("25%", ">= 32", "passed"),  # 24
        ("20%", ">= 32", "failed"),  # 25.6
        ("25%", "20 .. 24", "passed"),
        ("100%", ">= 1_000", "passed"),
    ],
)
def test_a_tolerance_moves_both_ends(corner: Corner, tolerance: str, limit: str, status: str) -> None:
    report = corner.report(TIME.format(f"tolerance: {tolerance}, ", limit), measure=instrument())
    assert report.findings[0].status == status


def test_the_bound_says_its_tolerance(corner: Corner) -> None:
    (finding,) = corner.report(TIME.format("tolerance: 5%, ", "<= 20"), measure=instrument()).findings
    assert finding.bound.high == 21.0
    assert finding.bound.meaning == "<= 20 with 5% tolerance, <= 21.000 ms"
    assert finding.parts == ()
    assert finding.largest == {}


def test_peak_bytes_are_those_that_were_requested(corner: Corner) -> None:
    text = ENTRY + "      {device: cuda, limits: {peak_allocated_bytes: '<= 20 GiB'}}\n"
    (finding,) = corner.report(text, measure=instrument()).findings
    assert (finding.status, finding.value) == ("passed", 20 * 2**30)
    assert "without its rounding" in finding.note
    (finding,) = corner.report(text, measure=instrument(requested_bytes=20 * 2**30 + 1)).findings
    assert finding.status == "failed"


def test_what_was_not_measured_is_never_passed(corner: Corner) -> None:
    def missing(arch: ArchSpec, workload: Workload, plan: Plan) -> Run:
        raise DeviceError("device 'cuda' is not there: no driver")

    text = ENTRY.replace("measured", "limits: {params_total: <= 1_000_000}\n    measured") + (
        "      {device: cuda, samples: 30, limits: {time_ms: '<= 1', peak_allocated_bytes: '<= 1 B'}}\n"
    )
    report = corner.report(text, measure=missing)
    assert [finding.status for finding in report.findings] == ["passed", "unmeasured", "unmeasured"]
    assert report.exit_code == 3
    finding = report.findings[1]
    assert (finding.value, finding.note) == (None, "device 'cuda' is not there: no driver")
    assert finding.sentence == (
        "small.yaml decode batch 1 context 128: time_ms could not be measured: device 'cuda' is not there: no driver"
    )
    # Each limit on its own: too few samples say nothing of the time, and a device without a count nothing of memory.
    report = corner.report(text, measure=instrument(requested_bytes=None, peak_note="no peak is kept on cpu"))
    assert [finding.note for finding in report.findings[1:]] == [
        "20 of 30 samples in the time allowed",
        "no peak is kept on cpu",
    ]
    # A limit that fails outweighs one that could not be measured.
    report = corner.report(text.replace("<= 1_000_000", "<= 1"), measure=missing)
    assert report.exit_code == 1


def test_what_torch_cannot_express_is_wrong_input(corner: Corner) -> None:
    def refused(arch: ArchSpec, workload: Workload, plan: Plan) -> Run:
        raise InputError("beyond the sizes that torch can express")

    (problem,) = corner.problems(TIME.format("", "<= 45"), measure=refused)
    assert problem.line == 5
    assert "beyond the sizes" in problem.found


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ("3", "measured: found 3; expected a mapping with device"),
        ("{limits: {time_ms: <= 1}}", "missing key 'device'; expected cuda, cuda:N, cpu or auto"),
        ("{device: gpu, limits: {time_ms: <= 1}}", "device: found 'gpu'; expected cuda, cuda:N, cpu or auto"),
        ("{device: meta, limits: {time_ms: <= 1}}", "nothing runs on meta"),
        ("{device: 'cuda:x', limits: {time_ms: <= 1}}", "found 'cuda:x'"),
        ("{device: [cpu], limits: {time_ms: <= 1}}", "device: found a list"),
        ("{device: cpu}", "missing key 'limits'; expected limits on time_ms or peak_allocated_bytes"),
        ("{device: cpu, limits: {}}", "limits: found an empty mapping"),
        ("{device: cpu, limits: {time_s: <= 1}}", "unknown quantity 'time_s'; expected one of time_ms"),
        ("{device: cpu, limits: {kv_cache_bytes: <= 1 B}}", "unknown quantity 'kv_cache_bytes'"),
        ("{device: cpu, limits: {time_ms: '<= +2%'}}", "an absolute limit: a baseline holds no measurements"),
        ("{device: cpu, limits: {time_ms: == 2}}", "a measurement is never exact"),
        ("{device: cpu, limits: {peak_allocated_bytes: == 2 B}}", "a measurement is never exact"),
        ("{device: cpu, limits: {time_ms: <= 0}}", "a number above 0"),
        ("{device: cpu, samples: 2, limits: {time_ms: <= 1}}", "samples: found 2; expected a whole number from 3 to 10,000"),
        ("{device: cpu, samples: 10_001, limits: {time_ms: <= 1}}", "fewer samples have no spread"),
        ("{device: cpu, samples: true, limits: {time_ms: <= 1}}", "samples: found true"),
        ("{device: cpu, statistic: p99, limits: {time_ms: <= 1}}", "found 'p99'; expected median, mean, min or max"),
        ("{device: cpu, statistic: medain, limits: {time_ms: <= 1}}", "did you mean 'median'?"),
        ("{device: cpu, attention: flash, limits: {time_ms: <= 1}}", "expected fused or unfused"),
        ("{device: cpu, tolerance: 5, limits: {time_ms: <= 1}}", "tolerance: found 5; expected a percentage from 0%"),
        ("{device: cpu, tolerance: -5%, limits: {time_ms: <= 1}}", "tolerance: found '-5%'"),
        ("{device: cpu, tolerance: 101%, limits: {time_ms: <= 1}}", "tolerance: found '101%'"),
        ("{device: cpu, tolerance: nan%, limits: {time_ms: <= 1}}", "tolerance: found 'nan%'"),
        ("{device: cpu, repeats: 5, limits: {time_ms: <= 1}}", "unknown key 'repeats'"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_told_where_and_what(corner: Corner, measured: str, words: str) -> None:
    text = ENTRY.replace("measured:\n", f"measured: {measured}\n")
    problems = corner.problems(text)
    assert any(words in str(problem) for problem in problems), [str(problem) for problem in problems]
    assert {problem.line for problem in problems} == {4}


def test_a_real_run_on_this_machine(corner: Corner) -> None:
    pytest.importorskip("torch")
    text = ENTRY + (
        "      {device: cpu, samples: 3, limits: {time_ms: '<= 60_000', peak_allocated_bytes: '<= 1 GiB'}}\n"
    )
    time, peak = corner.report(text).findings
    assert time.status == "passed"
    assert time.value is not None
    assert 0 < time.value < 60_000
    assert "warm passes" in time.note
    assert peak.status == "unmeasured"
    assert "keeps no peak on cpu" in peak.note


def test_a_device_that_is_not_there_is_a_reason(corner: Corner) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    (finding,) = corner.report(ENTRY + "      {device: cuda, limits: {time_ms: '<= 45'}}\n").findings
    assert finding.status == "unmeasured"
    assert "device 'cuda' is not there" in finding.note


def test_without_torch_the_reason_says_how_to_get_it(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (file,) = load([corner.budget(TIME.format("", "<= 45"))])
    case = file.cases[0]
    with pytest.raises(DeviceError, match=r"torch is not installed here; run: pip install 'llmprof\[profile\]'"):
        timed(case.subject.arch, case.workload, device="cpu", attention="fused", samples=3)
