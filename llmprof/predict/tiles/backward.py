"""FlashAttention 2, backward (reference-tiles.md, section 8): key tiles outside, row tiles inside.

Three kernels, and a fourth where query heads share KV heads:

    dot      loads dO and O, stores D = rowsum(dO O) and zeros for dQ's fp32 accumulator
    main     K_j and V_j once; per visit Q_i, dO_i, log-sum-exp and D_i, and a part of dQ_i added to the accumulator;
             dK_j and dV_j stored once, per query head
    convert  loads the accumulator, stores dQ
    sum      adds dK and dV of the query heads of a KV head

D and the accumulator are allocated in whole tiles and move so; the rest moves what exists.
"""

from __future__ import annotations

from llmprof.predict.tiles.forward import kv_bytes
from llmprof.predict.tiles.shape import Shape
from llmprof.predict.tiles.table import Tile
from llmprof.predict.tiles.traffic import Launch, TileTraffic
from llmprof.predict.tiles.visits import Visits


def fa2_backward(shape: Shape, tile: Tile) -> TileTraffic:
    """All launches of the backward. Shared-memory traffic is not predicted."""
    visits = Visits(shape.queries, shape.keys, shape.mask, tile.rows, tile.keys)
    heads, e = shape.batch * shape.heads, shape.element_bytes
    h, hv = shape.head_dim, shape.value_dim
    padded_rows = visits.row_tiles * tile.rows
    accumulator, dots = 4 * heads * padded_rows * tile.head_dim, 4 * heads * padded_rows
    keys_and_values = heads * kv_bytes(shape, shape.keys)
    added = 4 * visits.total * tile.rows * tile.head_dim
    per_visit = visits.row_loads * ((h + hv) * e + 4) + 4 * visits.total * tile.rows
    launches = (
        Launch("dot", 2 * heads * shape.queries * hv * e, dots + accumulator),
        Launch(
            "main",
            heads * (kv_bytes(shape, visits.visited_keys) + per_visit + added),
            heads * added + keys_and_values,
        ),
        Launch("convert", accumulator, heads * shape.queries * h * e),
    )
    return TileTraffic(
        kernel=tile.label,
        launches=launches + summed(shape),
        visited_tiles=heads * visits.total,
        executed_flops=heads * visits.total * 2 * tile.rows * tile.keys * (3 * tile.head_dim + 2 * tile.value_dim),
        compulsory_bytes=shape.compulsory_backward,
        footprint_bytes=tile.backward_footprint(e),
    )


def summed(shape: Shape) -> tuple[Launch, ...]:
    """dK and dV of all query heads into those of the KV heads; nothing to add where each has its own."""
    if shape.group == 1:
        return ()
    expanded = shape.batch * shape.heads * kv_bytes(shape, shape.keys)
    return (Launch("sum", expanded, expanded // shape.group),)
