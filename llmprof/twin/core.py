"""The attention core: scores, softmax and values, unfused or as one fused kernel.

Axis legend: B batch, T query rows, S keys, H query heads, K key/value heads, h head_dim.

q is `[B, T, H, h]`; k and v are `[B, K, S, h]`, contiguous or transposes of `[B, S, K, h]`; the result is
`[B, T, H h]`. A bias is `[T, S]` (shared) or `[H, T, S]` (per head). The order of the kernels is that of
section 8 of docs/reference-execution.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmprof.errors import DeviceError
from llmprof.twin.desk import Pairs
from llmprof.twin.dropout import dropped
from llmprof.twin.hf_eager import hf_eager
from llmprof.twin.in_place import divided, multiplied, plus_bias, squashed
from llmprof.twin.layouts import side_by_side
from llmprof.twin.leaf import TensorLeaf
from llmprof.twin.masks import MaskKind, Sight
from llmprof.twin.recompute import computed_again
from llmprof.twin.sdpa_math import sdpa_math
from llmprof.workload import Execution, Workload

Kernel = Literal["lean-eager", "hf-eager", "sdpa-math", "flash", "efficient", "cpu"]

_FLASH_MAX_HEAD_DIM = 256
_aten = torch.ops.aten


class NoFusedKernel(DeviceError):
    """No fused kernel computes this attention. `path` is the core's, `reason` says what stands in the way."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: no fused kernel fits: {reason}; run it unfused")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorePlan:
    """How one core runs: its kernel, and whether that kernel's own causal flag stands for the mask."""

    kernel: Kernel
    causal_flag: bool
    dropout: float = 0.0
    """Of the attention probabilities, and whether backward runs the core `again`: in training alone."""
    again: bool = False

    def takes_mask(self, kind: MaskKind) -> bool:
        """Whether the mask reaches the core as a bias."""
        return kind != "full" and not self.causal_flag


def plan_core(
    path: str,
    *,
    kind: MaskKind,
    square: bool,
    head_dim: int,
    dtype: torch.dtype,
    execution: Execution,
    softcap: float | None = None,
    own_bias: bool = False,
) -> CorePlan:
    """Choose the kernel, by section 8.2's table. `path` is the core's.

    `square`: there are as many keys as rows. `own_bias`: the core gets a bias that is no mere mask (ALiBi, T5, prior).
    NoFusedKernel: the execution is fused and no kernel fits.
    """
    if execution.attention == "unfused":
        return CorePlan(kernel="lean-eager", causal_flag=False)
    if softcap is not None:
        raise NoFusedKernel(path, f"scores are capped at {softcap:g}")
    causal = kind == "causal" and not own_bias
    if execution.kernels == "cpu":
        return CorePlan(kernel="cpu", causal_flag=causal and square)
    wide = dtype == torch.float32
    if not wide and not own_bias and kind != "dense" and head_dim % 8 == 0 and head_dim <= _FLASH_MAX_HEAD_DIM:
        return CorePlan(kernel="flash", causal_flag=causal)
    multiple = 4 if wide else 8
    if head_dim % multiple:
        raise NoFusedKernel(path, f"head_dim {head_dim} is no multiple of {multiple}")
    return CorePlan(kernel="efficient", causal_flag=causal and square)


def in_training(plan: CorePlan, path: str, workload: Workload) -> CorePlan:
    """`plan` with what a training pass drops and computes again; `path` is the core's.

    NoFusedKernel where its kernel drops nothing.
    """
    if workload.dropout and plan.kernel == "cpu":
        raise NoFusedKernel(path, "that of the CPU has no dropout")
    return replace(plan, dropout=workload.dropout, again=workload.recompute == "selective")


class Core(TensorLeaf):
    """The core of an attention whose scores are a plain product of queries and keys. `path` is its module path."""

    def __init__(self, path: str, *, scale: float, softcap: float | None = None) -> None:
        super().__init__()
        self.path = path
        self.scale = scale
        self.softcap = softcap

    def takes(self, plan: CorePlan, see: Sight) -> Pairs:
        """The pairs that it takes by `plan` where it sees so much: all, whatever the mask."""
        return Pairs.all_of(see)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: CorePlan) -> Tensor:
        if plan.again:
            return computed_again(self._attend, q, k, v, bias, plan, draws=plan.dropout > 0)
        return self._attend(q, k, v, bias, plan)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: CorePlan) -> Tensor:
        if plan.kernel == "lean-eager":
            return lean_eager(q, k, v, bias, scale=self.scale, softcap=self.softcap, dropout=plan.dropout)
        if plan.kernel == "hf-eager":
            return hf_eager(q, k, v, bias, scale=self.scale, softcap=self.softcap)
        if plan.kernel == "sdpa-math":
            return sdpa_math(q, k, v, bias, causal=plan.causal_flag, scale=self.scale)
        if plan.kernel == "cpu" and bias is not None and bias.requires_grad:
            raise NoFusedKernel(self.path, "that of the CPU has no gradient for a learned bias")
        return fused(q, k, v, bias, plan, scale=self.scale).flatten(2)


# --- unfused ----------------------------------------------------------------------------------


