"""The core as transformers' eager attention runs it: scores scaled after the product, softmax in fp32.

Axis legend: B batch, T query rows, S keys, H query heads, K key/value heads, h head_dim.

The order of the kernels is that of section 2 of docs/reference-unfused.md. What a name holds, and for how long, follows
the local variables of `eager_attention_forward` (transformers 5.23.0, models/llama, models/gemma2, models/gpt_oss, read
2026-11-30): lifetimes are counted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.twin.desk import Desk
from llmprof.twin.layouts import side_by_side
from llmprof.twin.masks import Sight, hide


def mask(desk: Desk, see: Sight) -> Tensor | None:
    """The mask of every sequence, `[B, 1, T, S]`: 0 where a row sees a key, else the lowest finite number.

    None in a bidirectional stack that hides nothing. Every other stack has one, even for a single row that sees all.
    """
    if see.kind == "full" and desk.stack.mask == "bidirectional":
        return None

    def make() -> Tensor:
        out = torch.zeros((desk.batch, 1, see.rows, see.keys), dtype=desk.dtype, device=desk.device)
        return hide(out, see).clamp_(min=torch.finfo(desk.dtype).min)

    return desk.constant(("mask of hf-eager", see), make)


def hf_eager(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, scale: float, softcap: float | None = None
) -> Tensor:
    """`[B, T, H h]`. q is `[B, T, H, h]`, k and v are `[B, K, S, h]`; `bias` is `mask`'s."""
    query, key, value = q.transpose(1, 2), k.to(q.dtype), v.to(q.dtype)
    keys = _repeated(key, query.shape[1])
    values = _repeated(value, query.shape[1])
    weights = _scores(query, keys, bias, scale=scale, softcap=softcap)
    weights = _softmax_in_fp32(weights).to(query.dtype)
    return side_by_side(torch.matmul(weights, values))


def hf_eager_with_sinks(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, sinks: Tensor, *, scale: float) -> Tensor:
    """The same with a logit per head, `sinks` `[H]`, that takes part in the softmax and brings no value."""
    sinks = sinks.to(q.dtype)
    query, key, value = q.transpose(1, 2), k.to(q.dtype), v.to(q.dtype)
    b, heads, t, _ = query.shape
    keys = _repeated(key, heads)
    values = _repeated(value, heads)
    weights = _scores(query, keys, bias, scale=scale, softcap=None)
    joined = torch.cat((weights, sinks.view(1, heads, 1, 1).expand(b, heads, t, 1)), dim=-1)
    joined = joined - joined.max(dim=-1, keepdim=True).values
    weights = torch.softmax(joined, dim=-1)[..., :-1]
    return side_by_side(torch.matmul(weights, values))


def _repeated(x: Tensor, n_heads: int) -> Tensor:
    """`[B, K, S, h] -> [B, H, S, h]`: a clone where several heads are repeated, a view where it is one."""
    b, k, s, h = x.shape
    if k == n_heads:
        return x
    return x[:, :, None].expand(b, k, n_heads // k, s, h).reshape(b, n_heads, s, h)


def _scores(query: Tensor, keys: Tensor, bias: Tensor | None, *, scale: float, softcap: float | None) -> Tensor:
    """What is softmaxed, `[B, H, T, S]`."""
    weights = torch.matmul(query, keys.transpose(2, 3)) * scale
    if softcap is not None:
        weights = weights / softcap
        weights = torch.tanh(weights)
        weights = weights * softcap
    return weights if bias is None else weights + bias


def _softmax_in_fp32(scores: Tensor) -> Tensor:
    """The softmax of `softmax(dtype=float32)`.

    fp16 tensors on CUDA have one kernel that converts and takes it; `meta`, which stands for CUDA here, would launch
    two.
    """
    if scores.is_meta and scores.dtype == torch.float16:
        return torch._softmax(scores, -1, True)
    return F.softmax(scores, dim=-1, dtype=torch.float32)
