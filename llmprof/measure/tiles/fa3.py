"""FlashAttention 3, forward: the loops of FlashAttention 2, with warpgroups of 64 rows and two stages of K and V."""

from __future__ import annotations

from llmprof.measure.tiles import fa2
from llmprof.measure.tiles.fa2 import Forward
from llmprof.measure.tiles.problem import Problem, Tile, Values, compiled_width
from llmprof.measure.tiles.row_block import Form

WIDTHS = (64, 96, 128, 192, 256)
"""The head dims that FlashAttention 3 is compiled for (section 3 of the page)."""

WARPGROUP_ROWS = 64
STAGES = 2


def forward(problem: Problem, tile: Tile, values: Values | None = None, *, scores_in_shared: bool = False) -> Forward:
    """FlashAttention 3 without multicast and PackGQA; ValueError where a tile has not the rows of whole warpgroups."""
    if tile.rows % WARPGROUP_ROWS:
        raise ValueError(f"a warpgroup multiplies {WARPGROUP_ROWS} rows, and the tile has {tile.rows}")
    key_width, value_width = widths(problem.head_dim, problem.value_dim)
    groups = tile.rows // WARPGROUP_ROWS
    form = Form(
        tile=tile,
        key_width=key_width,
        value_width=value_width,
        readers=groups,
        output_bytes=problem.element_bytes,
        stages=STAGES,
        scores_in_shared=scores_in_shared,
    )
    return fa2.run(problem, form, values)


def widths(head_dim: int, value_dim: int) -> tuple[int, int]:
    """The compiled widths of key and value rows: 192 and 128 are a pair of their own."""
    if 128 < head_dim <= 192 and value_dim <= 128:
        return 192, 128
    width = compiled_width(head_dim, value_dim, WIDTHS)
    return width, width
