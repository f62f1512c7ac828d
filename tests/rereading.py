"""Both halves on what fused attention reads from memory again."""

from __future__ import annotations

from llmprof.measure.lru_tiles import loaded_bytes
from llmprof.measure.tiles.problem import Problem, Tile
from llmprof.predict.device_core import reread
from llmprof.predict.tiles import Tile as CompiledTile
from tests.tile_variants import shape

ROW = (8 + 8) * 2
"""Bytes of K and V of one key: head_dim 8, bf16."""


def problem(*, batch: int = 1, queries: int, keys: int, kv_heads: int = 1, group: int = 1) -> Problem:
    return Problem(
        batch=batch,
        queries=queries,
        keys=keys,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=8,
        value_dim=8,
    )


def both(p: Problem, tile: Tile, in_flight: int, capacity: int) -> tuple[int, int]:
    """Bytes of K and V that come from memory, predicted and simulated."""
    once = p.batch * p.kv_heads * p.keys * ROW
    return once + again(p, tile, in_flight, capacity), loaded_bytes(p, tile, in_flight, capacity)


def again(p: Problem, tile: Tile, in_flight: int, capacity: int) -> int:
    """Bytes of K and V that come from memory once more, predicted."""
    compiled = CompiledTile(kernel="", rows=tile.rows, keys=tile.keys, head_dim=32, value_dim=32, readers=4)
    return reread(shape(p), compiled, in_flight, capacity)
