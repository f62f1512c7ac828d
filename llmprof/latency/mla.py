"""A layer of multi-head latent attention as engines run it: projections, attention in the latent space or out of it.

Legend: b sequences, s tokens, h heads, N = b*s new tokens. Times in seconds. docs/latency.md, "Latent attention".
"""

from __future__ import annotations

from llmprof.latency.common import US, Constants, cache_bytes, overlapped
from llmprof.latency.figures import Figures
from llmprof.latency.op import LatentDims, MlaDecode, MlaPrefill

LEAST_HEADS = 64
"""A block of query rows of the latent kernels: fewer heads take the time of as many."""

LONGEST_LATENT = {True: 512, False: 128}
"""Up to so many new tokens per sequence vLLM runs a prompt as it runs decoding: with a 16-bit cache, and with fp8
(`reorder_batch_threshold` of its FlashAttention and FlashMLA backends; recalled, and as the fitted tables show)."""


def projected(dims: LatentDims, heads: int) -> int:
    """Weights of the projections of a layer: down and up for queries, down and up for keys and values, out."""
    wide = dims.nope_dim + dims.rope_dim
    queries = dims.d_model * dims.query_rank + dims.query_rank * heads * wide
    keys = dims.d_model * (dims.kv_rank + dims.rope_dim) + dims.kv_rank * heads * (dims.nope_dim + dims.value_dim)
    return queries + keys + heads * dims.value_dim * dims.d_model


def decode_seconds(op: MlaDecode, figures: Figures, c: Constants) -> float:
    """One new token per sequence: all heads read one latent of kv_rank + rope_dim per kept token."""
    latent, dims = op.dims.kv_rank + op.dims.rope_dim, op.dims
    read = op.batch * op.context * latent * cache_bytes(op.kv_dtype)
    flops = 2.0 * op.batch * max(op.heads, LEAST_HEADS) * op.context * (latent + dims.kv_rank)
    attention = overlapped(read / (c["e_b"] * figures.bandwidth), flops / (c["e_c"] * figures.bf16), c["p"])
    return c["t0"] * US + c["t_row"] * op.batch * US + _projections(op.batch, op.heads, dims, figures, c) + attention


def prefill_seconds(op: MlaPrefill, figures: Figures, c: Constants, form: str) -> float:
    """Many new tokens. Form "latent": as in decoding; else keys and values are made for each head.

    "latent-blocks": as many query rows as a block has, where fewer heads share it.
    """
    dims, tokens = op.dims, op.batch * op.new_tokens
    keys = op.prefix + min(op.new_tokens, (op.new_tokens + c["tile"]) / 2)
    latent = dims.kv_rank + dims.rope_dim
    if form in {"latent", "latent-blocks"}:
        rows = max(op.heads, LEAST_HEADS) if form == "latent-blocks" else op.heads
        flops = 2.0 * tokens * keys * rows * (latent + dims.kv_rank)
        moved = tokens * latent * cache_bytes(op.kv_dtype) + 2.0 * tokens * op.heads * (latent + dims.kv_rank)
    else:
        flops = 2.0 * tokens * keys * op.heads * (dims.nope_dim + dims.rope_dim + dims.value_dim)
        moved = 4.0 * tokens * op.heads * (dims.nope_dim + dims.rope_dim + dims.value_dim)
    moved += op.batch * op.prefix * latent * cache_bytes(op.kv_dtype)
    attention = overlapped(flops / (c["e_c"] * figures.bf16), moved / (c["e_b"] * figures.bandwidth), c["p"])
    return c["t0"] * US + c["t_row"] * tokens * US + _projections(tokens, op.heads, dims, figures, c) + attention


def _projections(tokens: int, heads: int, dims: LatentDims, figures: Figures, c: Constants) -> float:
    weights = projected(dims, heads)
    return overlapped(
        2.0 * tokens * weights / (c["e_p"] * figures.bf16), 2.0 * weights / (c["e_w"] * figures.bandwidth), 3
    )
