"""Attention cores as every kernel of which a tile is known would run them on a device: `count --by kernel`.

FlashAttention 1 (the paper's algorithms, M being all of an SM's shared memory), 2, 3 and flash-decoding with and
without pages, forward and backward, by the closed forms of docs/reference-tiles.md. Figures are of one layer, of all
sequences and heads of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast, get_args

from llmprof.errors import InputError
from llmprof.predict import device_core
from llmprof.predict.device_core import SPLIT_ROWS, in_flight_on, reread
from llmprof.predict.fused import packed_reads
from llmprof.predict.masks import full
from llmprof.predict.model import LayerGroup
from llmprof.predict.op import Op
from llmprof.predict.record import both
from llmprof.predict.sram import Core, core_of
from llmprof.predict.tiles import (
    Architecture,
    Family,
    Shape,
    Tile,
    TileTraffic,
    choose,
    choose_for,
    fa1_backward,
    fa1_forward,
    fa2_backward,
    fa2_forward,
    fa3_forward,
    packed_shape,
    prefix,
    split_kv,
    splits_heuristic,
)
from llmprof.predict.tiles.floors import ceil_div
from llmprof.spec.arch import Gqa, NoAttention, NoPosition

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Execution, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreKernel:
    """One kernel on one core. `reread_bytes`: keys and values that memory sees again, None where that is not known.

    `chosen`: torch's SDPA runs it there.
    """

    name: str
    traffic: TileTraffic
    reread_bytes: int | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreKernels:
    """The kernels of one kind of core; `path` folds the equal layers that have it.

    `shape` is None, and there are no kernels, where its attention or its mask is none that these kernels have, or its
    keys and values are packed.
    """

    path: str
    layers: int
    shape: Shape | None
    kernels: tuple[CoreKernel, ...]


def core_kernels(
    arch: ArchSpec, workload: Workload, execution: Execution, device: Device, page_tokens: int
) -> list[CoreKernels]:
    """Every attention core of a pass, and its kernels; `page_tokens` is the size of a page where keys lie in pages.

    Raises InputError where `device` lacks a figure or is none whose tiles are known.
    """
    gpu = _Gpu(device)
    fused, _ = both(arch, workload, execution)
    found = []
    for group in fused.program.groups:
        if group.segment is None:
            continue
        for path, core in _cores(group):
            ops = [op for op in group.ops if op.path == path and op.parts]
            if any(packed_reads(op) for op in ops):
                core = None  # all these kernels take keys and values in the dtype of the queries
            kernels = () if core is None else tuple(_forward(core, gpu, ops, page_tokens))
            if core is not None and core.shape.queries == core.shape.keys > 1:
                kernels += tuple(_backward(core, gpu))
            shape = None if core is None else core.shape
            made = CoreKernels(path=f"{group.folded_path}.{path}", layers=group.count, shape=shape, kernels=kernels)
            found.append(made)
    return found


class _Gpu:
    """A device, and what decides between kernels on it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        figures = {name: getattr(device, name) for name in ("units", "sram_per_unit", "last_level_cache")}
        lacking = [name for name, figure in figures.items() if figure is None]
        if device.architecture not in get_args(Architecture) or lacking:
            found = f"no {', no '.join(lacking)}" if lacking else f"architecture {device.architecture}"
            raise InputError(
                f"--by kernel: found {found} in the file of {device.name}; expected a GPU of "
                f"{', '.join(get_args(Architecture))}, whose tiles are known (docs/reference-tiles.md, section 3)"
            )
        self.architecture = cast(Architecture, device.architecture)
        self.units, self.sram, self.cache = (figure.value for figure in figures.values())

    def tile(self, shape: Shape, family: Family) -> Tile | None:
        """The kernel for a shape; for a prefix mask, which none has, the one that would run were it there."""
        if shape.mask.kind != "prefix":
            return choose_for(shape, family, self.architecture)
        if shape.element_bytes != 2:
            return None
        tile = choose(family, self.architecture, shape.head_dim, shape.value_dim)
        return None if tile is None else replace(tile, kernel=f"{tile.kernel}, had it a prefix mask")


