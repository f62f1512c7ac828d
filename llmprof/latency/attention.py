"""Attention over a cache of keys and values: one new token per sequence, or many.

Legend: b sequences, s kept tokens, h query heads, g key/value heads, r = h/g, d head width, e bytes per element of the
cache. Times in seconds. Formulas, constants and sources: docs/latency.md, "Attention".
"""

from __future__ import annotations

from math import ceil, inf, log2

from llmprof.latency.common import KILOCYCLE, NS, US, Constants, cache_bytes, kept, overlapped, waves
from llmprof.latency.figures import Figures
from llmprof.latency.op import DecodeAttention, PrefillAttention

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)
SHORTEST_SPLIT = 64
ROWS = 128
"""Query rows of a tile of prefill, and keys of its block."""

SUSTAINED = 0.6
"""The part of the peak that the small products of a decode step reach."""


WIDER, FULLER = 0.3, 0.35
"""Of the start of a block, the parts that grow with the width of a head and with how full the device is."""


def decode_seconds(op: DecodeAttention, figures: Figures, c: Constants, form: str) -> float:
    """One new token per sequence. Form "unsplit-mha": one whose kernel splits no keys where r = 1 (FlashAttention 2).

    A split has at least 64 keys: a shorter one would cost as many, which keeps the time from falling with more of them.
    """
    s = min(op.context, op.window) if op.window else op.context
    r, e, d = op.heads / op.kv_heads, cache_bytes(op.kv_dtype), op.head_dim
    grouped = op.batch > 1 and op.kv_heads > 1 and r > 1
    kv, qo = 2.0 * op.batch * s * op.kv_heads * d * e, 4.0 * op.batch * op.heads * d
    h = kept(kv / (c["hot"] * figures.cache)) if op.warm else 0.0
    fast = c["r_l2"] * figures.bandwidth
    memory = ((1 - h) * kv + qo) / (c["e_b"] * figures.bandwidth) + h * kv / fast
    wide = max(1.0, d / 128) ** c.get("x", 0.0)
    per_key = max(
        2 * d * e * wide / (c["b_sm"] * figures.clock),
        4.0 * d * ceil(r / 16) * 16 / (SUSTAINED * figures.bf16 / figures.units),
    )
    per_row = 4.0 * min(r, 64) * d / (c["q_sm"] * figures.clock) if "q_sm" in c else 0.0
    wider, fuller = c.get("y", WIDER), c.get("v", FULLER)
    start = c["tau"] * KILOCYCLE / figures.clock * (1 - wider + wider * d / 128)
    blocks = op.batch * op.kv_heads * ceil(r / 64)
    unsplit, most = form == "unsplit-mha" and r == 1, c.get("n_s", 128)
    best = inf
    for ns in SPLITS:
        if ns > 1 and (unsplit or ns > most):
            break
        filled = blocks * ns / figures.units
        keys = max(s / ns, SHORTEST_SPLIT) if ns > 1 else s
        compute = waves(filled, c["q"]) * (start * (1 - fuller + fuller * min(1.0, filled)) + per_row + keys * per_key)
        merge = c["t_s"] * US * (0.5 + 0.25 * log2(ns)) + 8.0 * ns * op.batch * op.heads * d / fast if ns > 1 else 0.0
        best = min(best, overlapped(compute, memory, c["p"]) + merge)
    repack = 0.0
    if grouped and form == "unsplit-mha":
        repack = c.get("t_g", 0.0) * US
        repack += 4.0 * op.batch * op.heads * d / (c["e_g"] * figures.bandwidth) if "e_g" in c else 0.0
    first = c["t0"] + c.get("t_d", 0.0) * d / 128
    return first * US + c.get("t_b", 0.0) * op.batch * NS + repack + best


def prefill_seconds(op: PrefillAttention, figures: Figures, c: Constants, form: str) -> float:
    """Many new tokens, causally. Form "packed": the query heads of a key/value head share tiles, else none do."""
    b, s, d, e = op.batch, op.new_tokens, op.head_dim, cache_bytes(op.kv_dtype)
    r = op.heads / op.kv_heads
    packed = form == "packed"
    tiles = b * op.kv_heads * ceil(s * r / ROWS) if packed else b * op.heads * ceil(s / ROWS)
    span = ROWS / r if packed else ROWS
    keys = seen(op.prefix, s, op.window) + 0.5 * min(max(span, ROWS), s) * c["e_diag"]
    most = min(op.prefix + s, op.window + ROWS) if op.window else op.prefix + s
    efficiency = c["e_c"] * d / (d + c["k_d"]) * (128 + c["k_d"]) / 128 / max(1.0, d / 128) ** c.get("x", 0.0)
    per_key = 4.0 * d * ROWS / (min(efficiency, 1.0) * figures.bf16 / figures.units)
    tau = c["tau"] * KILOCYCLE / figures.clock
    # Few tiles have their processors to themselves, and reach more of them than many do.
    per_key *= min(1.0, tiles / figures.units) ** c.get("sp", 0.0)
    compute = max(waves(tiles / figures.units, c["q"]) * (tau + keys * per_key), tau + most * per_key)
    qo, kv = 4.0 * b * s * op.heads * d, 2.0 * b * (s + min(op.prefix, op.window or inf)) * op.kv_heads * d * e
    h = kept((qo + kv) / (c["hot"] * figures.cache))  # the projections have just written them
    missed, slow = 1 - h + h / 3, c["e_b"] * figures.bandwidth
    written = c["c_w"] * 2.0 * b * s * op.kv_heads * max(d, c.get("d_w", 0.0)) * e * missed / slow
    per_token = c.get("t_n", 0.0) * b * s * NS + c.get("t_b", 0.0) * b * NS
    first = c["t0"] + c.get("t_d", 0.0) * d / 128
    return first * US + written + per_token + overlapped(compute, (qo + kv) * missed / slow, c["p"])


def seen(prefix: int, s: int, window: int) -> float:
    """Keys that a new token sees on average, less half of its own: prefix + s/2, or fewer within a window."""
    if not window or prefix + s <= window:
        return prefix + s / 2
    # Tokens before the window is full see all before them, the others the window.
    growing = max(0, window - prefix)
    return (growing * (prefix + growing / 2) + (s - growing) * window) / s
