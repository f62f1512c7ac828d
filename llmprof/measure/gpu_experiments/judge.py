"""What the counters of the steps say: findings, and the record of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llmprof.measure.counters.metrics import Chip, sum_of
from llmprof.measure.counters.ranges import Place
from llmprof.measure.counters.report import Kernel
from llmprof.measure.gpu_experiments.experiment import Experiment, Finding, Gpu, Step
from llmprof.measure.gpu_experiments.target import place


def by_place(kernels: Sequence[Kernel]) -> dict[Place, list[Kernel]]:
    """The kernels of each step, in the order of their launches."""
    found: dict[Place, list[Kernel]] = {}
    for kernel in kernels:
        if kernel.place is not None:
            found.setdefault(kernel.place, []).append(kernel)
    return found


def counted(experiment: Experiment, gpu: Gpu, chip: Chip, found: Mapping[Place, Sequence[Kernel]]) -> list[Finding]:
    """Bytes to and from memory, and launches, of every step: as counted, or why not."""
    return [
        finding
        for number, step in enumerate(experiment.steps(gpu))
        for finding in _step(
            step, chip, found.get(place(experiment, number)), found, place(experiment, number, "drain")
        )
    ]


def _step(
    step: Step,
    chip: Chip,
    kernels: Sequence[Kernel] | None,
    found: Mapping[Place, Sequence[Kernel]],
    drain: Place,
) -> list[Finding]:
    names = tuple(kernel.name for kernel in kernels or ())
    moved: int | None = None
    note = "no kernel of it was seen"
    if kernels:
        parts = [sum_of(kernel.metrics, (chip.dram_read, chip.dram_write)) for kernel in kernels]
        parts += [sum_of(kernel.metrics, (chip.dram_write,)) for kernel in found.get(drain, ())]
        known = [part for part in parts if part is not None]
        moved, note = (round(sum(known)), "") if len(known) == len(parts) else (None, "some kernel has no such counter")
    findings = [
        Finding(
            label=step.label,
            quantity="dram_bytes",
            predicted=step.predicted.get("dram_bytes"),
            measured=moved,
            kernels=names,
            note=note,
        )
    ]
    if "kernels" in step.predicted:
        findings.append(launched(step, names, "" if kernels else note))
    return findings


def launched(step: Step, names: tuple[str, ...], note: str = "") -> Finding:
    """How many kernels a step launched; none at all is no measurement."""
    return Finding(
        label=step.label,
        quantity="kernels",
        predicted=step.predicted.get("kernels"),
        measured=len(names) or None,
        kernels=names,
        note=note,
    )


def record(experiment: Experiment, findings: Sequence[Finding], tier: str) -> dict[str, Any]:
    """An experiment as it stands in a record of measurements. `tier`: what counted, or why nothing did."""
    return {
        "name": experiment.name,
        "settles": experiment.settles,
        "tier": tier,
        "answer": experiment.answer(findings),
        "findings": [{**asdict(each), "kernels": list(each.kernels), "ratio": each.ratio} for each in findings],
    }
