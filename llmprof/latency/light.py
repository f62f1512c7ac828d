"""The speed of light of an op: its FLOPs at the peak, or the bytes that must cross the memory at its bandwidth.

Every size is counted once: weights that are used, inputs, outputs, the cache that is read. No estimate is below it.
Where a kernel is repeated to be timed, the last level cache may still hold as much as fits it, and that much need not
cross the memory (docs/latency.md, "Properties").
"""

from __future__ import annotations

from math import ceil, inf

from llmprof.latency.attention import seen
from llmprof.latency.common import cache_bytes, input_bytes, peak, weight_bytes
from llmprof.latency.figures import Figures
from llmprof.latency.mla import projected
from llmprof.latency.op import (
    Collective,
    DecodeAttention,
    Elementwise,
    Gemm,
    Launch,
    MlaDecode,
    MlaPrefill,
    Moe,
    Op,
    PrefillAttention,
)


def floor(op: Op, figures: Figures) -> float:
    """Seconds below which no time of `op` is given; 0 for what crosses links or is done by the host."""
    flops, moved = work(op, figures)
    rate = peak(op.dtype, figures) if isinstance(op, Gemm | Moe) else figures.bf16
    return max(flops / rate, (moved - min(moved, held(op, figures))) / figures.bandwidth)


def held(op: Op, figures: Figures) -> float:
    """Bytes that a cache may still have of an op: none but where it is repeated on the same operands."""
    match op:
        case Gemm(weight_copies=copies):
            return 0.0 if copies == inf else figures.cache
        case DecodeAttention(warm=warm) | Moe(warm=warm):
            return figures.cache if warm else 0.0
        case _:
            return 0.0


def work(op: Op, figures: Figures) -> tuple[float, float]:
    """(FLOPs, bytes that must be read or written once)."""
    match op:
        case Gemm(m=m, n=n, k=k, dtype=dtype):
            return 2.0 * m * n * k, k * n * weight_bytes(dtype) + m * k * input_bytes(dtype, figures) + 2.0 * m * n
        case DecodeAttention():
            return _decode(op)
        case PrefillAttention():
            return _prefill(op)
        case MlaDecode(batch=b, heads=h, dims=dims):
            latent = dims.kv_rank + dims.rope_dim
            weights = projected(dims, h)
            read = b * op.context * latent * cache_bytes(op.kv_dtype)
            return 2.0 * b * (weights + h * op.context * (latent + dims.kv_rank)), 2.0 * weights + read
        case MlaPrefill(heads=h, dims=dims):
            tokens, weights = op.batch * op.new_tokens, projected(dims, h)
            wide = dims.nope_dim + dims.rope_dim + dims.value_dim
            flops = 2.0 * tokens * (weights + h * (op.prefix + op.new_tokens / 2) * wide)
            return flops, 2.0 * weights + 4.0 * tokens * dims.d_model
        case Moe():
            return _experts(op)
        case Elementwise(bytes=moved):
            return 0.0, float(moved)
        case Collective() | Launch():
            return 0.0, 0.0


def _decode(op: DecodeAttention) -> tuple[float, float]:
    s = min(op.context, op.window) if op.window else op.context
    cache = 2.0 * op.batch * s * op.kv_heads * op.head_dim * cache_bytes(op.kv_dtype)
    ends = 4.0 * op.batch * op.heads * op.head_dim
    return 4.0 * op.batch * s * op.heads * op.head_dim, cache + ends


def _prefill(op: PrefillAttention) -> tuple[float, float]:
    tokens = op.batch * op.new_tokens
    flops = 4.0 * tokens * seen(op.prefix, op.new_tokens, op.window) * op.heads * op.head_dim
    new = 2.0 * tokens * op.kv_heads * op.head_dim * cache_bytes(op.kv_dtype)
    return flops, new + 4.0 * tokens * op.heads * op.head_dim


def _experts(op: Moe) -> tuple[float, float]:
    """With the least load that any routing gives the busiest device: an equal part of all pairs, in few experts."""
    pairs, width, matrices = op.tokens * op.experts_per_token / op.ep, op.d_ff / op.tp, 3 if op.gated else 2
    fewest = max(1, ceil(pairs / op.tokens))
    if op.routing == "balanced":
        fewest = max(fewest, int(min(op.experts / op.ep, pairs)))
    one = matrices * op.d_model * width
    return 2.0 * pairs * one, fewest * one * weight_bytes(op.dtype)
