"""Closed forms of the tiled attention kernels (docs/reference-tiles.md): bytes by level, executed FLOPs, footprint.

    shape = Shape(batch=1, queries=4096, keys=4096, heads=32, kv_heads=8, head_dim=128, value_dim=128, mask=CAUSAL)
    tile = choose_for(shape, "fa2", "sm80")
    traffic = fa2_forward(shape, tile)

Integers, exact for every positive size. Every sum over tiles is closed: O(log) per figure, nothing walks the tiles.
"""

from llmprof.predict.tiles.backward import fa2_backward
from llmprof.predict.tiles.forward import fa2_forward, fa3_forward
from llmprof.predict.tiles.paper import fa1_backward, fa1_forward, paper_tile
from llmprof.predict.tiles.shape import CAUSAL, FULL, Mask, Shape, both_ways, prefix, window
from llmprof.predict.tiles.split import packed_shape, split_kv, splits_heuristic
from llmprof.predict.tiles.table import Architecture, Family, Tile, choose, choose_for
from llmprof.predict.tiles.traffic import Launch, TileTraffic
from llmprof.predict.tiles.visits import Visits

__all__ = [
    "CAUSAL",
    "FULL",
    "Architecture",
    "Family",
    "Launch",
    "Mask",
    "Shape",
    "Tile",
    "TileTraffic",
    "Visits",
    "both_ways",
    "choose",
    "choose_for",
    "fa1_backward",
    "fa1_forward",
    "fa2_backward",
    "fa2_forward",
    "fa3_forward",
    "packed_shape",
    "paper_tile",
    "prefix",
    "split_kv",
    "splits_heuristic",
    "window",
]
