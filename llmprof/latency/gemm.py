"""Matrix products: the fastest of the tiles that a library chooses from, over what its bytes take.

Legend: m rows, n columns, k contraction; W weights, X input, Y output in bytes; tm x tn a tile, s splits of k. Times in
seconds. The forms, their constants and sources: docs/latency.md, "Matrix products".
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, inf

from llmprof.latency.common import (
    KILOCYCLE,
    NS,
    US,
    Constants,
    input_bytes,
    kept,
    overlapped,
    peak,
    waves,
    weight_bytes,
)
from llmprof.latency.figures import Figures
from llmprof.latency.op import Gemm

TILES = (
    (256, 128),
    (128, 256),
    (128, 192),
    (192, 128),
    (128, 128),
    (128, 64),
    (64, 128),
    (64, 256),
    (256, 64),
    (64, 64),
    (64, 32),
    (32, 64),
    (16, 64),
    (64, 16),
    (16, 128),
    (128, 16),
    (32, 128),
    (128, 32),
)
"""What vendors' libraries have kernels for."""

SQUARE = 128 * 128
"""The tile that constants are stated of."""

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
SHORTEST_SPLIT = 256
SURELY = 1 + 1e-9
"""Above the least time by more than rounding: what is no less is left out."""
BY_ROWS = ((64, 64, 64, 64), (64, 128, 128, 128), (128, 128, 256, None))
"""Tiles of a kernel that is chosen by the number of rows: rows and columns of a tile, rows of a cluster of them, and up
to how many rows (vLLM's CUTLASS kernels for sm90, csrc/quantization/w8a8/cutlass/c3x)."""


def seconds(op: Gemm, figures: Figures, c: Constants, form: str) -> float:
    """The time of one product with constants `c` of the form "searched" or "by-rows"."""
    ew, ex = weight_bytes(op.dtype), input_bytes(op.dtype, figures)
    weights, x, y = op.k * op.n * ew, op.m * op.k * ex, 2.0 * op.m * op.n
    usable = c["hot"] * figures.cache
    h = kept((op.weight_copies * weights + x + y) / usable) if op.weight_copies != inf else 0.0
    hx = kept((weights + x + 2 * y) / usable)
    slow, fast = c["e_b"] * figures.bandwidth, c["r_l2"] * figures.bandwidth
    memory = (weights * (1 - h) + (x + y) * (1 - hx)) / slow + (weights * h + (x + y) * hx) / fast
    run = _by_rows if form == "by-rows" else _searched
    return c["t0"] * US + run(op, figures, c, memory, ew, ex) + _quantising(op, figures, c, ex)


def _searched(op: Gemm, figures: Figures, c: Constants, memory: float, ew: float, ex: float) -> float:
    """The least over tiles and splits. Each of them takes longer with more rows, so the least of them does too.

    Of each number of splits that is the tile with the least compute: the bytes are the same. Tiles that could not be
    the least, evenly spread and with as many starts as without splits, are left out.
    """
    m, n, k, units, q = op.m, op.n, op.k, figures.units, c["q"]
    rate = c["e_c"] * peak(op.dtype, figures) / units
    feed, tau = c["b_sm"] * figures.clock, c["tau"] * KILOCYCLE / figures.clock
    fast, one = c["r_l2"] * figures.bandwidth, 1 - q
    sizes = _sizes(n, k, rate, feed, ew, ex, tau, c.get("u", 0.0), c.get("k_t", 0.0))
    compute = inf
    evenly = []
    for tm, columns, one_tile, per, start in sizes:
        tiles = -(-m // tm) * columns / units
        least = tiles * one_tile
        if least < compute * SURELY:  # as `waves` has it, without a call for each
            took = (one * (tiles if tiles > 1 else 1.0) + q * ceil(tiles)) * one_tile
            compute = took if took < compute else compute
        evenly.append((least, tiles, per, start))
    best = overlapped(compute, memory, c["p"])
    for s in SPLITS[1:]:
        extra, depth = c["t_s"] * US + 8.0 * s * m * n / fast, k / s
        most = (best - extra) * SURELY
        if depth < SHORTEST_SPLIT or memory >= most:
            break
        evenly = [each for each in evenly if each[0] < most]
        if not evenly:
            break
        compute = min(
            [
                (one * (tiles * s if tiles * s > 1 else 1.0) + q * ceil(tiles * s)) * (depth * per + start)
                for _, tiles, per, start in evenly
            ]
        )
        best = min(best, overlapped(compute, memory, c["p"]) + extra)
    return best


@lru_cache(maxsize=4096)
def _tiles(
    rate: float, feed: float, ew: float, ex: float, tau: float, share: float, small: float
) -> tuple[tuple[int, int, float, float], ...]:
    """Rows and columns of a tile, its seconds per k, and those of its start: whatever the product's sizes."""
    found = []
    for tm, tn in TILES:
        area = tm * tn / SQUARE
        per = max(2.0 * tm * tn / rate * (area + small) / (area * (1 + small)), (tm * ex + tn * ew) / feed)
        found.append((tm, tn, per, tau * (1 - share + share * area)))
    return tuple(found)


@lru_cache(maxsize=4096)
def _sizes(
    n: int, k: int, rate: float, feed: float, ew: float, ex: float, tau: float, share: float, small: float
) -> tuple[tuple[int, int, float, float, float], ...]:
    """Rows of a tile, how many stand side by side, its seconds at all of `k`, and these per k and to start."""
    tiles = _tiles(rate, feed, ew, ex, tau, share, small)
    return tuple((tm, -(-n // tn), k * per + start, per, start) for tm, tn, per, start in tiles)


def _by_rows(op: Gemm, figures: Figures, c: Constants, memory: float, ew: float, ex: float) -> float:
    """The tile is that of the number of rows; panels longer than the cache keeps in step are read more than once.

    A tile for more rows could have been chosen as well, filled up: that keeps the time from falling with more rows.
    """
    rate = c["e_c"] * peak(op.dtype, figures) / figures.units
    feed, tau = c["b_sm"] * figures.clock, c["tau"] * KILOCYCLE / figures.clock
    lost = 1 - kept(op.k * c["panel"] / figures.cache)
    best, fewest = inf, 1
    for tm, tn, cluster, most in BY_ROWS:
        rows = max(op.m, fewest)
        fewest = (most or 0) + 1
        if most is not None and op.m > most:
            continue
        per = max(2.0 * tm * tn / rate, (tm * ex + tn * ew) / feed)
        panels = ceil(rows / cluster)
        compute = waves(panels * (cluster / tm) * ceil(op.n / tn) / figures.units, c["q"]) * (op.k * per + tau)
        again = lost * (op.m * op.k * ex * ceil(op.n / tn) + op.k * op.n * ew * panels) * c["reread"]
        best = min(best, overlapped(compute, memory + again / (c["e_b"] * figures.bandwidth), c["p"]))
    return best


def _quantising(op: Gemm, figures: Figures, c: Constants, ex: float) -> float:
    """The kernel before the product that rounds its input: a start, a block of threads per row, and its bytes.

    None where the input arrives rounded.
    """
    if op.rounded or "e_q" not in c or ex == 2:
        return 0.0
    moved = op.m * op.k * (2 + ex) / (c["e_q"] * figures.bandwidth)
    return c.get("t_q", 0.0) * US + c["r_row"] * op.m * NS + moved
