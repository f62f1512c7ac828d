"""The routed experts of a layer: two grouped products over the experts that tokens chose, and what moves rows there.

Legend: D width of the model (or of the latent that experts see), I width of an expert on this device. Times in seconds.
docs/latency.md, "Mixtures of experts".
"""

from __future__ import annotations

from math import ceil, inf

from llmprof.latency.common import KILOCYCLE, US, Constants, kept, overlapped, peak, weight_bytes
from llmprof.latency.figures import Figures
from llmprof.latency.op import Moe
from llmprof.latency.routing import TILES, load

COLUMNS = 128
ALIGNED = 16
"""Widths that a compiler of kernels (Triton) knows to be divisible by this are read in whole vectors."""


def seconds(op: Moe, figures: Figures, c: Constants, form: str) -> float:
    """The time of one layer's experts. Form "all-pairs": rows of others' experts are moved too (vLLM's Triton)."""
    here = load(op.tokens, op.experts, op.experts_per_token, op.ep, op.skew if op.routing == "power_law" else 0.0)
    width, matrices = op.d_ff / op.tp, 3 if op.gated else 2
    ew = weight_bytes(op.dtype)
    weights = here.active * matrices * op.d_model * width * ew
    h = kept(weights / (c["hot"] * figures.cache)) if op.warm else 0.0
    memory = weights * (1 - h + h / 3) / (c["e_b"] * figures.bandwidth)
    rate, feed = c["e_c"] * peak(op.dtype, figures) / figures.units, c["b_sm"] * figures.clock
    tau = c["tau"] * KILOCYCLE / figures.clock
    products = ((ceil((matrices - 1) * width / COLUMNS), op.d_model), (ceil(op.d_model / COLUMNS), width))
    best = inf
    for rows, tiles in zip(TILES, here.tiles, strict=True):
        compute = sum(
            max(tiles * columns / figures.units, 1.0)
            * (max(2.0 * rows * COLUMNS * depth / rate, (rows * 2 + COLUMNS * ew) * depth / feed) + tau)
            for columns, depth in products
        )
        best = min(best, compute)
    ragged = c["mis"] if width % ALIGNED else 1.0
    pairs = op.tokens * op.experts_per_token if form == "all-pairs" else here.pairs
    moved = pairs * (4 * op.d_model + 2 * matrices * width) + c["a_t"] * op.tokens * 4 * op.d_model
    start = c["t0"] + (c["t_ep"] if op.ep > 1 else 0.0)
    moving = moved / (c["e_a"] * figures.bandwidth)
    return start * US + moving + ragged * overlapped(best, memory, c["p"])
