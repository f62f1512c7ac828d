"""Shared-memory traffic of a pass: FlashAttention-2's forward kernels for every core (reference-tiles.md).

The tiles, and which a mask makes the kernel visit: `predict/tiles`. Here their sums are written as formulas, layer by
layer. Source keys `flash-attention-2-tiles` and `flash-attention-2-kernel`; why the reads repeat per warp:
`flash-attention-2`, section 3.3 (split-Q). Axis legend: see `tensor.py`. Br query rows and Bc keys of a tile, `hp` the
head_dim that the kernel is compiled for, `row tiles` those of a head that visit something, `tiles` a head's visits.

    writes  row tiles Br hp e + tiles Bc (hp + hp) e + row tiles Br hp e   q, keys and values in, the output out
    reads   tiles (warps Bc (hp + hp) + Br hp) e + row tiles Br hp e       every warp reads the whole key and value tile
    tile    (Br hp + Bc (hp + hp)) e                                       what must fit at once

Range of validity: 16-bit activations, h a multiple of 8 and at most 256; a soft cap changes nothing, and ALiBi, whose
slopes the kernel knows, is added in registers. It has no prefix mask and takes no T5 bias, no learned prior and no
packed keys and values (a quantised cache); of the kinds of attention it runs `gqa` alone. With one query it is the
split-KV kernel, its keys in one range (how many there are depends on the device), and the g query heads of a KV head
share one tile's rows, so keys are read once per KV head; with ALiBi they do not. Unconfirmed: see `unconfirmed.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.predict.formula import Formula, Product, in_layers
from llmprof.predict.fused import packed_reads
from llmprof.predict.masks import Sight, full
from llmprof.predict.model import LayerGroup, Program
from llmprof.predict.setting import Side
from llmprof.predict.tiles import (
    CAUSAL,
    FULL,
    Architecture,
    Mask,
    Shape,
    Tile,
    Visits,
    both_ways,
    choose_for,
    packed_shape,
    window,
)
from llmprof.spec.arch import Alibi, Gaussian, Gqa, LayerPosition, NoAttention, NoPosition, T5Bias

_BYTES = ("bytes(16 bit)", 2)
_LARGEST_ALIKE = 192
"""Up to here sm80 and sm90 run the same tiles. Above it an A100 has room for 128x64; sm90's 64x64 is listed."""


@dataclass(frozen=True, slots=True)
class Sram:
    """All cores of a pass: shared-memory bytes, the kernels with their tiles, the largest tile."""

    formula: Formula
    kernel: str
    largest: Tile

    @property
    def nbytes(self) -> int:
        """Bytes read from and written to shared memory."""
        return self.formula.value

    @property
    def footprint(self) -> Formula:
        """What the largest tile needs at once: a query tile, a key tile and a value tile."""
        width = ("hp", self.largest.head_dim)
        formula = Formula()
        formula.add((("Br", self.largest.rows), width, _BYTES))
        formula.add((("Bc", self.largest.keys), width, _BYTES), times=2)
        return formula


@dataclass(frozen=True, slots=True)
class Core:
    """One attention core of a layer as the kernel is given it."""

    shape: Shape
    packs: bool

    @property
    def tile(self) -> Tile | None:
        """The kernel that runs it, or None where there is none."""
        architecture: Architecture = "sm80" if self.shape.head_dim <= _LARGEST_ALIKE else "sm90"
        return choose_for(self.shape, "fa2-split" if self.shape.queries == 1 else "fa2", architecture)

    @property
    def seen(self) -> Shape:
        """The shape with the query heads of a KV head in one tile, where the kernel packs them."""
        return packed_shape(self.shape) if self.packs else self.shape


def shared_memory(program: Program) -> Sram | None:
    """The traffic of every core that the pass runs; None where FlashAttention-2 could not run one of them as it is."""
    if program.setting.activations.bits != 16:
        return None
    formula = Formula()
    used: dict[Tile, None] = {}
    for group in program.groups:
        if group.segment is None:
            continue
        cores = _cores(group)
        if cores is None or any(packed_reads(op) for op in group.ops if op.parts):
            return None
        for core in cores:
            tile = None if core is None else core.tile
            if core is None or tile is None:
                return None
            used[tile] = None
            _add_core(formula, in_layers(group.count, group.factor_name(program)), core, tile)
    if not used:
        return None
    largest = max(used, key=lambda tile: tile.footprint(2))
    return Sram(formula, "; ".join(tile.label for tile in used), largest)


def _cores(group: LayerGroup) -> list[Core | None] | None:
    """The cores of a layer; None where one is of another kind than `gqa`, or where a mixer stands beside it."""
    layer, side = group.layer, group.side
    attention = layer.attention
    cores: list[Core | None] = []
    if isinstance(attention, Gqa):
        cores.append(core_of(side, attention, layer.position, side.sight(attention)))
    elif not isinstance(attention, NoAttention):
        return None
    if layer.mixer is not None:
        return None
    if layer.cross_attention is not None:
        source = full(side.tokens, side.setting.workload.source_tokens)
        cores.append(core_of(side, layer.cross_attention, NoPosition(), source))
    return cores


def core_of(side: Side, attention: Gqa, position: LayerPosition, sight: Sight) -> Core | None:
    """A core in the kernel's words; None where the kernel lacks its mask or its bias.

    It has causal masks, windows and ALiBi's slopes; no prefix, no chunks, no T5 table and no learned prior.
    """
    mask = _mask(side, sight)
    if mask is None or isinstance(position, T5Bias | Gaussian):
        return None
    shape = Shape(
        batch=side.setting.b,
        queries=sight.queries,
        keys=sight.keys,
        heads=attention.n_heads,
        kv_heads=attention.n_kv_heads,
        head_dim=attention.head_dim,
        value_dim=attention.head_dim,
        mask=mask,
    )
    return Core(shape, packs=not isinstance(position, Alibi))


def _mask(side: Side, sight: Sight) -> Mask | None:
    if sight.kind == "full":
        return FULL
    if sight.kind == "causal":
        return CAUSAL
    if sight.window is None:
        return None
    # In a stack that reads all at once a window reaches both ways.
    return window(sight.window) if side.decodes else both_ways(sight.window)


def _add_core(formula: Formula, layers: Product, core: Core, tile: Tile) -> None:
    seen = core.seen
    visits = Visits(seen.queries, seen.keys, seen.mask, tile.rows, tile.keys)
    width, rows, keys, warps = ("hp", tile.head_dim), ("Br", tile.rows), ("Bc", tile.keys), ("warps", tile.readers)
    heads: Product = (("b", seen.batch), ("k", core.shape.kv_heads))
    if seen.heads > core.shape.kv_heads:
        heads = (*heads, ("g", core.shape.group))
    per_row_tile: Product = (*layers, *heads, ("row tiles", visits.active_row_tiles))
    per_tile: Product = (*layers, *heads, ("tiles", visits.total))
    formula.add((*per_row_tile, rows, width, _BYTES), times=3)
    formula.add((*per_tile, keys, width, _BYTES), times=2)
    formula.add((*per_tile, warps, keys, width, _BYTES), times=2)
    formula.add((*per_tile, rows, width, _BYTES))
