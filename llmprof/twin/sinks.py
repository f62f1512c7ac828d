"""Attention sinks: a learned logit per head that takes part in the softmax and brings no value (GPT-OSS).

Axis legend: B batch, T query rows, S keys, H query heads, K key/value heads, h head_dim.

docs/reference-options.md, section 3. Names are deleted at their last use: lifetimes are counted.
"""

from __future__ import annotations

from typing import Any, assert_never

import torch
from torch import Tensor

from llmprof.twin.core import Core, CorePlan, NoFusedKernel, attention_scores, expand_kv, flatten
from llmprof.twin.hf_eager import hf_eager_with_sinks
from llmprof.twin.in_place import multiplied
from llmprof.twin.layouts import side_by_side
from llmprof.twin.leaf import Material

_aten = torch.ops.aten


class SinkCore(Core):
    """The core of an attention with sinks, one per query head. `path` is its module path."""

    def __init__(self, path: str, *, scale: float, n_heads: int, material: Material) -> None:
        super().__init__(path, scale=scale)
        self.sinks = material.parameter(n_heads)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: CorePlan) -> Tensor:
        if plan.kernel == "lean-eager":
            return _unfused(q, k, v, bias, self.sinks, scale=self.scale)
        if plan.kernel == "hf-eager":
            return hf_eager_with_sinks(q, k, v, bias, self.sinks, scale=self.scale)
        sinks = self.sinks.to(q.dtype)
        if plan.kernel == "cpu" and bias is not None and bias.requires_grad:
            raise NoFusedKernel(self.path, "that of the CPU has no gradient for a learned bias")
        query, key, value = q.transpose(1, 2), k.to(q.dtype), v.to(q.dtype)
        if plan.kernel == "efficient":
            key = expand_kv(key, q.shape[2])
            value = expand_kv(value, q.shape[2])
        if torch.is_grad_enabled():
            gated: Tensor = _Differentiable.apply(query, key, value, bias, sinks, plan, self.scale)  # type: ignore[no-untyped-call]
            return gated.flatten(2)
        out, sums = _kernel(query, key, value, bias, plan, self.scale)[:2]
        del query, key, value
        share = sums[..., : q.shape[1]] - sinks[:, None]
        del sums, sinks
        share = torch.sigmoid(share)
        share = share.to(q.dtype)
        return multiplied(out.transpose(1, 2), _by_row(share)).flatten(2)


def _unfused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, sinks: Tensor, *, scale: float) -> Tensor:
    """The softmax over the scores and the sink of the head; the sink's share of the values is left out."""
    b, t, heads, _ = q.shape
    s = k.shape[2]
    sinks = sinks.to(q.dtype)
    scores = attention_scores(q, k, bias, scale=scale).view(b, heads, t, s)
    scores = torch.cat((scores, sinks.view(1, heads, 1, 1).expand(b, heads, t, 1)), dim=-1)
    del sinks
    weights = torch.softmax(scores, dim=-1)
    del scores
    values = flatten(expand_kv(v.to(q.dtype), heads))
    out = torch.bmm(weights.flatten(0, 1)[..., :s], values)
    del weights, values
    return side_by_side(out.view(b, heads, t, v.shape[-1]))


def _kernel(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, plan: CorePlan, scale: float
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """A fused kernel without sinks: `[B, H, T, h]`, the log-sum-exp of its rows `[B, H, >= T]`, and its random state.

    All operands are `[B, X, n, h]`.
    """
    b, heads, t, _ = query.shape
    match plan.kernel:
        case "flash":
            found = _aten._scaled_dot_product_flash_attention(query, key, value, 0.0, plan.causal_flag, scale=scale)
            return found[0], found[1], found[6], found[7]
        case "efficient":
            whole = None if bias is None else bias.expand(b, heads, t, key.shape[2])
            found = _aten._scaled_dot_product_efficient_attention(
                query, key, value, whole, True, 0.0, plan.causal_flag, scale=scale
            )
            return found[0], found[1], found[2], found[3]
        case "cpu":
            whole = bias if bias is None or bias.dim() == 2 else bias.unsqueeze(0)
            found = _aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, 0.0, plan.causal_flag, attn_mask=whole, scale=scale
            )
            return found[0], found[1], None, None
        case "lean-eager" | "hf-eager" | "sdpa-math":
            raise AssertionError("no fused kernel")
        case never:
            assert_never(never)


def _by_row(share: Tensor) -> Tensor:
    """`[B, H, T] -> [B, T, H, 1]`: a factor of each head's row."""
    return share.transpose(1, 2).unsqueeze(-1)


class _Differentiable(torch.autograd.Function):
    """The same kernels, whose log-sum-exp autograd takes for a constant.

    With g the share that the keys have of the softmax, sigmoid(log-sum-exp - sink), o what the kernel returns and
    y = g o: the scores' gradient through o and through the log-sum-exp together is that of the kernel's own backward
    for the gradient g dy of a result y in the place of o.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        sinks: Tensor,
        plan: CorePlan,
        scale: float,
    ) -> Tensor:
        out, sums, *state = _kernel(query, key, value, bias, plan, scale)
        share = torch.sigmoid(sums[..., : query.shape[2]] - sinks[:, None]).to(out.dtype)
        y = multiplied(out.transpose(1, 2), _by_row(share))
        del out
        ctx.plan, ctx.scale = plan, scale
        ctx.save_for_backward(query, key, value, bias, sinks, y, sums, share, *state)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, sinks, y, sums, share, *state = ctx.saved_tensors
        plan, scale = ctx.plan, ctx.scale
        dy = gradients[0]
        grown = (dy * _by_row(share)).transpose(1, 2)
        out = y.transpose(1, 2)
        dbias: Tensor | None = None
        match plan.kernel:
            case "flash":
                dq, dk, dv = _aten._scaled_dot_product_flash_attention_backward(
                    *(grown, query, key, value, out, sums, None, None, query.shape[2], key.shape[2], 0.0),
                    *(plan.causal_flag, *state),
                    scale=scale,
                )
            case "efficient":
                whole = None if bias is None else bias.expand(*query.shape[:3], key.shape[2])
                learned = bias is not None and bias.requires_grad
                dq, dk, dv, dwhole = _aten._scaled_dot_product_efficient_attention_backward(
                    *(grown, query, key, value, whole, out, sums, *state, 0.0, [True, True, True, learned]),
                    plan.causal_flag,
                    scale=scale,
                )
                dbias = dwhole.sum_to_size(bias.shape) if learned else None
            case "cpu":
                whole = bias if bias is None or bias.dim() == 2 else bias.unsqueeze(0)
                dq, dk, dv = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    grown, query, key, value, out, sums, 0.0, plan.causal_flag, attn_mask=whole, scale=scale
                )
            case other:
                raise AssertionError(f"{other} is no fused kernel")
        rows = (dy * y).sum(-1).transpose(1, 2)  # [B, H, T]
        dsinks = ((share - 1.0) * rows).sum((0, 2)).to(sinks.dtype)
        return dq, dk, dv, dbias, dsinks, None, None
