"""FlashAttention 1, the paper's algorithm 1: key tiles outside, row tiles inside (section 5 of the page)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmprof.measure.tiles import arrays
from llmprof.measure.tiles.gradients import key_tile_visits, tiles_of
from llmprof.measure.tiles.memory import FLOAT32_BYTES, Cores, Counts, Machine, padded
from llmprof.measure.tiles.problem import Problem, Tile, Values, ceil_div, visits


@dataclass(frozen=True, slots=True)
class Forward:
    """What was moved, and the answer where values were given; the statistics are [batch, heads, queries, 1]."""

    counts: Counts
    outputs: Tensor | None
    maximum: Tensor | None
    total: Tensor | None


def tile_for(problem: Problem, sram_elements: int) -> Tile:
    """The tile that fills `sram_elements` of on-chip memory with four blocks, as the algorithm's first line says."""
    if sram_elements < 1:
        raise ValueError(f"on-chip memory of {sram_elements} elements holds no tile")
    quarter = ceil_div(sram_elements, 4 * problem.head_dim)
    return Tile(rows=min(quarter, problem.head_dim, problem.queries), keys=min(quarter, problem.keys))


def forward(
    problem: Problem, sram_elements: int, partial_bytes: int | None = None, values: Values | None = None
) -> Forward:
    """Algorithm 1; unfinished outputs are kept in `partial_bytes` an element, by default those of the dtype."""
    p, machine = problem, Machine(problem.element_bytes)
    tile = tile_for(p, sram_elements)
    visible = p.mask.visible(p.queries, p.keys)
    visited = visits(visible, tile.rows, tile.keys)
    queries = arrays.queries(machine, p, values)
    keys, vals = arrays.keys_and_values(machine, p, values)
    outputs = arrays.unwritten(
        machine, (p.batch, p.heads, p.queries, p.value_dim), partial_bytes or p.element_bytes, values
    )
    statistic = (p.batch, p.heads, p.queries, 1)
    maximum, total = (arrays.unwritten(machine, statistic, FLOAT32_BYTES, values) for _ in range(2))
    for at, kv in arrays.heads(p):
        outputs.store(at, 0, p.queries, torch.zeros(p.queries, p.value_dim, dtype=torch.float64))
        maximum.store(at, 0, p.queries, torch.full((p.queries, 1), -torch.inf, dtype=torch.float64))
        total.store(at, 0, p.queries, torch.zeros(p.queries, 1, dtype=torch.float64))
        for key_tile in range(tiles_of(p, tile)[1]):
            rows = key_tile_visits(visited, key_tile)
            if not rows:
                continue
            span = (key_tile * tile.keys, (key_tile + 1) * tile.keys)
            k, v = keys.load(kv, *span), vals.load(kv, *span)
            for row in rows:
                machine.visited_tiles += 1
                block = (row * tile.rows, min((row + 1) * tile.rows, p.queries))
                q = queries.load(at, *block)
                state = (outputs.load(at, *block), maximum.load(at, *block), total.load(at, *block))
                new = _visit(machine.cores, p, tile, (q, k, v), state, visible[slice(*block), slice(*span)])
                outputs.store(at, *block, new[0])
                maximum.store(at, *block, new[1])
                total.store(at, *block, new[2])
    return Forward(machine.counts(), outputs.values, maximum.values, total.values)


State = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Outputs so far, running maxima and running sums of a row tile."""


def _visit(
    cores: Cores,
    p: Problem,
    tile: Tile,
    loaded: tuple[Tensor | None, Tensor | None, Tensor | None],
    state: State,
    visible: Tensor,
) -> State:
    """One pair of tiles: lines 10 to 13 of the algorithm."""
    (q, k, v), (outputs, top, sums) = loaded, state
    if q is None or k is None or v is None or outputs is None or top is None or sums is None:
        cores.product(tile.rows, p.head_dim, tile.keys, None, None)
        cores.product(tile.rows, tile.keys, p.value_dim, None, None)
        return None, None, None
    whole = padded(q, tile.rows, p.head_dim), padded(k, tile.keys, p.head_dim).T
    scores = cores.product(tile.rows, p.head_dim, tile.keys, *whole)
    assert scores is not None
    scores = (scores[: len(q), : len(k)] * p.scale).masked_fill(~visible, -torch.inf)
    own_top = scores.amax(dim=1, keepdim=True)
    own = torch.exp(scores - finite(own_top))
    new_top = torch.maximum(top, own_top)
    kept_share, own_share = torch.exp(top - finite(new_top)), torch.exp(own_top - finite(new_top))
    new_sums = kept_share * sums + own_share * own.sum(dim=1, keepdim=True)
    divisor = new_sums.masked_fill(new_sums == 0, 1)  # a row that has seen nothing yet
    weights = padded(own_share * own / divisor, tile.rows, tile.keys)
    added = cores.product(tile.rows, tile.keys, p.value_dim, weights, padded(v, tile.keys, p.value_dim))
    assert added is not None
    return sums * kept_share / divisor * outputs + added[: len(q)], new_top, new_sums


def finite(maximum: Tensor) -> Tensor:
    """`maximum` with 0 where a row has none, so that differences to it are numbers."""
    return maximum.masked_fill(maximum == -torch.inf, 0)
