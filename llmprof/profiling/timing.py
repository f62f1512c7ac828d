"""Time a pass without any counter in the way, and compare fused with unfused."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmprof.predict.api import Prediction, predict
from llmprof.profiling.predicted import of_another_torch, predicted_record, why_none
from llmprof.profiling.question import Request, Result
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.latency.device_profile import Profile
    from llmprof.measure.time import Timing
    from llmprof.twin.model import Twin
    from llmprof.twin.session import Session


def time_pass(
    request: Request,
    ran: ArchSpec,
    twin: Twin,
    device: torch.device,
    workload: Workload,
    execution: Execution,
    calibrated: Profile | None,
    result: Result,
) -> None:
    """Time the pass without any counter in the way, and sense the allocator's peak where it has one.

    Its predicted time stands beside it where the device is `calibrated`.
    """
    from llmprof.measure.memory import SensedPeak, sense_peak
    from llmprof.measure.time import measure_time, rates
    from llmprof.twin.session import Session

    assert request.time_seconds is not None
    session = Session(twin, workload, execution, seed=request.seed)
    timing = measure_time(session.run, session.restore, device, max_seconds=request.time_seconds)
    sensed = SensedPeak(peak_bytes=None, reason="interrupted")
    if not timing.interrupted:
        sensed = sense_peak(session.run, session.restore, device, also_live=session.constants)
    prediction = predict(ran, workload, execution)
    expected = prediction.ledger
    tokens = workload.batch * workload.new_tokens
    entry: dict[str, Any] = {
        "phase": workload.phase,
        "attention": execution.attention,
        "kernel": ", ".join(sorted(set(session.kernels.values()))),
        "layers_run": ran.n_layers,
        "clock": timing.clock,
        "warm_up_runs": timing.warm_up_runs,
        "warmed_up": timing.warmed_up,
        "stable": timing.stable,
        "interrupted": timing.interrupted,
        "flush_bytes": timing.flush_bytes,
        "notes": list(timing.notes),
        "predicted_peak_live_bytes": expected.at("", "peak_live_bytes"),
        "sensed_peak_bytes": sensed.peak_bytes,
        "sensed_requested_bytes": sensed.requested_bytes,
        "sensed_note": sensed.note or sensed.reason,
    }
    for temperature, summary in (("warm", timing.warm), ("cold", timing.cold)):
        if summary is None:
            continue
        speed = rates(
            summary.median_ns,
            tokens=tokens,
            flops=expected.total("matmul_flops"),
            bytes_moved=expected.total("hbm_bytes"),
        )
        entry[temperature] = {
            **asdict(summary),
            "n": summary.n,
            "iqr_ns": summary.iqr_ns,
            "stable": summary.stable,
            **asdict(speed),
        }
    _predicted(prediction, calibrated, session, device, timing, entry, result)
    result.timings.append(entry)
    if timing.interrupted:
        raise KeyboardInterrupt


def _predicted(
    prediction: Prediction,
    calibrated: Profile | None,
    session: Session,
    device: torch.device,
    timing: Timing,
    entry: dict[str, Any],
    result: Result,
) -> None:
    """What the pass should take, or why nothing says so, in its entry."""
    dtype = prediction.workload.dtypes.activations
    if calibrated is None or dtype not in calibrated.models:
        reason = why_none(calibrated, dtype)
        if reason not in result.notes:
            result.notes.append(reason)
        return
    from llmprof.measure.module_time import module_seconds

    measured = None if timing.warm is None else timing.warm.median_ns / 1e9
    modules = {} if timing.interrupted else module_seconds(session, device)
    model = calibrated.models[dtype]
    made = predicted_record(prediction, model, measured, modules)
    entry["predicted"] = {**made, "calibrated_on": model.measured or calibrated.measured}
    result.notes += [note for note in of_another_torch(model.torch or calibrated.torch) if note not in result.notes]


def compare(workload: Workload, outputs: dict[str, torch.Tensor], result: Result) -> None:
    """Fused against unfused in one phase: time, memory, traffic, and how far the outputs lie apart.

    Ratios are of measured figures; None where one side could not be measured. Without both passes there is nothing.
    """
    if any(f"{workload.phase}/{attention}" not in result.kernels for attention in ("fused", "unfused")):
        return
    entry: dict[str, Any] = {
        "phase": workload.phase,
        "speedup": None,
        "traffic_ratio": _measured_ratio(result, "hbm_bytes", workload.phase),
        "peak_memory_ratio": _measured_ratio(result, "peak_live_bytes", workload.phase),
        "max_relative_difference": None,
    }
    medians = {
        t["attention"]: t["warm"]["median_ns"] for t in result.timings if t["phase"] == workload.phase and "warm" in t
    }
    if set(medians) == {"fused", "unfused"}:
        entry["speedup"] = medians["unfused"] / medians["fused"]
    if set(outputs) == {"fused", "unfused"}:
        a, b = outputs["fused"].double(), outputs["unfused"].double()
        largest = float(b.abs().max())
        difference = float((a - b).abs().max())
        # JSON has no infinities; an output that is not finite is no number to compare by.
        if math.isfinite(largest) and math.isfinite(difference):
            entry["max_relative_difference"] = difference / largest if largest else 0.0
        else:
            result.notes.append(f"{workload.phase}: the outputs are not finite, so they are not compared")
    result.comparisons.append(entry)


def _measured_ratio(result: Result, quantity: str, phase: str) -> float | None:
    """Fused over unfused of what was measured, or None where a row of either has no measured value."""
    sums = []
    for attention in ("fused", "unfused"):
        found = [
            row.measured
            for row in result.rows
            if (row.quantity, row.phase, row.attention) == (quantity, phase, attention)
            and not row.witness.startswith("referee:")
        ]
        known = [value for value in found if value is not None]
        if not known or len(known) < len(found):
            return None
        sums.append(sum(known))
    return sums[0] / sums[1] if sums[1] else None
