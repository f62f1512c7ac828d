"""The core as torch's own decomposed attention runs it: `scaled_dot_product_attention` pinned to its MATH backend.

Axis legend: B batch, T query rows, S keys, H query heads, K key/value heads, h head_dim.

Nothing is rebuilt here: torch launches what it launches, and section 3 of docs/reference-unfused.md lists it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmprof.twin.layouts import side_by_side


def sdpa_math(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, causal: bool, scale: float) -> Tensor:
    """`[B, T, H h]`. q is `[B, T, H, h]`, k and v are `[B, K, S, h]`; `bias` is `[T, S]` or `[H, T, S]`.

    `causal` is torch's flag, aligned to the top left: only for as many keys as rows.
    """
    query, key, value = q.transpose(1, 2), k.to(q.dtype), v.to(q.dtype)
    with sdpa_kernel(SDPBackend.MATH):
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            is_causal=causal,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return side_by_side(out)
