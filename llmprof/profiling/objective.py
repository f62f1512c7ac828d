"""Run the training pass of an objective, fused and unfused, and join it with its prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmprof import confirm
from llmprof.ledger import Ledger, Quantity, Row
from llmprof.predict.api import Prediction, predict
from llmprof.profiling.fit import kernels_of, out_of_memory_refused, refuse_what_does_not_fit
from llmprof.profiling.question import Attention, Request, Result, require_torch
from llmprof.profiling.run import WITNESS, Progress, cut_of, joined
from llmprof.profiling.training_peak import observe
from llmprof.spec.slice import Slice
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.twin.model import Twin


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest(Request):
    """A request whose one workload is a training pass, made from `text` tokens per sequence."""

    text: int

    @property
    def workload(self) -> Workload:
        """The training pass."""
        (workload,) = self.workloads
        return workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What one attention's pass learned. None: there were shapes alone, or the value is not finite."""

    attention: Attention
    loss: float | None
    gradients: dict[str, float | None]
    """The L2 norm of the gradient of a layer's parameters, by the layer's path, in the order of the layers that ran."""


@dataclass(slots=True, kw_only=True)
class TrainingResult(Result):
    """What came out of a training request."""

    text: int
    trained: list[Trained] = field(default_factory=list)


def profile_objective(request: TrainingRequest, result: TrainingResult, progress: Progress) -> None:
    """Run `request` and fill `result`.

    Raises what `preflight` raises, and DeviceError where the memory runs out all the same; `result` then holds what
    had finished. KeyboardInterrupt is kept in `result.interrupted`.
    """
    try:
        _profile(request, result, progress)
    except KeyboardInterrupt:
        result.interrupted = True
        result.notes.append("interrupted: only the passes that had finished are reported")


def _profile(request: TrainingRequest, result: TrainingResult, progress: Progress) -> None:
    require_torch(referees=False)
    from llmprof.measure.device import resolve_device
    from llmprof.twin.build import build

    device = resolve_device(request.device, notice=result.notes.append)
    result.device = str(device)
    cut = cut_of(request)
    if cut.arch.n_layers != request.arch.n_layers:
        result.layers_run = cut.arch.n_layers
        result.notes.append(
            "the bytes and FLOPs of backward, those of the optimiser's step and the peaks are those of the layers that "
            "ran, in the prediction too"
        )
    refuse_what_does_not_fit(request, cut.arch, device)
    with out_of_memory_refused(request.arch.label, device):
        progress(f"{request.arch.label}: building {cut.arch.n_layers} layers on {device}")
        twin = build(cut.arch, dtypes=request.workload.dtypes, device=device, seed=request.seed)
        for attention in request.attentions:
            progress(f"{request.arch.label}: {request.workload.objective}, {attention} attention")
            _train(request, cut, twin, device, attention, result)


def _train(
    request: TrainingRequest,
    cut: Slice,
    twin: Twin,
    device: torch.device,
    attention: Attention,
    result: TrainingResult,
) -> None:
    from llmprof.measure.training import measure_training
    from llmprof.twin.core import NoFusedKernel

    workload = request.workload
    execution = Execution(attention=attention, kernels=kernels_of(device))
    prediction = predict(request.arch, workload, execution)
    try:
        measured = measure_training(twin, workload, execution, text=request.text, seed=request.seed)
    except NoFusedKernel as reason:
        of_what_ran = predict(cut.arch, workload, execution).ledger
        missing = {(entry.path, entry.quantity): str(reason) for entry in of_what_ran}
        rows = (replace(row, witness="") for row in _rows(prediction, Ledger(), missing, cut))
        result.rows = confirm.dedupe([*result.rows, *rows])
        return
    told, silent = predicted_part(prediction, measured.ledger)
    result.notes.extend(note for note in silent if note not in result.notes)
    result.rows = confirm.dedupe([*result.rows, *_rows(prediction, told, measured.unmeasured, cut)])
    result.kernels[f"{workload.phase}/{attention}"] = ", ".join(sorted(set(measured.kernels.values())))
    gradients = {layer.path: _finite(layer.norm) for layer in measured.gradients}
    result.trained.append(Trained(attention=attention, loss=_finite(measured.loss), gradients=gradients))
    observe(cut.arch, twin, device, workload, execution, text=request.text, seed=request.seed, result=result)
    sensed = [measured.loss, *(layer.norm for layer in measured.gradients)]
    if any(value is not None and not math.isfinite(value) for value in sensed):
        result.notes.append(f"{attention}: the loss or a gradient is not finite in {workload.dtypes.activations}")


def _finite(value: float | None) -> float | None:
    """`value`, if it is a number that a record can hold: JSON has no infinities."""
    return value if value is not None and math.isfinite(value) else None


STEP: tuple[Quantity, ...] = (
    "hbm_bytes_backward",
    "saved_bytes",
    "peak_live_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "optimizer_peak_bytes",
    "hbm_bytes_optimizer",
)
"""What a training step has beside its forward pass and the FLOPs of its backward (docs/reference-training.md)."""

WHOLE: tuple[Quantity, ...] = (
    "matmul_flops_backward",
    "hbm_bytes_backward",
    "peak_live_bytes",
    "optimizer_peak_bytes",
    "hbm_bytes_optimizer",
)
"""What is counted as a whole, so that no layer that ran stands for another."""


def predicted_part(prediction: Prediction, measured: Ledger) -> tuple[Ledger, list[str]]:
    """What was measured of quantities that have a prediction, and a note on every one of the step that has none."""
    there = {entry.quantity for entry in prediction.ledger}
    silent: dict[str, list[str]] = {}
    for quantity in STEP:
        if quantity not in there and any(entry.quantity == quantity for entry in measured):
            reason = prediction.training.unpredicted[quantity]
            silent.setdefault(reason, []).append(quantity)
    notes = [f"measured, not predicted: {', '.join(names)} ({reason})" for reason, names in silent.items()]
    return Ledger(e for e in measured if e.quantity in there or e.quantity not in STEP), notes


def _rows(
    prediction: Prediction, measured: Ledger, unmeasured: Mapping[tuple[str, Quantity], str], cut: Slice
) -> Iterator[Row]:
    """The rows of one pass. What is counted of a slice as a whole is held against the prediction of the slice."""
    rows = joined(prediction, measured, cut, unmeasured=unmeasured)
    if cut.arch.n_layers == prediction.arch.n_layers:
        yield from rows
        return
    # The first of equal layers saves what all of them read: the memory, and the bias of a T5 table.
    shared = any(
        stack.relative_bias is not None or stack is prediction.arch.encoder for stack in prediction.arch.stacks
    )
    apart = (*WHOLE, "saved_bytes") if shared else WHOLE
    yield from (row for row in rows if row.quantity not in apart)
    of_slice = predict(cut.arch, prediction.workload, prediction.execution).ledger
    depth = f"{cut.arch.n_layers} of {prediction.arch.n_layers} layers"
    yield from (
        replace(row, note="; ".join(filter(None, (row.note, f"of {depth}"))))
        for row in confirm.join(
            Ledger(entry for entry in of_slice if entry.quantity in apart),
            Ledger(entry for entry in measured if entry.quantity in apart),
            attention=prediction.execution.attention,
            phase=prediction.workload.phase,
            witness=f"{WITNESS} of {depth}",
            unmeasured={key: reason for key, reason in unmeasured.items() if key[1] in apart},
        )
    )
