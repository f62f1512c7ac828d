"""Predict what each rank holds, runs and sends in one pass: parameters, weights, cache, its own kernels, collectives.

The contract of what is run is docs/reference-sharding.md. Nothing here imports a framework. All ranks of a pipeline
stage hold equally much and do the same, and replicas are copies, so that one account stands for each stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from llmprof.ledger import Basis, Entry, Ledger, Quantity
from llmprof.predict.compulsory import Compulsory
from llmprof.predict.cost import NOTHING, Cost
from llmprof.predict.lowering import is_cache
from llmprof.predict.sharding.collectives import Calls
from llmprof.predict.sharding.parts import Part, Parts, parts_of, pass_of_rank
from llmprof.predict.unconfirmed import traffic_reasons
from llmprof.sharding import Collective, Sharding, StageAccount, check_sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

__all__ = ["RankTotals", "ShardedPrediction", "sharded", "sharded_as"]


@dataclass(frozen=True)
class OwnPass:
    """The kernels of one rank: its parts, and how often each is run. Made on first use."""

    parts: tuple[tuple[Part, int], ...]

    @cached_property
    def cost(self) -> Cost:
        """All its kernels together."""
        whole = NOTHING
        for part, times in self.parts:
            whole = whole.plus(part.run.cost, times=times)
        return whole

    @cached_property
    def least(self) -> Compulsory:
        """What it moves at least: its weights and its caches, once."""
        whole = Compulsory()
        for part, times in self.parts:
            whole = whole.plus(part.run.least, times=times)
        return whole

    @property
    def kernels(self) -> frozenset[str]:
        """The kinds that it launches."""
        return frozenset(kind for part, _ in self.parts for kind in part.run.kinds)

    @cached_property
    def peak_live_bytes(self) -> int:
        """The largest sum of live tensors other than weights and caches; constants live throughout."""
        peaks = [part.peak for part, _ in self.parts]
        constants = {key: size for peak in peaks for key, size in peak.constants.items()}
        return max(peak.nbytes for peak in peaks) + sum(constants.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTotals:
    """What any one rank of a pipeline stage holds, runs and sends, all in all.

    `collective_bytes` is the payload of its `collective_calls`, `collective_wire_bytes` what it sends in rings. What it
    runs is with fused attention, and computed when it is asked for.
    """

    stage: int
    params: int
    weight_bytes: int
    kv_cache_bytes: int
    recurrent_state_bytes: int
    collective_calls: int
    collective_bytes: int
    collective_wire_bytes: int
    own: OwnPass

    @property
    def held_bytes(self) -> int:
        """What it keeps from pass to pass."""
        return self.weight_bytes + self.kv_cache_bytes + self.recurrent_state_bytes

    @property
    def peak_live_bytes(self) -> int:
        """The largest sum of live tensors of its pass, other than what it keeps."""
        return self.own.peak_live_bytes

    @property
    def hbm_bytes(self) -> int:
        """What its kernels read and write."""
        return self.own.cost.hbm_bytes

    @property
    def matmul_flops(self) -> int:
        """Of its contractions, with the full square of every attention core."""
        return self.own.cost.matmul_flops

    @property
    def matmul_flops_causal(self) -> int:
        """The same with the visible pairs alone."""
        return self.own.cost.causal_flops


@dataclass(frozen=True, eq=False)
class ShardedPrediction:
    """What the ranks of one pass hold, run and send. Totals are cheap; `stages` are made on first use."""

    arch: ArchSpec
    workload: Workload
    sharding: Sharding

    @cached_property
    def ranks(self) -> tuple[RankTotals, ...]:
        """One rank of each stage, in the order of the stages."""
        return tuple(self._totals(stage) for stage in range(self.sharding.pipeline_parallel))

    @property
    def fullest(self) -> RankTotals:
        """The rank that keeps the most; the first of several."""
        return max(self.ranks, key=lambda rank: rank.held_bytes)

    def unconfirmed(self, rank: RankTotals) -> Mapping[str, str]:
        """Member of `RankTotals` -> why nothing independent confirms it of one of them."""
        cached = rank.kv_cache_bytes > 0
        because = "; ".join(traffic_reasons(self.workload.dtypes, rank.own.kernels, cached=cached))
        return {"hbm_bytes": because, "peak_live_bytes": because} if because else {}

    @cached_property
    def stages(self) -> tuple[StageAccount, ...]:
        """The same leaf by leaf and call by call, at the paths that they have in the whole model."""
        return tuple(self._account(stage) for stage in range(self.sharding.pipeline_parallel))

    def layers_of(self, stage: int) -> range:
        """The layers of a stage, by their index in the model."""
        depths = self.sharding.stage_depths(self.arch.n_layers)
        first = sum(depths[:stage])
        return range(first, first + depths[stage])

    # --- the parts of a stage -------------------------------------------------------------------

    @cached_property
    def _made(self) -> Parts:
        return parts_of(self.arch, self.workload, self.sharding)

    def _parts(self, stage: int) -> Iterator[tuple[str, Part]]:
        """What a stage has, in the order of the call tree, each under the prefix of its paths."""
        if stage == 0:
            yield "", self._made.opening
        for index in self.layers_of(stage):
            yield f"layers.{index}.", self._made.layers[index]
        if stage == self.sharding.pipeline_parallel - 1:
            yield "", self._made.closing

    def _sent(self, stage: int) -> tuple[Collective, ...]:
        """What goes to the next stage, of all but the last."""
        if stage == self.sharding.pipeline_parallel - 1:
            return ()
        own = pass_of_rank(self.workload, self.sharding)
        calls = Calls(arch=self.arch, workload=own, sharding=self.sharding)
        return tuple(calls.to_next_stage(f"layers.{self.layers_of(stage)[-1]}"))

    def _totals(self, stage: int) -> RankTotals:
        times: dict[int, int] = {}  # by identity: equal layers are the same object
        parts: dict[int, Part] = {}
        for _, part in self._parts(stage):
            times[id(part)] = times.get(id(part), 0) + 1
            parts[id(part)] = part
        own = tuple((part, times[key]) for key, part in parts.items())
        calls = [(often, call) for part, often in own for call in part.collectives]
        calls += [(1, call) for call in self._sent(stage)]
        return RankTotals(
            stage=stage,
            params=sum(often * part.weights.total_params for part, often in own),
            weight_bytes=sum(often * part.weights.total_bytes for part, often in own),
            kv_cache_bytes=sum(often * part.cache_bytes for part, often in own),
            recurrent_state_bytes=sum(often * part.state_bytes for part, often in own),
            collective_calls=sum(often * call.count for often, call in calls),
            collective_bytes=sum(often * call.bytes for often, call in calls),
            collective_wire_bytes=sum(often * call.wire_bytes for often, call in calls),
            own=OwnPass(own),
        )

    def _account(self, stage: int) -> StageAccount:
        ledger, calls = Ledger(), list[Collective]()
        ledger.add(_entry("", "peak_live_bytes", self.ranks[stage].peak_live_bytes))
        for prefix, part in self._parts(stage):
            for path, values in part.weights.params.items():
                spent = part.run.by_path.get(path, NOTHING)
                ledger.add(_entry(prefix + path, "params", values))
                ledger.add(_entry(prefix + path, "weight_bytes", part.weights.nbytes[path]))
                ledger.add(_entry(prefix + path, "matmul_flops", spent.matmul_flops))
                ledger.add(_entry(prefix + path, "matmul_flops_causal", spent.causal_flops))
                ledger.add(_entry(prefix + path, "hbm_bytes", spent.hbm_bytes))
            for path, held in part.kept_bytes.items():
                ledger.add(_entry(prefix + path, "kv_cache_bytes" if is_cache(path) else "recurrent_state_bytes", held))
            calls += [replace(call, path=prefix + call.path) for call in part.collectives]
        return StageAccount(stage=stage, ledger=ledger, collectives=(*calls, *self._sent(stage)))


def sharded(
    arch: ArchSpec,
    workload: Workload,
    *,
    tensor_parallel: int = 1,
    sequence_parallel: bool = False,
    pipeline_parallel: int = 1,
    data_parallel: int = 1,
    expert_parallel: int = 1,
    context_parallel: int = 1,
    pipeline_layers: tuple[int, ...] = (),
) -> ShardedPrediction:
    """Predict `workload` of `arch`, spread over so many ranks of each kind.

    Raises InputError where docs/reference-sharding.md has no rule for it, naming what has none, or where a degree does
    not fit what it has to, saying what would do; and what `check_workload` raises.
    """
    sharding = Sharding(
        tensor_parallel=tensor_parallel,
        sequence_parallel=sequence_parallel,
        pipeline_parallel=pipeline_parallel,
        data_parallel=data_parallel,
        expert_parallel=expert_parallel,
        context_parallel=context_parallel,
        pipeline_layers=pipeline_layers,
    )
    return sharded_as(arch, workload, sharding)


def sharded_as(arch: ArchSpec, workload: Workload, sharding: Sharding) -> ShardedPrediction:
    """The same of degrees that are told at once."""
    check_sharding(arch, workload, sharding)
    return ShardedPrediction(arch, workload, sharding)


def _entry(path: str, quantity: Quantity, value: int) -> Entry:
    return Entry(path=path, quantity=quantity, value=value, basis=Basis.PREDICTED)
