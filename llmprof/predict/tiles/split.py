"""Flash-decoding (reference-tiles.md, sections 6 and 7): keys in ranges, one CTA each, and a kernel that combines.

Every visit is in one range, so K, V and FLOPs are those of the kernel without splits; what splits add is Q once per
CTA, and partial results in fp32: `splits` B H T (hv + 1) 4, stored and loaded again.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from llmprof.predict.tiles.floors import ceil_div
from llmprof.predict.tiles.forward import kv_bytes, on_chip, output_bytes
from llmprof.predict.tiles.shape import FULL, Shape
from llmprof.predict.tiles.table import Tile, is_local
from llmprof.predict.tiles.traffic import Launch, TileTraffic
from llmprof.predict.tiles.visits import Visits

PAGE_ENTRY_BYTES = 4
MOST_SPLITS = 128


def split_kv(
    shape: Shape, tile: Tile, splits: int = 1, page_tokens: int | None = None, *, packs: bool = True
) -> TileTraffic:
    """The split-KV kernel and, with more than one split, the one that combines.

    `page_tokens`: tokens of a page of the KV cache, None where it is not paged. `packs`: False where something else
    than the shape keeps the kernel from packing the query heads of a KV head into one tile (ALiBi).
    """
    if splits < 1 or (page_tokens is not None and page_tokens < 1):
        raise ValueError(f"splits and page_tokens must be positive: {splits}, {page_tokens}")
    packed = packed_shape(shape) if packs else shape
    visits = Visits(packed.queries, packed.keys, packed.mask, tile.rows, tile.keys)
    tiles = ceil_div(visits.key_tiles, splits)
    ranges = visits.in_ranges(tiles)
    heads, e = packed.batch * packed.heads, shape.element_bytes
    partials = splits * shape.batch * shape.heads * shape.queries * (shape.value_dim + 1) * 4
    loads = heads * (ranges.row_loads * shape.head_dim * e + kv_bytes(shape, visits.key_loads))
    if page_tokens is not None:
        loads += heads * visits.pages(page_tokens, tiles) * PAGE_ENTRY_BYTES
    attention = Launch("attention", loads, output_bytes(shape) if splits == 1 else partials)
    combine = () if splits == 1 else (Launch("combine", partials, output_bytes(shape)),)
    traffic = on_chip(
        shape,
        tile,
        launches=(attention, *combine),
        visits=heads * visits.total,
        active_ctas=heads * ranges.total,
        output_bytes=e if splits == 1 else 4,
    )
    if page_tokens is None:
        return traffic
    table = shape.batch * ceil_div(shape.keys, page_tokens) * PAGE_ENTRY_BYTES
    return replace(traffic, compulsory_bytes=traffic.compulsory_bytes + table)


def packed_shape(shape: Shape) -> Shape:
    """What the kernel sees of one query a head: the g heads of a KV head as rows of one, which all see every key.

    The shape itself where it does not pack: more queries, one head per KV head, or a window.
    """
    if shape.queries > 1 or shape.group == 1 or is_local(shape, "fa2-split"):
        return shape
    return replace(shape, queries=shape.group, heads=shape.kv_heads, mask=FULL)


def splits_heuristic(ctas: int, sms: int, key_tiles: int) -> int:
    """How many splits FlashAttention 2 takes: the fewest that fill its waves to 85% of the best.

    `ctas` without splits: B H' ceil(T' / 64) of the packed shape. `sms`: twice those of the device, since two CTAs of
    128 threads fit one. Source key `flash-attention-2-splits`. In single precision, as there: rounding decides ties.
    """
    if ctas >= _single(_single(0.8) * sms):
        return 1
    efficiency = {
        n: _efficiency(n * ctas, sms)
        for n in range(1, min(MOST_SPLITS, sms, key_tiles) + 1)
        if n == 1 or ceil_div(key_tiles, n) != ceil_div(key_tiles, n - 1)
    }
    best = max(efficiency.values())
    return next(n for n, reached in efficiency.items() if reached >= 0.85 * best)


def _efficiency(ctas: int, sms: int) -> float:
    return _single(_single(ctas / sms) / ceil_div(ctas, sms))


def _single(value: float) -> float:
    """The nearest number of single precision."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded
