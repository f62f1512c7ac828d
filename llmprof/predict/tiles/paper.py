"""FlashAttention 1, the paper's algorithms 1 and 4 (reference-tiles.md, sections 3, 5 and 8).

Source key `flash-attention`. Key tiles outside, row tiles inside, one CTA per sequence and query head, so Q and the
partial output pass once for every key tile: about 4 S h / M times with M elements of shared memory, which is the
paper's Theta(N^2 d^2 / M).
"""

from __future__ import annotations

from llmprof.predict.tiles.backward import summed
from llmprof.predict.tiles.floors import ceil_div
from llmprof.predict.tiles.forward import kv_bytes
from llmprof.predict.tiles.shape import Shape
from llmprof.predict.tiles.traffic import Launch, TileTraffic
from llmprof.predict.tiles.visits import Visits

STATISTICS_BYTES = 8
"""The running maximum and sum of a row, in fp32."""


def paper_tile(shape: Shape, sram_elements: int) -> tuple[int, int]:
    """Br and Bc for `sram_elements` = M elements of shared memory."""
    if sram_elements < 1:
        raise ValueError(f"sram_elements must be positive: {sram_elements}")
    keys = ceil_div(sram_elements, 4 * shape.head_dim)
    return min(keys, shape.head_dim, shape.queries), min(keys, shape.keys)


def fa1_forward(shape: Shape, sram_elements: int, partial_bytes: int | None = None) -> TileTraffic:
    """Algorithm 1. Partial outputs are kept in `partial_bytes` per element, the element's own unless said otherwise."""
    rows, keys = paper_tile(shape, sram_elements)
    visits = Visits(shape.queries, shape.keys, shape.mask, rows, keys)
    heads = shape.batch * shape.heads
    partial = shape.value_dim * (partial_bytes or shape.element_bytes) + STATISTICS_BYTES
    loaded = shape.head_dim * shape.element_bytes + partial
    keys_and_values = heads * kv_bytes(shape, visits.visited_keys)
    return TileTraffic(
        kernel=_label("algorithm 1", rows, keys, sram_elements),
        launches=(
            Launch("initialisation", 0, heads * shape.queries * partial),
            Launch(
                "attention", keys_and_values + heads * visits.row_loads * loaded, heads * visits.row_loads * partial
            ),
        ),
        visited_tiles=heads * visits.total,
        executed_flops=heads * visits.total * 2 * rows * keys * (shape.head_dim + shape.value_dim),
        compulsory_bytes=shape.compulsory_forward,
    )


def fa1_backward(shape: Shape, sram_elements: int, partial_bytes: int | None = None) -> TileTraffic:
    """Algorithm 4: dK and dV are kept on chip, dQ is the partial result."""
    rows, keys = paper_tile(shape, sram_elements)
    visits = Visits(shape.queries, shape.keys, shape.mask, rows, keys)
    heads, e, h, hv = shape.batch * shape.heads, shape.element_bytes, shape.head_dim, shape.value_dim
    partial = h * (partial_bytes or e)
    loaded = (h + 2 * hv) * e + partial + STATISTICS_BYTES
    return TileTraffic(
        kernel=_label("algorithm 4", rows, keys, sram_elements),
        launches=(
            Launch("initialisation", 0, heads * shape.queries * partial),
            Launch(
                "attention",
                heads * (kv_bytes(shape, visits.visited_keys) + visits.row_loads * loaded),
                heads * (visits.row_loads * partial + kv_bytes(shape, shape.keys)),
            ),
            *summed(shape),
        ),
        visited_tiles=heads * visits.total,
        executed_flops=heads * visits.total * 2 * rows * keys * (3 * h + 2 * hv),
        compulsory_bytes=shape.compulsory_backward,
    )


def _label(algorithm: str, rows: int, keys: int, sram_elements: int) -> str:
    return f"FlashAttention-1 {algorithm}, {rows}x{keys} (M={sram_elements})"