def _forward(core: Core, gpu: _Gpu, ops: list[Op], page_tokens: int) -> Iterator[CoreKernel]:
    """The kernels of the forward pass, that of torch's SDPA first."""
    shape, packed = core.shape, packed_shape(core.shape) if core.packs else core.shape
    chosen = device_core.core_on(gpu.device, ops[0]) if len(ops) == 1 else None
    taken = None if chosen is None else (chosen.tile, chosen.splits)
    tile, split_tile = gpu.tile(packed, "fa2"), gpu.tile(shape, "fa2-split")
    found: list[CoreKernel] = []
    if tile is not None:
        again = reread(packed, tile, in_flight_on(gpu.device, tile, packed.element_bytes), gpu.cache)
        traffic = fa2_forward(packed, tile)
        found.append(CoreKernel(name=tile.label, traffic=traffic, reread_bytes=again, chosen=taken == (tile, 1)))
    if split_tile is not None:
        ctas = packed.batch * packed.heads * ceil_div(packed.queries, SPLIT_ROWS)
        splits = splits_heuristic(ctas, 2 * gpu.units, ceil_div(packed.keys, split_tile.keys))
        if splits > 1:
            traffic = split_kv(shape, split_tile, splits, packs=core.packs)
            name = f"{split_tile.label} in {splits} splits"
            found.append(CoreKernel(name=name, traffic=traffic, reread_bytes=0, chosen=taken == (split_tile, splits)))
        paged = split_tile if splits > 1 else gpu.tile(shape, "fa2-split-alone")
        assert paged is not None, shape
        traffic = split_kv(shape, paged, splits, page_tokens, packs=core.packs)
        name = f"{paged.label}{f' in {splits} splits' if splits > 1 else ''}, pages of {page_tokens}"
        found.append(CoreKernel(name=name, traffic=traffic))
    yield from sorted(found, key=lambda kernel: not kernel.chosen)
    third = gpu.tile(shape, "fa3")
    if third is not None:
        traffic = fa3_forward(shape, third)
        yield CoreKernel(name=traffic.kernel, traffic=traffic)
    first = fa1_forward(shape, gpu.sram // shape.element_bytes)
    yield CoreKernel(name=first.kernel, traffic=first)


def _backward(core: Core, gpu: _Gpu) -> Iterator[CoreKernel]:
    """The kernels of a backward pass over as many keys as queries."""
    tile = gpu.tile(core.shape, "fa2-backward")
    if tile is not None:
        yield CoreKernel(name=tile.label, traffic=fa2_backward(core.shape, tile))
    first = fa1_backward(core.shape, gpu.sram // core.shape.element_bytes)
    yield CoreKernel(name=first.kernel, traffic=first)


def _cores(group: LayerGroup) -> Iterator[tuple[str, Core | None]]:
    """The cores of a layer by path, in the elements that the pass computes in; None for what no such kernel runs."""
    layer, side = group.layer, group.side
    attention = layer.attention
    if isinstance(attention, Gqa):
        sight = side.sight(attention)
        alone = sight.kind == "dense" and sight.window is None and sight.chunk is None
        if side.stack.mask == "prefix" and alone:
            core = core_of(side, attention, layer.position, replace(sight, kind="causal"))
            yield "attn.core", _with_prefix(core, group)
        else:
            yield "attn.core", _in_elements(core_of(side, attention, layer.position, sight), group)
    elif not isinstance(attention, NoAttention):
        yield "attn.core", None
    if layer.cross_attention is not None:
        source = full(side.tokens, side.setting.workload.source_tokens)
        yield "cross_attn.core", _in_elements(core_of(side, layer.cross_attention, NoPosition(), source), group)


def _in_elements(core: Core | None, group: LayerGroup) -> Core | None:
    if core is None:
        return None
    return replace(core, shape=replace(core.shape, element_bytes=group.side.setting.activations.bits // 8))


def _with_prefix(core: Core | None, group: LayerGroup) -> Core | None:
    found = _in_elements(core, group)
    if found is None:
        return None
    mask = prefix(group.side.setting.workload.prefix_tokens)
    return replace(found, shape=replace(found.shape, mask=mask))
