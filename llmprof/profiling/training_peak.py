"""The peak of a training step as the CUDA allocator senses it, beside its prediction: an observation, no verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmprof.predict.api import predict
from llmprof.profiling.question import Result
from llmprof.spec.arch import ArchSpec
from llmprof.units import format_exact
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.twin.model import Twin


def observe(
    arch: ArchSpec,
    twin: Twin,
    device: torch.device,
    workload: Workload,
    execution: Execution,
    *,
    text: int,
    seed: int,
    result: Result,
) -> None:
    """Add the sensed peak of one pass of `arch`, as it was built, to the timings of `result`; nothing off a GPU."""
    if device.type != "cuda":
        return
    from llmprof.measure.training_peak import sense_training_peak
    from llmprof.twin.training import TrainingSession

    sensed = sense_training_peak(TrainingSession(twin, workload, execution, text=text, seed=seed))
    expected = predict(arch, workload, execution).ledger
    peak = expected.at("", "peak_live_bytes")
    if peak is not None and sensed.requested_bytes is not None:
        result.notes.append(
            f"{execution.attention}: the allocator was asked for {format_exact(sensed.requested_bytes)} B at the peak, "
            f"where {format_exact(peak)} B are predicted to live"
        )
    result.timings.append(
        {
            "phase": workload.phase,
            "attention": execution.attention,
            "layers_run": arch.n_layers,
            "predicted_peak_live_bytes": peak,
            "sensed_peak_bytes": sensed.peak_bytes,
            "sensed_requested_bytes": sensed.requested_bytes,
            "sensed_note": sensed.note or sensed.reason,
        }
    )
