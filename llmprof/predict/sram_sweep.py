"""Attention's memory accesses as a function of shared memory: the theorem of FlashAttention's paper, in numbers.

Source key `flash-attention`, theorem 2: for d <= M <= N d elements of shared memory, standard attention makes
Theta(N d + N^2) accesses to memory, FlashAttention Theta(N^2 d^2 / M). Here of every core of a pass:

    FlashAttention 1    algorithm 1 of the paper at M (docs/reference-tiles.md, section 5): bytes to and from memory
    standard            the unfused reference's op-level bytes, which do not depend on M
    FlashAttention 2    the loops swapped: what it loads through the cache (L2 to SM) follows the same law, while memory
                        sees K and V once. At the largest row tile that M holds beside key tiles of `KEYS`: a
                        hypothetical kernel but where a compiled one has that footprint

`constant` is accesses x M / (T S d^2), of one query head: where the theorem holds it tends to a number as M falls.
Figures are of one layer, of all sequences and heads of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llmprof.errors import InputError
from llmprof.predict import cost
from llmprof.predict.api import Prediction, predict
from llmprof.predict.masks import full
from llmprof.predict.model import LayerGroup
from llmprof.predict.sram import Core, core_of
from llmprof.predict.tiles import Shape, Tile, fa1_forward, fa2_forward, paper_tile
from llmprof.spec.arch import ArchSpec, Gqa, NoAttention, NoPosition
from llmprof.workload import Execution, Workload

KEYS = 16
STEP = 16
"""Keys of a tile of the swept FlashAttention 2, and rows that its row tile grows by: the matrix units' own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One size of shared memory. `fa2` is None where not even the smallest tile fits.

    `range_note` says how M lies outside the theorem's range, and is empty within.
    """

    sram_bytes: int
    elements: int
    range_note: str
    fa1_tile: tuple[int, int]
    fa1_bytes: int
    fa1_constant: float
    fa2_tile: tuple[int, int] | None
    fa2_bytes: int | None
    fa2_constant: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One kind of attention core over all sizes. `path` folds the equal layers that have it.

    `standard_bytes` are those of the unfused `reference`.
    """

    path: str
    layers: int
    shape: Shape
    reference: str
    standard_bytes: int
    compulsory_bytes: int
    points: tuple[Point, ...]


def sweeps(arch: ArchSpec, workload: Workload, execution: Execution, sizes: Sequence[int]) -> list[Sweep]:
    """The cores of a pass over `sizes` bytes of shared memory; `execution` is what standard attention means.

    InputError for an architecture with a core that FlashAttention could not run.
    """
    unfused = predict(arch, workload, execution)
    return [
        Sweep(
            path=f"{group.folded_path}.{path}",
            layers=group.count,
            shape=core.shape,
            reference=unfused.kernel,
            standard_bytes=cost.by_path(group.ops)[path].hbm_bytes,
            compulsory_bytes=core.shape.compulsory_forward,
            points=tuple(_point(core.shape, size) for size in sizes),
        )
        for group in unfused.program.groups
        if group.segment is not None
        for path, core in _cores(unfused, group)
    ]


def _cores(prediction: Prediction, group: LayerGroup) -> Iterator[tuple[str, Core]]:
    """The attention cores of a layer by path, in the elements that the pass computes in."""
    arch, layer, side = prediction.arch, group.layer, group.side
    given: list[tuple[str, Core | None]] = []
    if isinstance(layer.attention, Gqa):
        core = core_of(side, layer.attention, layer.position, side.sight(layer.attention))
        given.append(("attn.core", core))
    elif not isinstance(layer.attention, NoAttention):
        raise InputError(
            f"--sram is of softmax attention over keys and values of its own (gqa), but {group.folded_path} of "
            f"{arch.label} has {layer.attention.kind}"
        )
    if layer.cross_attention is not None:
        source = full(side.tokens, side.setting.workload.source_tokens)
        given.append(("cross_attn.core", core_of(side, layer.cross_attention, NoPosition(), source)))
    for path, found in given:
        if found is None:
            raise InputError(
                f"--sram: {group.folded_path}.{path} of {arch.label} has a mask or a bias that FlashAttention does not "
                "know (a prefix, chunks, a T5 table, a learned prior), and that the theorem says nothing of"
            )
        yield path, replace(found, shape=replace(found.shape, element_bytes=side.setting.activations.bits // 8))


def _point(shape: Shape, sram_bytes: int) -> Point:
    e, d = shape.element_bytes, shape.head_dim
    elements = sram_bytes // e
    if not elements:
        raise InputError(f"--sram: {sram_bytes} bytes do not hold one value of {e} bytes")
    moved = _bytes_of(shape, elements)
    tile = _row_tile(shape, elements)
    through = None if tile is None else fa2_forward(shape, tile).l2_to_sm
    rows, keys = paper_tile(shape, elements)
    return Point(
        sram_bytes=sram_bytes,
        elements=elements,
        range_note=_outside(shape, elements, d),
        fa1_tile=(rows, keys),
        fa1_bytes=moved,
        fa1_constant=_constant(shape, moved, elements),
        fa2_tile=None if tile is None else (tile.rows, tile.keys),
        fa2_bytes=through,
        fa2_constant=None if through is None else _constant(shape, through, elements),
    )


def _bytes_of(shape: Shape, elements: int) -> int:
    traffic = fa1_forward(shape, elements)
    return traffic.l2_to_sm  # the paper knows no cache: what is loaded and stored is memory's


def _row_tile(shape: Shape, elements: int) -> Tile | None:
    """The most rows in steps of `STEP` whose queries fit beside a tile of `KEYS` keys and values; no more than T."""
    keys = KEYS * (shape.head_dim + shape.value_dim)
    room = (elements - keys) // (shape.head_dim * STEP) * STEP
    if room < STEP:
        return None
    rows = min(room, -(-shape.queries // STEP) * STEP)
    return Tile(
        kernel="FlashAttention-2, swept",
        rows=rows,
        keys=KEYS,
        head_dim=shape.head_dim,
        value_dim=shape.value_dim,
        readers=1,
    )


def _outside(shape: Shape, elements: int, d: int) -> str:
    if elements < d:
        return "M < d"
    return "M > N d" if elements > min(shape.queries, shape.keys) * d else ""


def _constant(shape: Shape, nbytes: int, elements: int) -> float:
    """Accesses times M over T S d^2, of one query head of one sequence."""
    heads = shape.batch * shape.heads
    return nbytes * elements / (shape.element_bytes * heads * shape.queries * shape.keys * shape.head_dim**2)
