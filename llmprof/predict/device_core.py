"""The fused attention kernels of a device: their tiles, and how often they read keys and values from memory.

docs/reference-tiles.md; docs/reference-dram.md, section 4. Torch's SDPA runs FlashAttention 2, which splits the keys
where its row tiles are too few to fill the device. Nothing is known of the tiles of torch's other fused kernels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, cast, get_args

from llmprof.predict.fused import packed_reads
from llmprof.predict.op import Contraction, Op
from llmprof.predict.tensor import Home
from llmprof.predict.tiles import (
    CAUSAL,
    FULL,
    Architecture,
    Shape,
    Tile,
    TileTraffic,
    choose_for,
    fa2_forward,
    packed_shape,
    split_kv,
    splits_heuristic,
)
from llmprof.predict.tiles.floors import ceil_div

if TYPE_CHECKING:
    from llmprof.device import Device

SPLIT_ROWS = 64
"""Br of the split-KV kernels, whatever the head_dim."""

TILED = "flash"
"""The fused kernel whose tiles are known, by its name in the reference execution."""

BEFORE_FLASH = ("sm70", "sm75")
"""Targets that FlashAttention 2 refuses: `mha_fwd` of its flash_api.cpp, and of torch's copy, wants 8.0 or later."""


@dataclass(frozen=True, slots=True)
class Core:
    """One fused attention on a device. `reread_bytes` of keys and values come from memory again."""

    tile: Tile
    splits: int
    traffic: TileTraffic
    reread_bytes: int

    @property
    def smem_bytes(self) -> int:
        """Bytes that it writes to shared memory and reads from it."""
        written, read = self.traffic.smem_writes, self.traffic.smem_reads
        assert written is not None, self.tile
        assert read is not None, self.tile
        return written + read

    def plus(self, other: Core) -> Core:
        """Both kernels together: an attention of several maps runs one for each, with the same tile and splits."""
        assert (self.tile, self.splits) == (other.tile, other.splits), (self.tile, other.tile)
        return replace(
            self, traffic=self.traffic.plus(other.traffic), reread_bytes=self.reread_bytes + other.reread_bytes
        )


def core_on(device: Device, op: Op) -> Core | None:
    """How `device` runs a fused attention; None where its kernel has no tile there, or the device lacks a figure.

    FlashAttention 2 takes keys and values in the dtype of the queries: there is no kernel for those that are packed.
    """
    if op.kind != TILED or packed_reads(op) or device.architecture not in get_args(Architecture):
        return None
    if device.units is None or device.sram_per_unit is None or device.last_level_cache is None:
        return None
    architecture = cast(Architecture, device.architecture)
    shape = shape_of(op)
    split_tile = choose_for(shape, "fa2-split", architecture)
    packed = packed_shape(shape)
    tile = choose_for(packed, "fa2", architecture)
    if tile is None or split_tile is None:
        return None
    units = device.units.value
    ctas = packed.batch * packed.heads * ceil_div(packed.queries, SPLIT_ROWS)
    splits = splits_heuristic(ctas, 2 * units, ceil_div(packed.keys, split_tile.keys))
    if splits > 1:
        return Core(split_tile, splits, split_kv(shape, split_tile, splits), 0)
    in_flight = in_flight_on(device, tile, packed.element_bytes)
    again = reread(packed, tile, in_flight, device.last_level_cache.value)
    return Core(tile, 1, fa2_forward(packed, tile), again)


def in_flight_on(device: Device, tile: Tile, element_bytes: int) -> int:
    """P: CTAs that run at once, on a device whose SMs and whose shared memory are known."""
    assert device.units is not None, device.name
    assert device.sram_per_unit is not None, device.name
    return device.units.value * max(1, device.sram_per_unit.value // tile.footprint(element_bytes))


def reread(shape: Shape, tile: Tile, in_flight: int, capacity: int) -> int:
    """Bytes of K and V that come from memory again while `in_flight` CTAs run at once above a cache of `capacity`.

    A KV head that is in two waves is loaded again in the second, but for the tiles that the cache still holds.
    """
    in_a_row = ceil_div(shape.queries, tile.rows) * shape.group
    ctas = shape.batch * shape.kv_heads * in_a_row
    borders = (ctas - 1) // in_flight
    # Where a border lies within its KV head, and so what is in both waves, comes again every `period` borders; only the
    # last wave may be shorter.
    period = in_a_row // gcd(in_flight, in_a_row)
    cycles, more = divmod(max(borders - 1, 0), period)
    times = [(number, cycles + (number <= more)) for number in range(1, min(period, borders - 1) + 1)]
    if borders:
        times.append((borders, 1))
    again: Counter[tuple[int, int]] = Counter()
    for number, often in times:
        border = number * in_flight
        if border % in_a_row:
            last, end = (border - 1) // in_a_row, min(border + in_flight, ctas)
            before = last - (border - in_flight) // in_a_row + 1
            again[before, (end - 1) // in_a_row - last + 1] += often
    return sum(often * _gone(shape, tile.keys, heads, capacity) for heads, often in again.items())


def _gone(shape: Shape, keys: int, heads: tuple[int, int], capacity: int) -> int:
    """Bytes of the tiles of a KV head that a wave of so many heads, and the next up to them, have driven out."""
    row = (shape.head_dim + shape.value_dim) * shape.element_bytes
    gone = 0
    for start in range(0, shape.keys, keys):
        end = min(start + keys, shape.keys)
        since = heads[0] * (shape.keys - end) + (end - start) + heads[1] * start
        if since * row > capacity:
            gone += (end - start) * row
    return gone


def shape_of(op: Op) -> Shape:
    """The sizes and the mask of a fused attention that makes its mask by itself, if it has one."""
    scores, *_, values = _products(op)
    assert scores.pair is not None, op
    row, key = scores.pair
    q, k, v = scores.left, scores.right, values.right
    masked = any(tensor.home is Home.ON_CHIP for part in op.parts for tensor in part.reads)
    width = list(q.axes)[-1]
    return Shape(
        batch=q.axes["b"],
        queries=q.axes[row],
        keys=k.axes[key],
        heads=q.axes["k"] * q.axes["g"],
        kv_heads=q.axes["k"],
        head_dim=q.axes[width],
        value_dim=list(v.axes.values())[-1],
        element_bytes=q.format.bits // 8,
        mask=CAUSAL if masked else FULL,
    )


def _products(op: Op) -> list[Contraction]:
    return [part.contraction for part in op.parts if part.contraction is not None]
