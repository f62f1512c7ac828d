"""How the output of a block joins its input."""

from __future__ import annotations

import torch
from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.leaf import TensorLeaf


class Residual(TensorLeaf):
    """alpha x + scale f, of which at most one factor is not 1."""

    def __init__(self, spec: arch.Residual) -> None:
        super().__init__()
        self.alpha = spec.alpha
        self.scale = spec.scale

    def forward(self, x: Tensor, f: Tensor) -> Tensor:
        return _joined(x, f, self.alpha, self.scale)


class ParallelResidual(TensorLeaf):
    """alpha x + scale (a + f), for two modules that read the same input."""

    def __init__(self, spec: arch.Residual) -> None:
        super().__init__()
        self.alpha = spec.alpha
        self.scale = spec.scale

    def forward(self, x: Tensor, a: Tensor, f: Tensor) -> Tensor:
        return _joined(x, a + f, self.alpha, self.scale)


def _joined(x: Tensor, f: Tensor, alpha: float, scale: float) -> Tensor:
    """One kernel multiplies one of its operands alone."""
    if scale == 1.0:
        return torch.add(f, x, alpha=alpha)
    assert alpha == 1.0, "a residual scales its input or what is added to it"
    return torch.add(x, f, alpha=scale)
