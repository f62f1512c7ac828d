"""The tensors of a problem in the global memory of a machine, and the heads that CTAs are launched for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from llmprof.measure.tiles.memory import Array, Machine
from llmprof.measure.tiles.problem import Problem, Values

Head = tuple[int, int]
"""A sequence and a head of it."""


def heads(p: Problem) -> Iterator[tuple[Head, Head]]:
    """The query head of every CTA, and its KV head."""
    for sequence in range(p.batch):
        for head in range(p.heads):
            yield (sequence, head), (sequence, head // p.group)


def queries(machine: Machine, p: Problem, values: Values | None) -> Array:
    """[batch, heads, queries, head_dim]."""
    return of_queries(machine, p, p.head_dim, p.element_bytes, None if values is None else values.queries)


def keys_and_values(machine: Machine, p: Problem, values: Values | None) -> tuple[Array, Array]:
    """[batch, kv_heads, keys, head_dim] and [..., value_dim]."""
    shape, e = (p.batch, p.kv_heads, p.keys), p.element_bytes
    return (
        Array(machine.memory, (*shape, p.head_dim), e, None if values is None else values.keys),
        Array(machine.memory, (*shape, p.value_dim), e, None if values is None else values.values),
    )


def output_gradient(machine: Machine, p: Problem, values: Values | None) -> Array:
    """[batch, heads, queries, value_dim]."""
    return of_queries(machine, p, p.value_dim, p.element_bytes, None if values is None else values.gradient)


def of_queries(machine: Machine, p: Problem, width: int, element_bytes: int, data: Tensor | None) -> Array:
    """A tensor with a row for every query of every query head."""
    return Array(machine.memory, (p.batch, p.heads, p.queries, width), element_bytes, data)


def unwritten(machine: Machine, shape: tuple[int, ...], element_bytes: int, values: Values | None) -> Array:
    """A tensor that a kernel will write: NaN until it does, so that a row which is forgotten shows."""
    data = None if values is None else torch.full(shape, torch.nan, dtype=torch.float64)
    return Array(machine.memory, shape, element_bytes, data)
