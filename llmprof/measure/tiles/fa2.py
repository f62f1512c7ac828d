"""FlashAttention 2, forward: one CTA for each sequence, query head and tile of rows (section 5 of the page)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmprof.measure.tiles import arrays
from llmprof.measure.tiles.memory import FLOAT32_BYTES, Counts, Machine
from llmprof.measure.tiles.problem import Problem, Tile, Values, compiled_width, visits
from llmprof.measure.tiles.row_block import Finished, Form, walk

WIDTHS = (32, 64, 96, 128, 192, 256)
"""The head dims that FlashAttention 2 is compiled for (section 3 of the page)."""


@dataclass(frozen=True, slots=True)
class Forward:
    """What a forward pass moved, and its answer where it was given values.

    `log_sum` is [batch, heads, queries, 1]; a row that sees nothing has zeros in `outputs` and infinity there.
    """

    counts: Counts
    outputs: Tensor | None
    log_sum: Tensor | None


def forward(problem: Problem, tile: Tile, values: Values | None = None) -> Forward:
    """FlashAttention 2: each warp reads all of every tile of keys and values."""
    width = compiled_width(problem.head_dim, problem.value_dim, WIDTHS)
    return run(
        problem,
        Form(tile=tile, key_width=width, value_width=width, readers=tile.warps, output_bytes=problem.element_bytes),
        values,
    )


def run(problem: Problem, form: Form, values: Values | None) -> Forward:
    """One CTA after the other; where one sees nothing it loads nothing, and stores zeros."""
    p, machine = problem, Machine(problem.element_bytes)
    block = form.tile.rows
    queries = arrays.queries(machine, p, values)
    keys, vals = arrays.keys_and_values(machine, p, values)
    outputs = arrays.unwritten(machine, (p.batch, p.heads, p.queries, p.value_dim), p.element_bytes, values)
    log_sum = arrays.unwritten(machine, (p.batch, p.heads, p.queries, 1), FLOAT32_BYTES, values)
    visible = p.mask.visible(p.queries, p.keys)
    visited = visits(visible, block, form.tile.keys)
    for at, kv in arrays.heads(p):
        loads = (queries.loader(at), keys.loader(kv), vals.loader(kv))
        for row_tile, tiles in enumerate(visited):
            rows = (row_tile * block, min((row_tile + 1) * block, p.queries))
            done = Finished.unseen(rows, p.value_dim) if values is not None else None
            if tiles:
                seen = None if values is None else visible[slice(*rows)]
                done = walk(machine, form, rows, tiles, loads, p.scale, seen)
            outputs.store(at, *rows, None if done is None else done.outputs)
            log_sum.store(at, *rows, None if done is None else infinite_where_unseen(done.log_sum))
    return Forward(machine.counts(), outputs.values, log_sum.values)


def infinite_where_unseen(log_sum: Tensor) -> Tensor:
    """A log-sum-exp as it is stored for good: weights of a row that sees nothing are 0 in a backward pass."""
    return log_sum.masked_fill(log_sum == -torch.inf, torch.inf)
