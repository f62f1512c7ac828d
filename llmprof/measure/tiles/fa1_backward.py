"""FlashAttention 1, the paper's algorithm 4: gradients of keys and values stay on chip for a key tile, those of queries
go out and come back (section 8 of the page)."""

from __future__ import annotations

import torch
from torch import Tensor

from llmprof.measure.tiles import arrays
from llmprof.measure.tiles.fa1 import Forward, finite, forward, tile_for
from llmprof.measure.tiles.gradients import (
    Gradients,
    Operands,
    Pair,
    key_tile_visits,
    products,
    sum_over_groups,
    tiles_of,
)
from llmprof.measure.tiles.memory import FLOAT32_BYTES, Counts, Machine
from llmprof.measure.tiles.problem import Problem, Values, visits


def backward(
    problem: Problem, sram_elements: int, partial_bytes: int | None = None, values: Values | None = None
) -> Gradients:
    """Algorithm 4; unfinished gradients of queries are kept in `partial_bytes` an element, by default the dtype's."""
    p, machine = problem, Machine(problem.element_bytes)
    tile, e = tile_for(p, sram_elements), p.element_bytes
    pair = Pair(rows=tile.rows, keys=tile.keys, key_width=p.head_dim, value_width=p.value_dim)
    visible = p.mask.visible(p.queries, p.keys)
    visited = visits(visible, tile.rows, tile.keys)
    before = Forward(Counts(), None, None, None) if values is None else forward(p, sram_elements, values=values)
    queries = arrays.queries(machine, p, values)
    keys, vals = arrays.keys_and_values(machine, p, values)
    outputs = arrays.of_queries(machine, p, p.value_dim, e, before.outputs)
    gradient = arrays.output_gradient(machine, p, values)
    maximum = arrays.of_queries(machine, p, 1, FLOAT32_BYTES, before.maximum)
    total = arrays.of_queries(machine, p, 1, FLOAT32_BYTES, before.total)
    d_queries = arrays.unwritten(machine, (p.batch, p.heads, p.queries, p.head_dim), partial_bytes or e, values)
    d_keys = arrays.unwritten(machine, (p.batch, p.heads, p.keys, p.head_dim), e, values)
    d_values = arrays.unwritten(machine, (p.batch, p.heads, p.keys, p.value_dim), e, values)
    for at, kv in arrays.heads(p):
        d_queries.store(at, 0, p.queries, torch.zeros(p.queries, p.head_dim, dtype=torch.float64))
        for key_tile in range(tiles_of(p, tile)[1]):
            span = (key_tile * tile.keys, (key_tile + 1) * tile.keys)
            rows = key_tile_visits(visited, key_tile)
            k, v = (keys.load(kv, *span), vals.load(kv, *span)) if rows else (None, None)
            dk = torch.zeros(tile.keys, p.head_dim, dtype=torch.float64)
            dv = torch.zeros(tile.keys, p.value_dim, dtype=torch.float64)
            for row in rows:
                machine.visited_tiles += 1
                block = (row * tile.rows, min((row + 1) * tile.rows, p.queries))
                q, o, do = queries.load(at, *block), outputs.load(at, *block), gradient.load(at, *block)
                dq, top, sums = d_queries.load(at, *block), maximum.load(at, *block), total.load(at, *block)
                loaded = _operands(q, k, v, o, do, top, sums, visible[slice(*block), slice(*span)])
                added = products(machine.cores, pair, p.scale, loaded)
                if added is not None and dq is not None:
                    dq = dq + added[0][: len(dq)]
                    dk += added[1]
                    dv += added[2]
                d_queries.store(at, *block, dq)
            d_keys.store(at, *span, dk)
            d_values.store(at, *span, dv)
    return sum_over_groups(p, {"main": machine.counts()}, d_queries.values, d_keys.values, d_values.values)


def _operands(
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor | None,
    o: Tensor | None,
    do: Tensor | None,
    top: Tensor | None,
    sums: Tensor | None,
    visible: Tensor,
) -> Operands | None:
    """The values of one visit, where there are any: weights come from the statistics of the forward pass."""
    if q is None or k is None or v is None or o is None or do is None or top is None or sums is None:
        return None
    base, divisor = finite(top), sums.masked_fill(sums == 0, 1)
    return Operands(
        queries=q,
        keys=k,
        values=v,
        gradient=do,
        delta=(do * o).sum(dim=1, keepdim=True),
        visible=visible,
        weights=lambda scores: torch.exp(scores - base) / divisor,
    )
