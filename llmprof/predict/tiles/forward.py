"""FlashAttention 2 and 3, forward (reference-tiles.md, section 5): row tiles outside, key tiles inside.

Symbols: A row tiles of a head that visit something, T_A the rows in them, n visits of all CTAs, hc and hvc the head
dims that the kernel is compiled for.

    loads   B H T_A h e + (keys of every visit) (h + hv) e
    stores  B H T hv e + 4 B H T                              O and the fp32 log-sum-exp
    writes  B H A Br hc e + n Bc (hc + hvc) e + B H A Br hvc e      Q, K and V as they come in, O on its way out
    reads   n (readers Bc (hc + hvc) + Br hc) e + B H A Br hvc e    every reader reads the whole K and V tile
    FLOPs   n 2 Br Bc (hc + hvc)

Where P passes through shared memory (two tiles of FlashAttention 3), n Br Bc e more are written and read.
"""

from __future__ import annotations

from dataclasses import replace

from llmprof.predict.tiles.floors import ceil_div
from llmprof.predict.tiles.shape import Shape
from llmprof.predict.tiles.table import Tile, is_local
from llmprof.predict.tiles.traffic import Launch, TileTraffic
from llmprof.predict.tiles.visits import Visits


def fa2_forward(shape: Shape, tile: Tile) -> TileTraffic:
    """The forward kernel; one CTA per sequence, query head and row tile."""
    visits = Visits(shape.queries, shape.keys, shape.mask, tile.rows, tile.keys)
    ctas, e = shape.batch * shape.heads, shape.element_bytes
    return on_chip(
        shape,
        tile,
        launches=(
            Launch(
                "attention",
                ctas * visits.active_rows * shape.head_dim * e + ctas * kv_bytes(shape, visits.key_loads),
                output_bytes(shape),
            ),
        ),
        visits=ctas * visits.total,
        active_ctas=ctas * visits.active_row_tiles,
        output_bytes=e,
    )


def fa3_forward(shape: Shape, tile: Tile) -> TileTraffic:
    """FlashAttention 3: its tile has other stages and readers (warpgroups).

    Multicast and PackGQA are not modelled: where the source uses them, the label says that the figures are without.
    """
    without = "".join(
        f", without {name}"
        for name, used in (("multicast", multicasts(shape, tile)), ("PackGQA", packs(shape, tile)))
        if used
    )
    return replace(fa2_forward(shape, tile), kernel=tile.label + without)


def multicasts(shape: Shape, tile: Tile) -> bool:
    """Whether two CTAs of FlashAttention 3 share what they load of K and V (source key `flash-attention-3-launch`).

    They do where the kernel hides nothing and the row tiles, of packed heads where it packs them, are an even number.
    """
    whole = not is_local(shape, "fa3") and (shape.mask.kind in ("full", "both ways") or shape.queries == 1)
    rows = shape.queries * (shape.group if packs(shape, tile) else 1)
    return whole and tile.head_dim >= 128 and ceil_div(rows, tile.rows) % 2 == 0


def packs(shape: Shape, tile: Tile) -> bool:
    """Whether the query heads of a KV head share row tiles in FlashAttention 3: where that fills them 10% better.

    `should_pack_gqa` of hopper/heuristics.h: T / (R Br) < 0.9 g T / (ceil(g T / Br) Br).
    """
    rows = shape.group * shape.queries
    apart, together = ceil_div(shape.queries, tile.rows), ceil_div(rows, tile.rows)
    return shape.group > 1 and 10 * shape.queries * together < 9 * rows * apart


def on_chip(
    shape: Shape, tile: Tile, *, launches: tuple[Launch, ...], visits: int, active_ctas: int, output_bytes: int
) -> TileTraffic:
    """The traffic with what happens in shared memory and tensor cores; O leaves in `output_bytes` per element."""
    e, both = shape.element_bytes, tile.head_dim + tile.value_dim
    query, tiles = tile.rows * tile.head_dim, tile.keys * both
    scores = tile.rows * tile.keys if tile.scores_in_shared else 0
    out = active_ctas * tile.rows * tile.value_dim * output_bytes
    return TileTraffic(
        kernel=tile.label,
        launches=launches,
        visited_tiles=visits,
        executed_flops=visits * 2 * tile.rows * tile.keys * both,
        compulsory_bytes=shape.compulsory_forward,
        smem_writes=(active_ctas * query + visits * (tiles + scores)) * e + out,
        smem_reads=visits * (tile.readers * tiles + query + scores) * e + out,
        footprint_bytes=tile.footprint(e),
    )


def kv_bytes(shape: Shape, keys: int) -> int:
    """K and V of so many keys of one head."""
    return keys * (shape.head_dim + shape.value_dim) * shape.element_bytes


def output_bytes(shape: Shape) -> int:
    """O and the log-sum-exp."""
    return shape.batch * shape.heads * shape.queries * (shape.value_dim * shape.element_bytes + 4)
