"""What an experiment is: steps that run on a GPU, what is predicted of each, and the answer that their figures give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Operation = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The figures of a GPU that decide sizes and predictions, as its driver says them. Bytes."""

    name: str
    capability: tuple[int, int]
    l2: int
    multiprocessors: int
    shared_per_multiprocessor: int


def gpu_of(device: torch.device) -> Gpu:
    """The GPU behind a CUDA device."""
    properties: Any = torch.cuda.get_device_properties(device)
    return Gpu(
        name=str(properties.name),
        capability=(int(properties.major), int(properties.minor)),
        l2=int(properties.L2_cache_size),
        multiprocessors=int(properties.multi_processor_count),
        shared_per_multiprocessor=int(properties.shared_memory_per_multiprocessor),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation. `build` makes its tensors on a device, and returns it.

    `predicted`, by quantity: ``dram_bytes`` and ``kernels``. `again`: it is counted right after it has run before, with
    what that left in the cache; otherwise nothing of it is there, and what it leaves is written before it ends.
    """

    label: str
    build: Callable[[torch.device], Operation]
    predicted: Mapping[str, int]
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One quantity of one step. `measured` is None where `note` says why. `kernels` are names, one for each launch."""

    label: str
    quantity: str
    predicted: int | None
    measured: int | None
    kernels: tuple[str, ...] = ()
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Measured over predicted."""
        return None if self.measured is None or not self.predicted else self.measured / self.predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """`steps` of a GPU's size, and what their findings `answer` to the hypothesis that it `settles`."""

    name: str
    settles: str
    steps: Callable[[Gpu], Sequence[Step]]
    answer: Callable[[Sequence[Finding]], str]


def ratios(findings: Sequence[Finding], quantity: str = "dram_bytes") -> str:
    """Each step's measured value over the predicted one, in words."""
    found = [
        f"{finding.label}: {finding.ratio:.2f}x"
        for finding in findings
        if finding.quantity == quantity and finding.ratio is not None
    ]
    return ", ".join(found) or "not measured"


def launches(findings: Sequence[Finding]) -> str:
    """How many kernels each step launched, in words."""
    found = [
        f"{finding.label}: {finding.measured} (predicted {finding.predicted})"
        for finding in findings
        if finding.quantity == "kernels" and finding.measured is not None
    ]
    return ", ".join(found) or "not measured"
