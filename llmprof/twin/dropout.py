"""Dropout: a leaf of training passes that drop something (docs/reference-training.md, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from llmprof.twin.leaf import TensorLeaf


def dropped(x: Tensor, probability: float) -> Tensor:
    """x, each value 0 with `probability` and divided by what is left elsewhere.

    One kernel on every device, which also writes the mask of a byte per value; `F.dropout` multiplies by a mask that it
    makes first on the CPU.
    """
    return torch.native_dropout(x, probability, True)[0]


class Dropout(TensorLeaf):
    """x behind dropout, of any shape."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, self.probability)
