"""What each rank of a sharded pass holds and runs, and what all of them say, as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from llmprof.paths import folded, layer_path, spans
from llmprof.predict.sharding.api import RankTotals, ShardedPrediction
from llmprof.report.tables import Table
from llmprof.sharding import Collective, Sharding
from llmprof.spec.arch import Mla, Moe
from llmprof.units import format_bytes, format_count

STAR = " *"
"""What marks a figure that nothing independent confirms."""

Column = tuple[str, str, Callable[[int], str]]
"""A heading, the member of `RankTotals` below it, and how it is written."""

HELD: tuple[Column, ...] = (
    ("parameters", "params", format_count),
    ("weights", "weight_bytes", format_bytes),
    ("KV cache", "kv_cache_bytes", format_bytes),
    ("calls", "collective_calls", "{:,}".format),
    ("payload", "collective_bytes", format_bytes),
    ("sent", "collective_wire_bytes", format_bytes),
)
STATES: Column = ("states", "recurrent_state_bytes", format_bytes)
"""Beside the cache, where a model keeps some."""
RUN: tuple[Column, ...] = (
    ("FLOPs, dense", "matmul_flops", format_count),
    ("FLOPs, causal", "matmul_flops_causal", format_count),
    ("HBM, fused", "hbm_bytes", format_bytes),
    ("activation peak", "peak_live_bytes", format_bytes),
)

WHOLE = (
    "Whole are norms, positions and the biases of o_proj and down; the vocabulary is padded to as many rows on each "
    "device, and key/value heads fewer than the devices are replicated. Devices of one stage hold equally much."
)
EXPERTS = "Of devices that share experts the one is meant to whose experts no fewer tokens go than to any other's."
LATENTS = "Latents, what makes them, and the router of experts are whole on every device."
SENT = (
    "payload: the tensors of all calls; sent: what one device would send for them in rings, or to each of the others "
    "(docs/reference-sharding.md), a convention that no instrument counts."
)
CONFIRMED = "Formulas; in tests all but what is sent are equal to those of a sharded twin, in real processes too."
OWN = (
    "Its own kernels, with fused attention; collectives are none of them, and their results count in the peak, "
    "beside which weights and cache are kept."
)


def sharding_tables(passes: Sequence[ShardedPrediction]) -> list[Table]:
    """What ranks hold and what they run, one row per pass and kind of stage; and for each pass its collectives."""
    if not passes:
        return []
    said = (_said(made) for made in passes if any(rank.collective_calls for rank in made.ranks))
    return [_held(passes), _run(passes), *said]


def _held(passes: Sequence[ShardedPrediction]) -> Table:
    sharding = passes[0].sharding
    title = f"On each of {sharding.ranks:,} device{'s' if sharding.ranks > 1 else ''}: {_degrees(sharding)}"
    kinds = [layer for made in passes for layer in made.arch.main.layers]
    notes = [WHOLE]
    if any(isinstance(layer.attention, Mla) or isinstance(layer.ffn, Moe) for layer in kinds):
        notes.append(LATENTS)
    if sharding.expert_parallel > 1:
        notes.append(EXPERTS)
    stateful = any(rank.recurrent_state_bytes for made in passes for rank in made.ranks)
    columns = (*HELD[:3], STATES, *HELD[3:]) if stateful else HELD
    return _table(title, columns, passes, (*notes, SENT, CONFIRMED))


def _run(passes: Sequence[ShardedPrediction]) -> Table:
    because = {why: None for made in passes for rank in made.ranks for why in made.unconfirmed(rank).values()}
    return _table("What each of them runs", RUN, passes, (OWN, *(f"* unconfirmed: {why}." for why in because)))


def _table(title: str, columns: tuple[Column, ...], passes: Sequence[ShardedPrediction], notes: Sequence[str]) -> Table:
    """One row for each pass and kind of stage."""
    staged = passes[0].sharding.pipeline_parallel > 1
    return Table(
        title=title,
        columns=("spec", "phase", *(("stages", "layers") if staged else ()), *(heading for heading, _, _ in columns)),
        rows=tuple(
            (
                made.arch.label,
                _phase(made),
                *((spans(stages), str(len(made.layers_of(stages[0])))) if staged else ()),
                *_cells(made, rank, columns),
            )
            for made in passes
            for rank, stages in _kinds(made)
        ),
        left=2,
        notes=tuple(notes),
    )


def _cells(made: ShardedPrediction, rank: RankTotals, columns: tuple[Column, ...]) -> Iterator[str]:
    starred = made.unconfirmed(rank)
    for _, name, written in columns:
        yield written(getattr(rank, name)) + (STAR if name in starred else "")


def _phase(made: ShardedPrediction) -> str:
    """``prefill 8 at 64 x 4``: new tokens, their context where it is longer, and sequences; of decode the context."""
    w = made.workload
    batch = f" x {w.batch:,}" if w.batch > 1 else ""
    if w.phase == "decode":
        return f"decode at {w.context:,}{batch}"
    past = f" at {w.context:,}" if w.context > w.new_tokens else ""
    return f"prefill {w.new_tokens:,}{past}{batch}"


def _degrees(sharding: Sharding) -> str:
    """``tensor 8 with sequence parallelism, pipeline 2, data 4``."""
    parts = [f"tensor {sharding.tensor_parallel}" + (" with sequence parallelism" if sharding.splits_rows else "")]
    if sharding.pipeline_parallel > 1:
        parts.append(f"pipeline {sharding.pipeline_parallel:,}")
    if sharding.data_parallel > 1:
        parts.append(f"data {sharding.data_parallel:,}, which share the sequences")
    if sharding.expert_parallel > 1:
        parts.append(f"experts {sharding.expert_parallel:,}, of those devices")
    if sharding.context_parallel > 1:
        parts.append(f"context {sharding.context_parallel:,}, which share the tokens of a sequence")
    return ", ".join(parts)


def _kinds(made: ShardedPrediction) -> Iterator[tuple[RankTotals, list[int]]]:
    """Distinct ranks and the stages that have them: those with the same parts as often."""
    kinds: dict[RankTotals, list[int]] = {}
    for rank in made.ranks:
        kinds.setdefault(replace(rank, stage=0), []).append(rank.stage)
    yield from kinds.items()


def _said(made: ShardedPrediction) -> Table:
    """Every collective with equal layers folded: of one layer, and of all together."""
    return Table(
        title=f"What the devices say to each other: {made.arch.label}, {_phase(made)}",
        columns=("path", "collective", "calls", "payload of one", "sent of one", "payload", "sent"),
        rows=tuple(_row(path, call, times) for path, call, times in _folded(made)),
        left=2,
        notes=("Of one: of one layer, or of one path outside of the layers.",),
    )


def _row(path: str, call: Collective, times: int) -> tuple[str, ...]:
    each = (format_bytes(call.bytes), format_bytes(call.wire_bytes))
    return (
        path,
        call.kind,
        f"{times * call.count:,}",
        *each,
        format_bytes(times * call.bytes),
        format_bytes(times * call.wire_bytes),
    )


def _folded(made: ShardedPrediction) -> Iterator[tuple[str, Collective, int]]:
    """The collectives of all stages, each of which stands in one of them; how many layers make it."""
    found: dict[Collective, list[int]] = {}
    for account in made.stages:
        for call in account.collectives:
            at = layer_path(call.path)
            key = call if at is None else replace(call, path=f"{at.stack}{{}}{at.below}")
            found.setdefault(key, []).append(-1 if at is None else at.index)
    for call, indices in found.items():
        path = call.path if indices == [-1] else call.path.replace("{}", folded(indices), 1)
        yield path, call, len(indices)
