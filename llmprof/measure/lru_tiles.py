"""A cache of key and value tiles below a fused attention: what its CTAs load from memory again.

Section 4 of docs/reference-dram.md: the CTAs run in their order, as many at once as fit the device, and those that run
at once walk the key tiles in step. Masks are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmprof.measure.lru import LruCache, Touch
from llmprof.measure.tiles.problem import Problem, Tile, ceil_div

PATH = "core"


def loaded_bytes(problem: Problem, tile: Tile, in_flight: int, capacity: int | None) -> int:
    """Bytes of keys and values that come from memory, at least each once, above a cache of `capacity` bytes."""
    if in_flight < 1:
        raise ValueError(f"at least one CTA runs, not {in_flight}")
    cache = LruCache(capacity)
    row_bytes = (problem.head_dim + problem.value_dim) * problem.element_bytes
    for heads in _waves(problem, tile, in_flight):
        for key_tile in range(ceil_div(problem.keys, tile.keys)):
            rows = min(tile.keys, problem.keys - key_tile * tile.keys)
            for head in heads:
                size = rows * row_bytes
                cache.run(PATH, [Touch((head, key_tile), size, size, 0, size, False, False)])
    return cache.moved[PATH]


def _waves(p: Problem, tile: Tile, in_flight: int) -> Iterator[list[tuple[int, int]]]:
    """The KV heads of the CTAs that run at once: row tile fastest, then query head, then sequence."""
    row_tiles = range(ceil_div(p.queries, tile.rows))
    ctas = [(b, h // p.group) for b in range(p.batch) for h in range(p.heads) for _ in row_tiles]
    for start in range(0, len(ctas), in_flight):
        yield list(dict.fromkeys(ctas[start : start + in_flight]))
