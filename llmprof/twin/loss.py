"""What a training pass has that inference has not: the rows that carry loss, and the loss.

Axis legend: B batch, T tokens, m positions with loss of one sequence, D d_model, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.twin.leaf import TensorLeaf


class LossRows(TensorLeaf):
    """The rows that carry loss: `[B, T, D] -> [B m, D]`. The head makes logits of these alone."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """`positions` is int64 `[B m]`, among the B T rows."""
        out: Tensor = _Chosen.apply(x.flatten(0, 1), positions)  # type: ignore[no-untyped-call]
        return out


class _Chosen(torch.autograd.Function):
    """Rows of `[n, D]` by their numbers. A gradient goes where its row was, in place.

    Torch's own derivative does the same, but seen by a dispatch mode it takes a copy of the whole.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, positions: Tensor) -> Tensor:
        ctx.save_for_backward(positions)
        ctx.n_rows = rows.shape[0]
        return rows.index_select(0, positions)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        (positions,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.n_rows, gradient.shape[1]).index_add_(0, positions, gradient), None


class Loss(TensorLeaf):
    """The mean cross entropy in fp32: logits `[B, T, V]` or `[B m, V] -> []`."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`targets` is int64 `[B m]`."""
        wide = logits.flatten(0, -2).to(torch.float32)
        log_probabilities = torch.log_softmax(wide, dim=-1)
        del wide
        return F.nll_loss(log_probabilities, targets)
