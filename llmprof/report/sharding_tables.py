"""What each rank of a sharded pass holds and what all of them say, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from llmprof.paths import folded, layer_path, spans
from llmprof.predict.sharding.api import RankTotals, ShardedPrediction
from llmprof.report.tables import Table
from llmprof.sharding import Collective, Sharding
from llmprof.units import format_bytes, format_count

NOTES = (
    "Whole are norms, positions and the biases of o_proj and down; the vocabulary is padded to as many rows on each "
    "device, and key/value heads fewer than the devices are replicated. Devices of one stage hold equally much.",
    "payload: the tensors of all calls; sent: what one device would send for them in rings "
    "(docs/reference-sharding.md), a convention that no instrument counts.",
    "Formulas; in tests all but what is sent are equal to those of a sharded twin, in real processes too.",
)


def sharding_tables(passes: Sequence[ShardedPrediction]) -> list[Table]:
    """What ranks hold, one row per pass and kind of stage; and for each pass that makes some, its collectives."""
    if not passes:
        return []
    return [_held(passes), *(_said(made) for made in passes if any(rank.collective_calls for rank in made.ranks))]


def _held(passes: Sequence[ShardedPrediction]) -> Table:
    sharding = passes[0].sharding
    staged = sharding.pipeline_parallel > 1
    return Table(
        title=f"On each of {sharding.ranks:,} device{'s' if sharding.ranks > 1 else ''}: {_degrees(sharding)}",
        columns=(
            "spec",
            "phase",
            *(("stages", "layers") if staged else ()),
            *("parameters", "weights", "KV cache", "calls", "payload", "sent"),
        ),
        rows=tuple(
            (
                made.arch.label,
                _phase(made),
                *((spans(stages), str(len(made.layers_of(stages[0])))) if staged else ()),
                format_count(rank.params),
                format_bytes(rank.weight_bytes),
                format_bytes(rank.kv_cache_bytes),
                f"{rank.collective_calls:,}",
                format_bytes(rank.collective_bytes),
                format_bytes(rank.collective_wire_bytes),
            )
            for made in passes
            for rank, stages in _kinds(made)
        ),
        left=2,
        notes=NOTES,
    )


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
    """Distinct ranks and the stages that have them."""
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
