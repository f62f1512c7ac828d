"""Run the passes of a request and join each with its prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmprof import confirm
from llmprof.ledger import Ledger, Quantity, Row, Verdict
from llmprof.predict.api import Prediction, predict
from llmprof.profiling.experts import expected_experts
from llmprof.profiling.fit import kernels_of, out_of_memory_refused, refuse_what_does_not_fit
from llmprof.profiling.predicted import profile_of
from llmprof.profiling.question import Request, Result, require_torch
from llmprof.profiling.timing import compare, time_pass
from llmprof.spec.arch import ArchSpec
from llmprof.spec.slice import Slice, slice_arch, smallest_slice
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.latency.device_profile import Profile
    from llmprof.twin.model import Twin

Progress = Callable[[str], None]

WITNESS = "dispatch trace"
MASKS = "visible pairs of the twin's masks"
"""What the causal FLOPs have beside the trace."""


def preflight(request: Request) -> None:
    """Raise what can be known before anything is allocated: no such device, no such slice, not enough memory.

    InputError or DeviceError; whoever has several requests asks for all of them first, so that no work is lost.
    """
    from llmprof.measure.device import resolve_device

    device = resolve_device(request.device)
    refuse_what_does_not_fit(request, cut_of(request).arch, device)
    if request.device_profile is not None:
        profile_of(device, request.device_profile)


def profile(request: Request, result: Result, progress: Progress) -> None:
    """Run `request` and fill `result`.

    Raises what `preflight` raises, and DeviceError where the memory runs out all the same; `result` then holds what
    had finished. KeyboardInterrupt is kept in `result.interrupted`.
    """
    try:
        _profile(request, result, progress)
    except KeyboardInterrupt:
        result.interrupted = True
        result.notes.append("interrupted: only the passes that had finished are reported")


def _profile(request: Request, result: Result, progress: Progress) -> None:
    require_torch(referees=request.referees)
    from llmprof.measure.device import resolve_device
    from llmprof.twin.build import build

    device = resolve_device(request.device, notice=result.notes.append)
    result.device = str(device)
    cut = cut_of(request)
    if cut.arch.n_layers != request.arch.n_layers:
        result.layers_run = cut.arch.n_layers
    refuse_what_does_not_fit(request, cut.arch, device)
    with out_of_memory_refused(request.arch.label, device):
        progress(f"{request.arch.label}: building {cut.arch.n_layers} layers on {device}")
        first = request.workloads[0]
        twin = build(cut.arch, dtypes=first.dtypes, device=device, seed=request.seed, mtp=first.mtp)
        calibrated = profile_of(device, request.device_profile)
        for workload in request.workloads:
            _profile_workload(request, cut, twin, device, workload, calibrated, result, progress)


def cut_of(request: Request) -> Slice:
    """The part of the architecture that is run: all of it, or as many layers as were asked for."""
    if request.layers is not None:
        return slice_arch(request.arch, request.layers)
    whole = {stack.prefix: tuple(range(len(stack.layers))) for stack in request.arch.stacks}
    return Slice(arch=request.arch, stands_for=whole)


def _profile_workload(
    request: Request,
    cut: Slice,
    twin: Twin,
    device: torch.device,
    workload: Workload,
    calibrated: Profile | None,
    result: Result,
    progress: Progress,
) -> None:
    from llmprof.measure.run import measure
    from llmprof.twin.core import NoFusedKernel

    outputs: dict[str, torch.Tensor] = {}
    for attention in request.attentions:
        execution = request.execution(attention, kernels_of(device))
        prediction = predict(request.arch, workload, execution)
        progress(f"{request.arch.label}: {workload.phase}, {attention} attention")
        try:
            measured = measure(twin, workload, execution, keep_output=device.type != "meta")
        except NoFusedKernel as reason:
            rows = confirm.unmeasured_rows(
                prediction.ledger, attention=attention, phase=workload.phase, reason=str(reason)
            )
            result.rows = confirm.dedupe([*result.rows, *rows])
            continue
        rows = joined(prediction, measured.ledger, cut, unmeasured=measured.unmeasured)
        result.rows = confirm.dedupe([*result.rows, *rows])
        result.kernels[f"{workload.phase}/{attention}"] = ", ".join(sorted(set(measured.kernels.values())))
        if measured.output is not None:
            logits = measured.output.logits
            output = logits if logits is not None else measured.output.hidden
            assert output is not None, "a pass returns logits or a hidden state"
            outputs[attention] = output
        if request.referees:
            arch, asked = _referees_on(cut, twin, device)
            result.rows += _referee_rows(arch, request.arch.n_layers, asked, workload, execution)
        if device.type != "meta" and request.time_seconds is not None:
            progress(f"{request.arch.label}: timing {workload.phase}, {attention} attention")
            time_pass(request, cut.arch, twin, device, workload, execution, calibrated, result)
    result.rows += expected_experts(request.arch, workload)
    compare(workload, outputs, result)


def joined(
    prediction: Prediction, measured: Ledger, cut: Slice, *, unmeasured: Mapping[tuple[str, Quantity], str]
) -> list[Row]:
    """Prediction and measurement side by side; what was measured on a slice stands for the whole depth.

    `unmeasured` says, by (path, quantity) of the slice, what has no measured value and why.
    """
    full = confirm.extrapolate(measured, cut.representative, confirm.keys(prediction.ledger))
    extra = [e for e in measured if prediction.ledger.at(e.path, e.quantity) is None]
    unexpected = [e for e in extra if cut.arch.n_layers == prediction.arch.n_layers]
    for entry in unexpected:
        full.add(entry)
    reasons = {
        key: unmeasured[(cut.representative(key[0]), key[1])]
        for key in confirm.keys(prediction.ledger)
        if (cut.representative(key[0]), key[1]) in unmeasured
    }
    partial = cut.arch.n_layers != prediction.arch.n_layers
    depth = f"{cut.arch.n_layers} of {prediction.arch.n_layers} layers"
    witness = f"{WITNESS} of {depth}, extrapolated" if partial else WITNESS
    rows = confirm.join(
        prediction.ledger,
        full,
        attention=prediction.execution.attention,
        phase=prediction.workload.phase,
        witness=witness,
        unmeasured=reasons,
    )
    return [
        replace(row, witness=f"{witness}; {MASKS}") if row.quantity == "matmul_flops_causal" else row for row in rows
    ]


def _referees_on(cut: Slice, twin: Twin, device: torch.device) -> tuple[ArchSpec, Twin]:
    """What the referees are asked about: on meta the smallest slice with every kind of layer, else what was built.

    Tensors of the meta device cost them no memory but much time, and one layer of a kind says what eighty do.
    """
    from llmprof.twin.build import build

    arch = slice_arch(cut.arch, smallest_slice(cut.arch)).arch
    if device.type != "meta" or arch == cut.arch:
        return cut.arch, twin
    return arch, build(arch, dtypes=twin.dtypes, device=device, mtp=twin.mtp is not None)


def _referee_rows(arch: ArchSpec, depth: int, twin: Twin, workload: Workload, execution: Execution) -> list[Row]:
    """FlopCounterMode and fvcore on a whole pass of `arch`: further witnesses of its matmul FLOPs."""
    from llmprof.measure.referees import flop_counter, fvcore_flops
    from llmprof.twin.session import Session

    expected = predict(arch, workload, execution).ledger.total("matmul_flops")
    partly = "" if arch.n_layers == depth else f", {arch.n_layers} of {depth} layers"
    rows = []
    for referee in (flop_counter, fvcore_flops):
        found = referee(Session(twin, workload, execution))
        if found.value is None:
            verdict = Verdict.UNMEASURED
        elif found.bound == "lower":
            verdict = Verdict.BELOW_BOUND if found.value <= expected else Verdict.DIFFERS
        else:
            verdict = confirm.compare(expected, found.value)
        rows.append(
            Row(
                path="",
                quantity="matmul_flops",
                attention=execution.attention,
                phase=workload.phase,
                predicted=expected,
                measured=found.value,
                witness=f"referee:{found.name}{partly}",
                verdict=verdict,
                note=found.reason,
            )
        )
    return rows


def describe_environment(device: str) -> dict[str, Any]:
    """The environment of a record: versions, device, clocks; nothing that names a person or a place."""
    from llmprof.measure.device import resolve_device
    from llmprof.measure.environment import environment

    return environment(resolve_device(device))
