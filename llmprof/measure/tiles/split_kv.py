"""Flash-decoding: the key tiles of a row tile are split over CTAs, and a second kernel combines them (section 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from llmprof.measure.tiles import arrays
from llmprof.measure.tiles.arrays import Head
from llmprof.measure.tiles.fa2 import WIDTHS, infinite_where_unseen
from llmprof.measure.tiles.memory import FLOAT32_BYTES, Array, Counts, Load, Machine
from llmprof.measure.tiles.paged import PagedMemory
from llmprof.measure.tiles.problem import Problem, Tile, Values, ceil_div, compiled_width, visits
from llmprof.measure.tiles.row_block import Finished, Form, walk


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the two kernels moved, and the answer where values were given: [batch, heads, queries, ...]."""

    attending: Counts
    combining: Counts
    outputs: Tensor | None
    log_sum: Tensor | None


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the CTAs see as heads and rows of a head: query heads of one KV head may be rows."""

    heads: int
    rows: int
    per_kv_head: int
    visible: Tensor


def decode(
    problem: Problem, tile: Tile, splits: int, page_tokens: int | None = None, values: Values | None = None
) -> Decoded:
    """Split the keys of each row tile into `splits` ranges of whole tiles; in pages where `page_tokens` is given."""
    p, e = problem, problem.element_bytes
    if splits < 1:
        raise ValueError(f"keys are split at least once, not {splits} times")
    width = compiled_width(p.head_dim, p.value_dim, WIDTHS)
    part_bytes = e if splits == 1 else FLOAT32_BYTES
    form = Form(tile=tile, key_width=width, value_width=width, readers=tile.warps, output_bytes=part_bytes)
    machine, packed = Machine(e), _packed(p)
    queries = Array(machine.memory, (p.batch, packed.heads, packed.rows, p.head_dim), e, _as_rows(values, p, packed))
    shape = (splits, p.batch, packed.heads, packed.rows)
    parts = arrays.unwritten(machine, (*shape, p.value_dim), part_bytes, values)
    sums = arrays.unwritten(machine, (*shape, 1), FLOAT32_BYTES, values)
    loads = _straight(machine, p, values) if page_tokens is None else _paged(machine, p, values, page_tokens)
    key_tiles = ceil_div(p.keys, tile.keys)
    range_tiles = ceil_div(key_tiles, splits)
    visited = visits(packed.visible, tile.rows, tile.keys)
    grid = product(range(splits), range(p.batch), range(packed.heads), enumerate(visited))
    for split, sequence, head, (row_tile, tiles) in grid:
        at = (split, sequence, head)
        rows = (row_tile * tile.rows, min((row_tile + 1) * tile.rows, packed.rows))
        own = [visit for visit in tiles if visit // range_tiles == split]
        done = Finished.unseen(rows, p.value_dim) if values is not None else None
        if own:
            seen = None if values is None else packed.visible[slice(*rows)]
            kv = loads((sequence, head // packed.per_kv_head))
            done = walk(machine, form, rows, own, (queries.loader(at[1:]), *kv), p.scale, seen)
        parts.store(at, *rows, None if done is None else done.outputs)
        sums.store(at, *rows, None if done is None else done.log_sum)
    if splits == 1:
        return Decoded(machine.counts(), Counts(), _as_heads(parts.values, p), _infinite(_as_heads(sums.values, p)))
    counts, outputs, log_sum = _combine(p, packed, parts, sums, values)
    return Decoded(machine.counts(), counts, _as_heads(outputs, p), _infinite(_as_heads(log_sum, p)))


def _packed(p: Problem) -> _Rows:
    """With one query and no window the query heads of a KV head are the rows of one tile, all at the last position."""
    visible = p.mask.visible(p.queries, p.keys)
    if p.queries == 1 and p.group > 1 and not p.mask.hides_by_window(p.keys):
        return _Rows(p.kv_heads, p.group, 1, visible.expand(p.group, p.keys))
    return _Rows(p.heads, p.queries, p.group, visible)


def _as_rows(values: Values | None, p: Problem, packed: _Rows) -> Tensor | None:
    return None if values is None else values.queries.reshape(p.batch, packed.heads, packed.rows, p.head_dim)


def _as_heads(values: Tensor | None, p: Problem) -> Tensor | None:
    return None if values is None else values.reshape(p.batch, p.heads, p.queries, -1)


def _infinite(log_sum: Tensor | None) -> Tensor | None:
    return None if log_sum is None else infinite_where_unseen(log_sum)


KvLoads = Callable[[Head], tuple[Load, Load]]
"""How a CTA loads the keys and values of a KV head; it is called once for each CTA."""


def _straight(machine: Machine, p: Problem, values: Values | None) -> KvLoads:
    """Keys and values of a head lie one after the other."""
    keys, vals = arrays.keys_and_values(machine, p, values)
    return lambda at: (keys.loader(at), vals.loader(at))


def _paged(machine: Machine, p: Problem, values: Values | None, page_tokens: int) -> KvLoads:
    """Keys and values lie in pages, and each CTA reads the block table for itself."""
    memory = PagedMemory(machine.memory, p, values, page_tokens)

    def loads(at: Head) -> tuple[Load, Load]:
        reader = memory.reader(*at)
        return reader.load_keys, reader.load_values

    return loads


def _combine(
    p: Problem, packed: _Rows, parts: Array, sums: Array, values: Values | None
) -> tuple[Counts, Tensor | None, Tensor | None]:
    """The second kernel: each split's outputs weighted by its share of the sum of exponentials."""
    machine = Machine(p.element_bytes)
    parts = Array(machine.memory, parts.shape, FLOAT32_BYTES, parts.values)
    sums = Array(machine.memory, sums.shape, FLOAT32_BYTES, sums.values)
    splits, shape = parts.shape[0], parts.shape[1:]
    outputs = arrays.unwritten(machine, shape, p.element_bytes, values)
    log_sum = arrays.unwritten(machine, (*shape[:-1], 1), FLOAT32_BYTES, values)
    for sequence in range(p.batch):
        for head in range(packed.heads):
            at = (sequence, head)
            logs = [sums.load((split, *at), 0, packed.rows) for split in range(splits)]
            some = [parts.load((split, *at), 0, packed.rows) for split in range(splits)]
            known = [(log, part) for log, part in zip(logs, some, strict=True) if log is not None and part is not None]
            result = total = None
            if known:
                total = torch.logsumexp(torch.stack([log for log, _ in known]), dim=0)
                base = total.masked_fill(total == -torch.inf, 0)
                result = sum((torch.exp(log - base) * part for log, part in known), torch.zeros(()))
            outputs.store(at, 0, packed.rows, result)
            log_sum.store(at, 0, packed.rows, total)
    return machine.counts(), outputs.values, log_sum.values


def number_of_splits(ctas: int, processors: int, key_tiles: int) -> int:
    """The splits that the source chooses for so many CTAs without splits; `processors` are the SMs that it is told.

    It reckons waves and efficiencies in single precision, which decides ties.
    """
    if 5 * ctas >= 4 * processors:
        return 1
    counts = torch.arange(1, min(128, processors, key_tiles) + 1)
    waves = (counts * ctas).to(torch.float32) / processors
    efficiency = (waves / waves.ceil()).tolist()
    in_a_range = [ceil_div(key_tiles, count) for count in counts.tolist()]
    eligible = [i for i, tiles in enumerate(in_a_range) if i == 0 or tiles != in_a_range[i - 1]]
    enough = 0.85 * max(efficiency[i] for i in eligible)
    return next(i for i in eligible if efficiency[i] >= enough) + 1
