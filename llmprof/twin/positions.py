"""Positions: rotary embedding, the T5 table, and the tables that they read.

Axis legend: B batch, T tokens, X heads (query or key/value), h head_dim, r rotary_dim, a axes, H query heads, S keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.desk import Desk
from llmprof.twin.leaf import Leaf, Material, TensorLeaf
from llmprof.twin.masks import aligned_rows

RotationKey = tuple[float, int, int]
"""(theta, r, a): rotations that are equal share their tables."""


class Rotation(Leaf):
    """Rotates by positions, over the first r values of each head."""

    def __init__(self, spec: arch.Rope, head_dim: int) -> None:
        super().__init__()
        self.rotary_dim = head_dim if spec.rotary_dim is None else spec.rotary_dim
        self.axes = spec.axes
        self.key: RotationKey = (spec.theta, self.rotary_dim, spec.axes)

    def tables(self, desk: Desk) -> tuple[Tensor, Tensor]:
        """cos and sin of the new tokens' positions, `[T, r]` each; rotations of a stack that are equal share them."""

        def make() -> tuple[Tensor, Tensor]:
            indices = rotation_indices(desk.positions, self.axes, desk.workload.prefix_tokens)
            cos, sin = rotation_tables(self.key, indices, desk.dtype)
            return desk.register(cos), desk.register(sin)

        return desk.once(("rotation", self.key), make)

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`[B, T, X, h]` rotated; cos and sin are `[T, r]`."""
        r = self.rotary_dim
        cos, sin = cos[:, None, :], sin[:, None, :]
        turned = x[..., :r]
        in_place = turned * cos
        halves = turned.view(*turned.shape[:-1], self.axes, 2, r // (2 * self.axes))
        crosswise = torch.cat((halves[..., 1, :].neg(), halves[..., 0, :]), dim=-1).flatten(-2)
        crosswise = crosswise * sin
        rotated = in_place + crosswise
        del in_place, crosswise
        return rotated if r == x.shape[-1] else torch.cat((rotated, x[..., r:]), dim=-1)


class Rope(Rotation):
    """Rotates queries and then keys."""

    if TYPE_CHECKING:

        def __call__(self, *args: Any) -> tuple[Tensor, Tensor]: ...

    def forward(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return self._rotate(q, cos, sin), self._rotate(k, cos, sin)


class QueryRope(Rotation):
    """Rotates queries alone: the keys are another attention's, which has turned them."""

    if TYPE_CHECKING:

        def __call__(self, *args: Any) -> Tensor: ...

    def forward(self, q: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return self._rotate(q, cos, sin)


def rotation_tables(key: RotationKey, indices: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin, each `[T, r]`, from one position index per axis, int64 `[a, T]`.

    Pair i of an axis turns by index * theta^(-2i / (r / a)); both members of a pair stand half an axis apart.
    """
    theta, r, axes = key
    width = r // axes
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=indices.device) / width
    angles = indices.float()[:, :, None] * theta**-exponents  # [a, T, width / 2]
    both = torch.cat((angles, angles), dim=-1).transpose(0, 1).flatten(-2)  # [T, r]
    return both.cos().to(dtype), both.sin().to(dtype)


def rotation_indices(positions: Tensor, axes: int, prefix: int) -> Tensor:
    """One position index per axis, int64 `[a, T]`.

    A single axis is the position. With several (ChatGLM-6B's encoding), the first counts the prefix
    and then stands still at its last token; the others stand at 0 in the prefix and count what follows it.
    """
    if axes == 1:
        return positions[None]
    within = positions.clamp(max=max(prefix - 1, 0))
    after = (positions - (prefix - 1)).clamp(min=0)
    return torch.stack((within, *(after for _ in range(axes - 1))))


def sinusoid(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """sin and cos of the positions at widths 2i and 2i + 1, `[T, D]` (section 3.5 of https://arxiv.org/abs/1706.03762)."""
    pairs = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
    angles = positions.float()[:, None] * 10000.0**-pairs
    pairwise = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
    # A copy always: of an odd width, a single row would else keep the storage of the even one.
    return pairwise[:, :width].to(dtype, copy=True, memory_format=torch.contiguous_format)


class RelativeBias(TensorLeaf):
    """T5's bias per head and bucketed distance, the mask added in: `[H, T, S]`."""

    def __init__(self, spec: arch.T5Bias, n_heads: int, material: Material) -> None:
        super().__init__()
        self.activations = material.activations
        self.weight = material.parameter(spec.n_buckets, n_heads)

    def forward(self, buckets: Tensor, mask: Tensor | None) -> Tensor:
        """`buckets` is int64 `[T, S]`, `mask` `[T, S]` or None where every row sees every key."""
        per_pair = F.embedding(buckets, self.weight)  # [T, S, H]
        if torch.is_grad_enabled():
            out: Tensor = _LaidOut.apply(per_pair, mask, self.activations)  # type: ignore[no-untyped-call]
            return out
        out = _laid_out(per_pair, self.activations)
        del per_pair
        return out if mask is None else out.add_(mask)


def _laid_out(per_pair: Tensor, dtype: torch.dtype) -> Tensor:
    rows, keys, heads = per_pair.shape
    out = aligned_rows(heads, rows, keys, dtype=dtype, device=per_pair.device)
    out.copy_(per_pair.permute(2, 0, 1))
    return out


class _LaidOut(torch.autograd.Function):
    """A bias `[T, S, H]` as `[H, T, S]` with aligned rows, the mask added in.

    A gradient comes back by a view (and a cast, where the dtypes differ). Of an assignment to a view, autograd would
    copy it several times.
    """

    @staticmethod
    def forward(ctx: Any, per_pair: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        ctx.dtype = per_pair.dtype
        out = _laid_out(per_pair, dtype)
        return out if mask is None else out.add_(mask)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        return gradient.permute(1, 2, 0).to(ctx.dtype), None, None
