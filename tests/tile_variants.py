"""Where the closed forms of tiled kernels meet the simulator: the same sizes given to both, and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from llmprof.measure.tiles import fa1, fa1_backward, fa2, fa2_backward, fa3, once, split_kv
from llmprof.measure.tiles.memory import Counts
from llmprof.measure.tiles.problem import Mask, Problem, Tile, compiled_width
from llmprof.predict import tiles as predicted


@dataclass(frozen=True)
class Case:
    """One attention, and how each kernel cuts it. The rows of a tile of FlashAttention 3 are `warpgroups` of 64."""

    problem: Problem
    tile: Tile
    sram_elements: int = 500
    partial_bytes: int | None = None
    warpgroups: int = 1
    scores_in_shared: bool = False
    splits: int = 1
    page_tokens: int | None = None
    query_buffers: int = 2
    values_in_registers: bool = False


def shape(problem: Problem) -> predicted.Shape:
    """The same sizes as the prediction calls them."""
    p = problem
    return predicted.Shape(
        batch=p.batch,
        queries=p.queries,
        keys=p.keys,
        heads=p.heads,
        kv_heads=p.kv_heads,
        head_dim=p.head_dim,
        value_dim=p.value_dim,
        element_bytes=p.element_bytes,
        mask=predicted.Mask(p.mask.kind, p.mask.size),
    )


def _fa2(case: Case) -> Iterator[str]:
    simulated = fa2.forward(case.problem, case.tile)
    closed = predicted.fa2_forward(shape(case.problem), _tile(case))
    return differences(closed, {"attention": simulated.counts}, once.forward_bytes(case.problem))


def _fa3(case: Case) -> Iterator[str]:
    tile = Tile(64 * case.warpgroups, case.tile.keys)
    widths = fa3.widths(case.problem.head_dim, case.problem.value_dim)
    simulated = fa3.forward(case.problem, tile, scores_in_shared=case.scores_in_shared)
    compiled = predicted.Tile(
        kernel="FlashAttention-3",
        rows=tile.rows,
        keys=tile.keys,
        head_dim=widths[0],
        value_dim=widths[1],
        readers=case.warpgroups,
        stages=2,
        scores_in_shared=case.scores_in_shared,
    )
    closed = predicted.fa3_forward(shape(case.problem), compiled)
    return differences(closed, {"attention": simulated.counts}, once.forward_bytes(case.problem))


def _split(case: Case) -> Iterator[str]:
    simulated = split_kv.decode(case.problem, case.tile, case.splits, case.page_tokens)
    closed = predicted.split_kv(shape(case.problem), _tile(case), case.splits, case.page_tokens)
    kernels = {"attention": simulated.attending}
    if case.splits > 1:
        kernels["combine"] = simulated.combining
    table = 0 if case.page_tokens is None else 4 * case.problem.batch * -(-case.problem.keys // case.page_tokens)
    return differences(closed, kernels, once.forward_bytes(case.problem) + table)


def _fa2_backward(case: Case) -> Iterator[str]:
    room = fa2_backward.Room(case.query_buffers, case.values_in_registers)
    simulated = fa2_backward.backward(case.problem, case.tile, room=room)
    compiled = replace(_tile(case), query_buffers=case.query_buffers, values_in_registers=case.values_in_registers)
    closed = predicted.fa2_backward(shape(case.problem), compiled)
    return differences(closed, simulated.kernels, once.backward_bytes(case.problem))


def _fa1(case: Case) -> Iterator[str]:
    simulated = fa1.forward(case.problem, case.sram_elements, case.partial_bytes)
    closed = predicted.fa1_forward(shape(case.problem), case.sram_elements, case.partial_bytes)
    return differences(closed, {"attention": simulated.counts}, once.forward_bytes(case.problem))


def _fa1_backward(case: Case) -> Iterator[str]:
    simulated = fa1_backward.backward(case.problem, case.sram_elements, case.partial_bytes)
    closed = predicted.fa1_backward(shape(case.problem), case.sram_elements, case.partial_bytes)
    return differences(closed, simulated.kernels, once.backward_bytes(case.problem))


VARIANTS = {
    "FlashAttention 1": _fa1,
    "FlashAttention 1 backward": _fa1_backward,
    "FlashAttention 2": _fa2,
    "FlashAttention 2 backward": _fa2_backward,
    "FlashAttention 3": _fa3,
    "flash-decoding": _split,
}


def disagreements(case: Case, variants: Iterable[str] = VARIANTS) -> list[str]:
    """What the two halves count differently, in words."""
    return [f"{name}: {line}" for name in variants for line in VARIANTS[name](case)]


def _tile(case: Case) -> predicted.Tile:
    width = compiled_width(case.problem.head_dim, case.problem.value_dim, fa2.WIDTHS)
    return predicted.Tile(
        kernel="FlashAttention-2",
        rows=case.tile.rows,
        keys=case.tile.keys,
        head_dim=width,
        value_dim=width,
        readers=case.tile.warps,
    )


def differences(closed: predicted.TileTraffic, simulated: Mapping[str, Counts], once_bytes: int) -> Iterator[str]:
    """Every count of `closed` that is not the simulated one. None is a count that the closed form does not give."""
    total = sum(simulated.values(), Counts())
    pairs: dict[str, tuple[int | None, int]] = {
        "compulsory_bytes": (closed.compulsory_bytes, once_bytes),
        "l2_to_sm": (closed.l2_to_sm, total.global_loads + total.global_stores),
        "global_loads": (closed.global_loads, total.global_loads),
        "global_stores": (closed.global_stores, total.global_stores),
        "visited_tiles": (closed.visited_tiles, total.visited_tiles),
        "executed_flops": (closed.executed_flops, total.executed_flops),
        "smem_writes": (closed.smem_writes, total.smem_writes),
        "smem_reads": (closed.smem_reads, total.smem_reads),
        "footprint_bytes": (closed.footprint_bytes, total.footprint_bytes),
    }
    launches = {launch.name: launch for launch in closed.launches}
    if "initialisation" not in launches:  # the simulator counts it with the kernel that it prepares
        pairs |= {
            f"{name}.{way}": (getattr(launches.get(name), way, None), count)
            for name, counts in simulated.items()
            for way, count in (("loads", counts.global_loads), ("stores", counts.global_stores))
        }
        if sorted(launches) != sorted(simulated):
            yield f"kernels: predicted {sorted(launches)}, simulated {sorted(simulated)}"
    for quantity, (predicted_value, simulated_value) in pairs.items():
        if predicted_value is not None and predicted_value != simulated_value:
            yield f"{quantity}: predicted {predicted_value}, simulated {simulated_value}"


def mask(kind: str, size: int) -> Mask:
    """A mask of one of the five kinds; `size` is not looked at where a kind has none."""
    return Mask(kind=kind, size=0 if kind in ("full", "causal") else size)  # type: ignore[arg-type]
