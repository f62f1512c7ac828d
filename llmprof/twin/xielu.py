"""xIELU, an activation with two learned numbers (docs/reference-options.md, section 8).

Names are deleted at their last use: lifetimes are counted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.twin.leaf import Material, TensorLeaf

BETA, LEAST = 0.5, -1e-6
"""The slope at 0, and where the exponential is cut so that it stays below 0."""


class Xielu(TensorLeaf):
    """softplus(alpha_p) x^2 above 0, (beta + softplus(alpha_n)) (exp(x) - 1 - x) below, and beta x: elementwise."""

    def __init__(self, material: Material) -> None:
        super().__init__()
        self.alpha_p = material.parameter(1)
        self.alpha_n = material.parameter(1)

    def forward(self, x: Tensor) -> Tensor:
        alpha_p, alpha_n = self.alpha_p.to(x.dtype), self.alpha_n.to(x.dtype)
        p = F.softplus(alpha_p)
        del alpha_p
        n = F.softplus(alpha_n)
        del alpha_n
        n = n + BETA
        line = x * BETA
        high = x * x
        high = high * p
        del p
        low = x.clamp(max=LEAST)
        low = torch.expm1(low)
        low = low - x
        low = low * n
        del n
        chosen = torch.where(x > 0, high, low)
        del high, low
        return chosen + line
