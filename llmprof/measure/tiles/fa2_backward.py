"""FlashAttention 2, backward: one CTA for each sequence, query head and tile of keys (section 8 of the page)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmprof.measure.tiles import arrays, fa2
from llmprof.measure.tiles.gradients import (
    Gradients,
    Operands,
    Pair,
    key_tile_visits,
    products,
    sum_over_groups,
    tiles_of,
)
from llmprof.measure.tiles.memory import FLOAT32_BYTES, Array, Buffer, Counts, Machine, padded
from llmprof.measure.tiles.problem import Problem, Tile, Values, compiled_width, visits


@dataclass(frozen=True, slots=True)
class _Between:
    """What the kernels hand to each other, in whole tiles of rows: the accumulator of dQ, and D."""

    accumulator: Tensor | None
    delta: Tensor | None


@dataclass(frozen=True, slots=True)
class Room:
    """How the main kernel lays out shared memory: buffers of queries, and whether values move on to registers."""

    query_buffers: int = 2
    values_in_registers: bool = False


def backward(problem: Problem, tile: Tile, values: Values | None = None, room: Room = Room()) -> Gradients:
    """The kernels dot, main and convert, and a sum where several query heads share a KV head.

    Of shared memory only the footprint is simulated: the page does not say how often the kernel reads its operands.
    """
    p = problem
    width = compiled_width(p.head_dim, p.value_dim, fa2.WIDTHS)
    before = fa2.Forward(Counts(), None, None) if values is None else fa2.forward(p, tile, values)
    dotted, between = _dot(p, tile, width, before, values)
    main, d_keys, d_values = _main(p, tile, width, before, between, values, room)
    converted, d_queries = _convert(p, tile, width, between)
    kernels = {"dot": dotted, "main": main, "convert": converted}
    return sum_over_groups(p, kernels, d_queries, d_keys, d_values)


def _whole(machine: Machine, p: Problem, tile: Tile, width: int, data: Tensor | None) -> Array:
    """An fp32 tensor of every query head whose rows are those of whole tiles."""
    return Array(machine.memory, (p.batch, p.heads, tiles_of(p, tile)[0] * tile.rows, width), FLOAT32_BYTES, data)


def _dot(p: Problem, tile: Tile, width: int, before: fa2.Forward, values: Values | None) -> tuple[Counts, _Between]:
    """D = rowsum(dO * O), and zeros where dQ will be added up."""
    machine = Machine(p.element_bytes)
    outputs = arrays.of_queries(machine, p, p.value_dim, p.element_bytes, before.outputs)
    gradient = arrays.output_gradient(machine, p, values)
    rows = tiles_of(p, tile)[0] * tile.rows
    nothing = None if values is None else torch.full((p.batch, p.heads, rows, width), torch.nan, dtype=torch.float64)
    accumulator = _whole(machine, p, tile, width, nothing)
    delta = _whole(machine, p, tile, 1, None if nothing is None else nothing[..., :1].clone())
    for at, _ in arrays.heads(p):
        for start in range(0, rows, tile.rows):
            stop = start + tile.rows
            o, do = outputs.load(at, start, stop), gradient.load(at, start, stop)
            sums = None if o is None or do is None else padded((o * do).sum(dim=1, keepdim=True), tile.rows, 1)
            delta.store(at, start, stop, sums)
            accumulator.store(at, start, stop, torch.zeros(tile.rows, width, dtype=torch.float64))
    return machine.counts(), _Between(accumulator.values, delta.values)


def _main(
    p: Problem, tile: Tile, width: int, before: fa2.Forward, between: _Between, values: Values | None, room: Room
) -> tuple[Counts, Tensor | None, Tensor | None]:
    """Each key tile walks over the row tiles that visit it, and adds to their rows of dQ by atomics."""
    machine = Machine(p.element_bytes)
    visible = p.mask.visible(p.queries, p.keys)
    visited = visits(visible, tile.rows, tile.keys)
    queries = arrays.queries(machine, p, values)
    keys, vals = arrays.keys_and_values(machine, p, values)
    gradient = arrays.output_gradient(machine, p, values)
    log_sum = arrays.of_queries(machine, p, 1, FLOAT32_BYTES, before.log_sum)
    accumulator = _whole(machine, p, tile, width, between.accumulator)
    delta = _whole(machine, p, tile, 1, between.delta)
    d_keys = arrays.unwritten(machine, (p.batch, p.heads, p.keys, p.head_dim), p.element_bytes, values)
    d_values = arrays.unwritten(machine, (p.batch, p.heads, p.keys, p.value_dim), p.element_bytes, values)
    pair = Pair(rows=tile.rows, keys=tile.keys, key_width=width, value_width=width)
    for at, kv in arrays.heads(p):
        for key_tile in range(tiles_of(p, tile)[1]):
            span = (key_tile * tile.keys, (key_tile + 1) * tile.keys)
            rows = key_tile_visits(visited, key_tile)
            k, v = (keys.load(kv, *span), vals.load(kv, *span)) if rows else (None, None)
            held = _take_room(machine, tile, width, room) if rows else []
            dk = torch.zeros(tile.keys, width, dtype=torch.float64)
            dv = torch.zeros(tile.keys, width, dtype=torch.float64)
            for row in reversed(rows):
                machine.visited_tiles += 1
                block = (row * tile.rows, (row + 1) * tile.rows)
                q, do, logs = queries.load(at, *block), gradient.load(at, *block), log_sum.load(at, *block)
                sums = delta.load(at, *block)
                loaded = _operands(q, k, v, do, logs, sums, visible[slice(*block), slice(*span)])
                added = products(machine.cores, pair, p.scale, loaded)
                accumulator.add(at, *block, None if added is None else added[0])
                if added is not None:
                    dk += added[1]
                    dv += added[2]
            machine.shared.release(*held)
            d_keys.store(at, *span, dk)
            d_values.store(at, *span, dv)
    return machine.counts(), d_keys.values, d_values.values


def _take_room(machine: Machine, tile: Tile, width: int, room: Room) -> list[Buffer]:
    """Shared memory of one CTA: values that move on to registers make room for the scores and their gradients."""
    shared = machine.shared
    held = [shared.buffer(tile.rows, width) for _ in range(room.query_buffers)]
    held += [shared.buffer(tile.rows, width), shared.buffer(tile.keys, width)]  # dO and K
    values = shared.buffer(tile.keys, width)
    if room.values_in_registers:
        shared.release(values)
    else:
        held.append(values)
    return held + [shared.buffer(tile.rows, tile.keys) for _ in ("dS", "P")]


def _operands(
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor | None,
    do: Tensor | None,
    logs: Tensor | None,
    delta: Tensor | None,
    visible: Tensor,
) -> Operands | None:
    """The values of one visit, where there are any: weights come from the log-sum-exp of the forward pass."""
    if q is None or k is None or v is None or do is None or logs is None or delta is None:
        return None
    return Operands(
        queries=q,
        keys=k,
        values=v,
        gradient=do,
        delta=delta,
        visible=visible,
        weights=lambda scores: torch.exp(scores - logs),
    )


def _convert(p: Problem, tile: Tile, width: int, between: _Between) -> tuple[Counts, Tensor | None]:
    """The accumulator of dQ becomes dQ."""
    machine = Machine(p.element_bytes)
    accumulator = _whole(machine, p, tile, width, between.accumulator)
    shape = (p.batch, p.heads, p.queries, p.head_dim)
    empty = None if between.accumulator is None else torch.full(shape, torch.nan, dtype=torch.float64)
    d_queries = Array(machine.memory, shape, p.element_bytes, empty)
    for at, _ in arrays.heads(p):
        for start in range(0, accumulator.rows, tile.rows):
            rows = accumulator.load(at, start, start + tile.rows)
            d_queries.store(at, start, start + tile.rows, rows)
    return machine.counts(), d_queries.values
