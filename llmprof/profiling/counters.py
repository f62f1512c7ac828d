"""Read the GPU's counters of the passes of a request, and hold them against the levels below op level.

The counters are read on the smallest slice that has a layer of each kind: equal layers move the same, and a kernel
costs a profiler a hundred times its own time. Prediction and measurement are both of that slice; nothing of them is
extrapolated, because what a layer finds in the cache depends on the layer before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from llmprof.errors import LlmprofError
from llmprof.ledger import Ledger
from llmprof.profiling.counter_device import device_of
from llmprof.profiling.counter_rows import Caches, CounterRow, outcome, rows, unmeasured
from llmprof.profiling.counter_sources import INSTRUMENTS, Passes, Readings, kernel_counters, key, whole_gpu
from llmprof.profiling.fit import kernels_of
from llmprof.profiling.question import Request, Result
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.device import Device
    from llmprof.spec.arch import ArchSpec

Source = Literal["auto", "ncu", "cupti", "nvml", "none"]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which counters to read. `device_spec` is the name of the GPU in the catalogue, None for what torch calls it."""

    source: Source
    caches: tuple[Caches, ...] = ("cold",)
    device_spec: str | None = None


@dataclass(slots=True, kw_only=True)
class Counters:
    """What was read. `asked`: whether a source was named, so that having read nothing is not well."""

    asked: bool
    rows: list[CounterRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Literal["failed", "measured", "unmeasured", "not asked"]:
        """What the rows say together; what nobody asked for by name cannot be missing."""
        found = outcome(self.rows)
        return "not asked" if found == "unmeasured" and not self.asked else found


def count(request: Request, result: Result, question: Question, progress: Progress) -> None:
    """Read the counters of the passes of `request` into `result.counters`; what cannot be read says why in a row."""
    from llmprof.measure.device import resolve_device

    device = resolve_device(request.device)
    counters = result.counters = Counters(asked=question.source != "auto")
    if device.type != "cuda" or question.source == "none":
        result.counters = None
        return
    sliced = slice_arch(request.arch, max(request.layers or 0, smallest_slice(request.arch))).arch
    passes = tuple(
        (workload, request.execution(attention, kernels_of(device)))
        for workload in request.workloads
        for attention in request.attentions
    )
    spec = device_of(device, question.device_spec, counters.notes)
    if sliced.n_layers != request.arch.n_layers:
        counters.notes.append(f"counters are those of {sliced.n_layers} of {request.arch.n_layers} layers")
    predicted = {key(*each): _levels(sliced, *each, spec, counters) for each in passes}
    for caches in question.caches:
        progress(f"{request.arch.label}: counters, {caches} caches")
        try:
            readings = _read(sliced, passes, device, question, caches, request.seed, counters.notes)
        except LlmprofError as error:
            readings = f"{error}"
        tiers = set[str]()
        for workload, execution in passes:
            ledger = predicted[key(workload, execution)]
            found = readings if isinstance(readings, str) else readings[key(workload, execution)]
            if isinstance(found, str):
                counters.rows += unmeasured(workload.phase, execution.attention, caches, ledger, found)
            else:
                counters.rows += rows(ledger if ledger is not None else Ledger(), found)
                tiers.add(found.tier)
        if "gpm" in tiers:  # it has no cold caches to offer, and was asked once
            break


def _levels(
    arch: ArchSpec, workload: Workload, execution: Execution, device: Device, counters: Counters
) -> Ledger | None:
    """The prediction of the levels of one pass, or None, with a note, where there is none.

    A matrix product has no tiles of its own in it: what it is held against are its FLOPs, which its tiles may exceed.
    """
    from llmprof.predict.api import predict
    from llmprof.predict.levels import levels

    prediction = predict(arch, workload, execution)
    try:
        found = levels(prediction, device)
        for entry in prediction.ledger:
            fused = execution.attention == "fused" and entry.path.endswith("core")
            if entry.quantity == "matmul_flops" and entry.value and not fused:
                found.add(replace(entry, quantity="matmul_flops_executed"))
        return found
    except LlmprofError as error:
        counters.notes.append(f"{key(workload, execution)}: {error}")
        return None


def _read(
    arch: ArchSpec,
    passes: Passes,
    device: torch.device,
    question: Question,
    caches: Caches,
    seed: int,
    notes: list[str],
) -> Readings | str:
    """What was counted of each pass by the first instrument that can, or why none can."""
    from llmprof.measure.counters.unavailable import Unavailable

    reasons: list[str] = []
    for instrument in INSTRUMENTS:
        if question.source in ("auto", instrument):
            try:
                found = kernel_counters(instrument, arch, passes, device, caches, seed, notes)
            except Unavailable as error:
                reasons.append(str(error))
            else:
                notes += dict.fromkeys(reasons)
                return found
    if question.source in ("auto", "nvml"):
        try:
            found = whole_gpu(arch, passes, device, seed, notes)
        except Unavailable as error:
            reasons.append(str(error))
        else:
            notes += dict.fromkeys(reasons)
            return found
    return ". ".join(dict.fromkeys(reasons))
