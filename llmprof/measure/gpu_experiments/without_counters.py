"""What can be had without permission for counters: the kernels that a step launches, and how exact NVML's GPM is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from llmprof.measure.counters.gpm import SECONDS, integrate
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_experiments.experiment import Experiment, Finding, Gpu
from llmprof.measure.gpu_experiments.judge import launched

_CACHES = 16
"""The tensors of the known copy are so many L2 caches large: their reuse does not matter."""


def launches(experiment: Experiment, gpu: Gpu, device: torch.device, reason: str) -> list[Finding]:
    """The kernels of each step by torch's profiler, where a number of them is predicted; `reason` stands for bytes."""
    findings = []
    for step in experiment.steps(gpu):
        predicted = step.predicted.get("dram_bytes")
        findings.append(
            Finding(label=step.label, quantity="dram_bytes", predicted=predicted, measured=None, note=reason)
        )
        if "kernels" in step.predicted:
            with torch.no_grad():
                operation = step.build(device)
                operation()
                torch.cuda.synchronize()
                findings.append(launched(step, _names(operation), "by torch's profiler"))
    return findings


def _names(operation: Any) -> tuple[str, ...]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
        operation()
        torch.cuda.synchronize()
    return tuple(
        str(event.name)
        for event in watched.events() or ()
        if str(event.device_type).endswith("CUDA") and not event.name.startswith(("Memcpy", "Memset"))
    )


def known_copy(gpu: Gpu, device: torch.device, seconds: float = SECONDS) -> dict[str, Any]:
    """GPM's bytes of a copy whose bytes are known: each element is read once and written once."""
    source = torch.randn(_CACHES * gpu.l2 // 2, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    predicted = 2 * source.numel() * source.element_size()
    found: dict[str, Any] = {
        "name": "gpm-copy",
        "settles": "NVML's GPM counts the used share of memory clock x 2 x bus width, to within a few percent",
        "predicted": predicted,
    }
    try:
        mean = integrate(
            lambda: target.copy_(source),
            lambda: torch.cuda.synchronize(device),
            torch.cuda.get_device_properties(device),
            seconds=seconds,
        )
    except Unavailable as error:
        return {**found, "tier": "none", "answer": f"not measured: {error}", "measured": None, "ratio": None}
    ratio = mean.dram_bytes / predicted
    return {
        **found,
        "tier": "gpm",
        "answer": f"{ratio:.3f} of the bytes of a known copy",
        "measured": mean.dram_bytes,
        "ratio": ratio,
        **asdict(mean),
    }
