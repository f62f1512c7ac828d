"""What the backward passes share: five products for each pair of tiles, and the sum over the heads of a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llmprof.measure.tiles.memory import Array, Cores, Counts, Machine, padded
from llmprof.measure.tiles.problem import Problem, Tile, ceil_div


@dataclass(frozen=True, slots=True)
class Gradients:
    """What each kernel of a backward pass moved, by its name, and the gradients where values were given.

    They are [batch, heads, rows, dim], those of keys and values with KV heads.
    """

    kernels: Mapping[str, Counts]
    queries: Tensor | None
    keys: Tensor | None
    values: Tensor | None

    @property
    def counts(self) -> Counts:
        """All kernels together."""
        return sum(self.kernels.values(), Counts())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A tile of rows and a tile of keys, and the widths of their rows on chip."""

    rows: int
    keys: int
    key_width: int
    value_width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """The values of a pair of tiles, as they were loaded.

    `weights` makes the attention weights of scores whose hidden entries are -inf; `delta` is rowsum(dO * O).
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    gradient: Tensor
    delta: Tensor
    visible: Tensor
    weights: Callable[[Tensor], Tensor]


def products(cores: Cores, pair: Pair, scale: float, loaded: Operands | None) -> tuple[Tensor, Tensor, Tensor] | None:
    """What a pair of tiles adds to the gradients of queries, keys and values; None in a walk that only counts."""
    rows, span, wide, value = pair.rows, pair.keys, pair.key_width, pair.value_width
    if loaded is None:
        for outer, inner, columns in (
            (rows, wide, span),
            (span, rows, value),
            (rows, value, span),
            (rows, span, wide),
            (span, rows, wide),
        ):
            cores.product(outer, inner, columns, None, None)
        return None
    q, k = padded(loaded.queries, rows, wide), padded(loaded.keys, span, wide)
    v, do = padded(loaded.values, span, value), padded(loaded.gradient, rows, value)
    hidden = ~padded(loaded.visible, rows, span)

    def product(left: Tensor, right: Tensor) -> Tensor:
        made = cores.product(left.shape[0], left.shape[1], right.shape[1], left, right)
        assert made is not None
        return made

    scores = (product(q, k.T) * scale).masked_fill(hidden, -torch.inf)
    weights = padded(loaded.weights(scores[: len(loaded.queries)]), rows, span)
    dv = product(weights.T, do)
    d_scores = weights * (product(do, v.T) - padded(loaded.delta, rows, 1)) * scale
    return product(d_scores, k), product(d_scores.T, q), dv


def key_tile_visits(visited: list[list[int]], key_tile: int) -> list[int]:
    """The row tiles that visit `key_tile`."""
    return [row for row, tiles in enumerate(visited) if key_tile in tiles]


def sum_over_groups(
    p: Problem, kernels: Mapping[str, Counts], queries: Tensor | None, keys: Tensor | None, values: Tensor | None
) -> Gradients:
    """A last kernel, where several query heads share a KV head: it adds what they stored for keys and values."""
    if p.group == 1:
        return Gradients(kernels, queries, keys, values)
    machine = Machine(p.element_bytes)

    def added(width: int, stored: Tensor | None) -> Tensor | None:
        source = Array(machine.memory, (p.batch, p.heads, p.keys, width), p.element_bytes, stored)
        shape = (p.batch, p.kv_heads, p.keys, width)
        empty = None if stored is None else torch.full(shape, torch.nan, dtype=torch.float64)
        target = Array(machine.memory, shape, p.element_bytes, empty)
        for sequence in range(p.batch):
            for head in range(p.kv_heads):
                heads = range(head * p.group, (head + 1) * p.group)
                parts = [source.load((sequence, query_head), 0, p.keys) for query_head in heads]
                known = [part for part in parts if part is not None]
                total = torch.stack(known).sum(dim=0) if known else None
                target.store((sequence, head), 0, p.keys, total)
        return target.values

    keys, values = added(p.head_dim, keys), added(p.value_dim, values)
    return Gradients({**kernels, "sum": machine.counts()}, queries, keys, values)


def tiles_of(p: Problem, tile: Tile) -> tuple[int, int]:
    """Row tiles and key tiles of one head."""
    return ceil_div(p.queries, tile.rows), ceil_div(p.keys, tile.keys)