def lean_eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    *,
    scale: float,
    softcap: float | None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention with materialised scores (section 8.1). Names are deleted at their last use: lifetimes are counted."""
    b, t, n_heads, _ = q.shape
    weights = softmax_weights(q, k, bias, scale=scale, softcap=softcap)
    if dropout:
        weights = dropped(weights, dropout)
    values = flatten(expand_kv(v.to(q.dtype), n_heads))
    out = torch.bmm(weights, values)
    del weights, values
    return side_by_side(out.view(b, n_heads, t, v.shape[-1]))


def softmax_weights(q: Tensor, k: Tensor, bias: Tensor | None, *, scale: float, softcap: float | None) -> Tensor:
    """How much each row takes of each key, `[B H, T, S]`: steps 1 to 4 of section 8.1."""
    return torch.softmax(attention_scores(q, k, bias, scale=scale, softcap=softcap), dim=-1)


def attention_scores(
    q: Tensor, k: Tensor, bias: Tensor | None, *, scale: float, softcap: float | None = None
) -> Tensor:
    """What is softmaxed, `[B H, T, S]`: steps 1 to 3 of section 8.1."""
    b, t, n_heads, _ = q.shape
    s = k.shape[2]
    queries = flatten(q.transpose(1, 2))
    keys = flatten(expand_kv(k.to(q.dtype), n_heads)).transpose(1, 2)
    if softcap is None and bias is not None and bias.dim() == 2:
        scores = torch.baddbmm(bias, queries, keys, beta=1, alpha=scale)
        del queries, keys
    else:
        if scale != 1.0:
            queries = queries * scale
        scores = torch.bmm(queries, keys)
        del queries, keys
        if softcap is not None:
            # One statement each: as an argument, a tensor would outlive the kernel that takes it.
            scores = divided(scores, softcap)
            scores = squashed(scores)
            scores = multiplied(scores, softcap)
        if bias is not None:
            scores = plus_bias(scores.view(b, n_heads, t, s), bias).view(b * n_heads, t, s)
    return scores


def expand_kv(x: Tensor, n_heads: int) -> Tensor:
    """Each key/value head repeated for the query heads it serves: `[B, K, S, h] -> [B, H, S, h]`.

    A single head is repeated by a view; several are cloned.
    """
    b, k, s, h = x.shape
    if k == n_heads:
        return x
    return x[:, :, None].expand(b, k, n_heads // k, s, h).reshape(b, n_heads, s, h)


def flatten(x: Tensor) -> Tensor:
    """`[B, X, n, h] -> [B X, n, h]` for `bmm`: a view where one exists, else a clone."""
    b, heads, n, h = x.shape
    return x.reshape(b * heads, n, h)


# --- fused ------------------------------------------------------------------------------------


def fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: CorePlan, *, scale: float) -> Tensor:
    """One fused kernel (section 8.2): `[B, T, H, h]`, in memory as q is."""
    match plan.kernel:
        case "flash":
            out = flash(q, k, v, causal=plan.causal_flag, scale=scale, dropout=plan.dropout)
        case "efficient":
            out = efficient(q, k, v, bias, causal=plan.causal_flag, scale=scale, dropout=plan.dropout)
        case "cpu":
            assert not plan.dropout, "the kernel of the CPU drops nothing"
            out = fused_on_cpu(q, k, v, bias, causal=plan.causal_flag, scale=scale)
        case "lean-eager" | "hf-eager" | "sdpa-math":
            raise AssertionError("no fused kernel")
        case never:
            assert_never(never)
    return out.transpose(1, 2)


def flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, dropout: float = 0.0) -> Tensor:
    """FlashAttention, `[B, H, T, h]`; its causal flag is aligned to the bottom right."""
    query, key, value = q.transpose(1, 2), k.to(q.dtype), v.to(q.dtype)
    if q.is_cuda and not (causal and query.shape[2] != key.shape[2]):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            out = F.scaled_dot_product_attention(
                query, key, value, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=True
            )
    else:
        # F.scaled_dot_product_attention means top left by `is_causal`, and decomposes on meta.
        out = _aten._scaled_dot_product_flash_attention(query, key, value, dropout, causal, scale=scale)[0]
    return out


def efficient(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, causal: bool, scale: float, dropout: float = 0.0
) -> Tensor:
    """The memory-efficient kernel: takes any bias, and needs as many key/value heads as query heads."""
    b, t, n_heads, _ = q.shape
    s = k.shape[2]
    query, key, value = q.transpose(1, 2), k.to(q.dtype), v.to(q.dtype)
    key = expand_kv(key, n_heads)
    value = expand_kv(value, n_heads)
    if q.is_cuda and bias is None:
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
            out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=causal, scale=scale)
    else:
        # F.scaled_dot_product_attention would copy a bias whose rows are no multiple of 16 long.
        whole = None if bias is None else bias.expand(b, n_heads, t, s)
        # Its backward takes the log-sum-exp of every row, which inference does without.
        keep_sums = torch.is_grad_enabled()
        out = _aten._scaled_dot_product_efficient_attention(
            query, key, value, whole, keep_sums, dropout, causal, scale=scale
        )[0]
    return out


def fused_on_cpu(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, causal: bool, scale: float) -> Tensor:
    """The fused kernel of CPU tensors; it reads key/value heads as they are."""
    query, key, value = q.transpose(1, 2), k.to(q.dtype), v.to(q.dtype)
    whole = bias if bias is None or bias.dim() == 2 else bias.unsqueeze(0)
    out: Tensor = _aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=whole, scale=scale
    )[0]
    return out
