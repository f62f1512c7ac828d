"""The times of ops on one device, and which of its limits bounds each."""

from __future__ import annotations

from typing import Literal, Protocol

from llmprof.latency import light
from llmprof.latency.common import peak
from llmprof.latency.constants import DeviceModel
from llmprof.latency.estimate import Estimate, estimate
from llmprof.latency.op import Collective, Gemm, Launch, Moe, Op

Limit = Literal["compute", "memory bandwidth", "interconnect", "fixed cost of kernels", "host"]

FIXED = 4.0
"""An op that takes more than so many times its floor is bounded by what a kernel costs at any size."""
SMALL_MESSAGE = 1 << 20
"""Bytes below which a collective is a matter of its fixed cost."""


class Kernels(Protocol):
    """What a composition asks about ops."""

    def time(self, op: Op) -> Estimate:
        """How long it takes."""

    def floors(self, op: Op) -> tuple[float, float]:
        """The seconds of compute and of memory below which it cannot come."""


class DeviceKernels:
    """Those of a device that the latency models know."""

    def __init__(self, model: DeviceModel) -> None:
        self.model = model

    def time(self, op: Op) -> Estimate:
        """As `estimate` has it."""
        return estimate(op, self.model)

    def floors(self, op: Op) -> tuple[float, float]:
        """As `light.floor`, whose larger one is that of the op."""
        figures = self.model.figures
        flops, moved = light.work(op, figures)
        rate = peak(op.dtype, figures) if isinstance(op, Gemm | Moe) else figures.bf16
        return flops / rate, moved / figures.bandwidth


def limit_of(op: Op, seconds: float, floors: tuple[float, float]) -> Limit:
    """What keeps `op`, which takes `seconds`, from being quicker."""
    if isinstance(op, Launch):
        return "host"
    if isinstance(op, Collective):
        return "interconnect" if op.bytes >= SMALL_MESSAGE else "fixed cost of kernels"
    compute, memory = floors
    if seconds > FIXED * max(compute, memory):
        return "fixed cost of kernels"
    return "compute" if compute > memory else "memory bandwidth"
