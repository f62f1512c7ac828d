"""Predict what each rank holds and sends in one pass: parameters, weights, cache, collectives.

The contract of what is run is docs/reference-sharding.md. Nothing here imports a framework. All ranks of a pipeline
stage hold equally much and do the same, and replicas are copies, so that one account stands for each stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from llmprof.ledger import Basis, Entry, Ledger, Quantity
from llmprof.predict.formats import plain_format
from llmprof.predict.layer import layer_caches
from llmprof.predict.leaf import Leaves, norm
from llmprof.predict.leaves import closing_leaves, embedding_leaves, layer_leaves, opening_leaves
from llmprof.predict.lowering import is_cache
from llmprof.predict.setting import Side, setting, sides
from llmprof.predict.sharding.collectives import Calls
from llmprof.predict.sharding.parts import kept_bytes, rank_values
from llmprof.sharding import Collective, Sharding, StageAccount, check_sharding
from llmprof.spec.arch import ArchSpec, LayerSpec
from llmprof.workload import Execution, Workload

__all__ = ["RankTotals", "ShardedPrediction", "sharded", "sharded_as"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTotals:
    """What any one rank of a pipeline stage holds and sends, all in all.

    `collective_bytes` is the payload of its `collective_calls`, `collective_wire_bytes` what it sends in rings.
    """

    stage: int
    params: int
    weight_bytes: int
    kv_cache_bytes: int
    collective_calls: int
    collective_bytes: int
    collective_wire_bytes: int

    @property
    def held_bytes(self) -> int:
        """What it keeps from pass to pass."""
        return self.weight_bytes + self.kv_cache_bytes


@dataclass(frozen=True, slots=True)
class _Part:
    """One layer, or what stands before or behind all of them: values of each leaf, bytes of each cache, calls."""

    params: Mapping[str, int]
    kept: Mapping[str, int]
    collectives: tuple[Collective, ...]


@dataclass(frozen=True, eq=False)
class ShardedPrediction:
    """What the ranks of one pass hold and send. Totals are cheap; the accounts of `stages` are made on first use."""

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

    @cached_property
    def stages(self) -> tuple[StageAccount, ...]:
        """The same leaf by leaf and call by call, at the paths that they have in the whole model."""
        return tuple(self._account(stage) for stage in range(self.sharding.pipeline_parallel))

    def layers_of(self, stage: int) -> range:
        """The layers of a stage, by their index in the model."""
        each = self.arch.n_layers // self.sharding.pipeline_parallel
        return range(stage * each, (stage + 1) * each)

    # --- the parts of a stage -------------------------------------------------------------------

    def _parts(self, stage: int) -> Iterator[tuple[str, _Part]]:
        """What a stage has, in the order of the call tree, each under the prefix of its paths."""
        if stage == 0:
            yield "", self._opening
        for index in self.layers_of(stage):
            yield f"layers.{index}.", self._layers[index]
        last = stage == self.sharding.pipeline_parallel - 1
        if last:
            yield "", self._closing
        else:
            sent = self._calls.to_next_stage(f"layers.{self.layers_of(stage)[-1]}")
            yield "", _Part({}, {}, tuple(sent))

    def _totals(self, stage: int) -> RankTotals:
        times: dict[int, int] = {}  # by identity: equal layers are the same object
        parts: dict[int, _Part] = {}
        for _, part in self._parts(stage):
            times[id(part)] = times.get(id(part), 0) + 1
            parts[id(part)] = part
        params = sum(times[key] * sum(part.params.values()) for key, part in parts.items())
        calls = [(times[key], call) for key, part in parts.items() for call in part.collectives]
        return RankTotals(
            stage=stage,
            params=params,
            weight_bytes=params * self._value_bytes,
            kv_cache_bytes=sum(times[key] * sum(part.kept.values()) for key, part in parts.items()),
            collective_calls=sum(often * call.count for often, call in calls),
            collective_bytes=sum(often * call.bytes for often, call in calls),
            collective_wire_bytes=sum(often * call.wire_bytes for often, call in calls),
        )

    def _account(self, stage: int) -> StageAccount:
        ledger, calls = Ledger(), list[Collective]()
        for prefix, part in self._parts(stage):
            for path, values in part.params.items():
                ledger.add(_entry(prefix + path, "params", values))
                ledger.add(_entry(prefix + path, "weight_bytes", values * self._value_bytes))
            for path, held in part.kept.items():
                ledger.add(_entry(prefix + path, "kv_cache_bytes", held))
            calls += [replace(call, path=prefix + call.path) for call in part.collectives]
        return StageAccount(stage=stage, ledger=ledger, collectives=tuple(calls))

    # --- what they are made of ------------------------------------------------------------------

    @cached_property
    def _calls(self) -> Calls:
        return Calls(arch=self.arch, workload=self.workload, sharding=self.sharding, sequences=self._side.setting.b)

    @cached_property
    def _side(self) -> Side:
        """The decoder in the pass of one replica, which has its share of the sequences."""
        own = replace(self.workload, batch=self.workload.batch // self.sharding.data_parallel)
        (side,) = sides(setting(self.arch, own, Execution(attention="fused")))
        return side

    @property
    def _value_bytes(self) -> int:
        return plain_format(self.workload.dtypes).bits // 8

    @cached_property
    def _opening(self) -> _Part:
        """Embedding, positions and their norm: of the first stage."""
        leaves = {**embedding_leaves(self.arch), **opening_leaves(self.arch, self.arch.main)}
        return _Part(self._values(leaves), {}, tuple(self._calls.of_embedding()))

    @cached_property
    def _closing(self) -> _Part:
        """The last norm and the head: of the last stage, which has a table of its own where the first stage has not.

        A tied matrix is the table that the first stage has, and stands once where that is the same one.
        """
        leaves: Leaves = {}
        if self.arch.main.final_norm is not None:
            leaves["final_norm"] = norm(self.arch.main.final_norm, "d", self.arch.d_model)
        leaves.update(closing_leaves(self.arch))
        values = self._values(leaves, borrowed=self.sharding.pipeline_parallel > 1)
        return _Part(values, {}, tuple(self._calls.of_head()))

    @cached_property
    def _layers(self) -> tuple[_Part, ...]:
        """Every layer; equal ones are the same object."""
        made: dict[LayerSpec, _Part] = {}
        known: dict[int, _Part] = {}  # by identity, because hashing a layer costs more than finding it
        for layer in self.arch.main.layers:
            if id(layer) not in known:
                if layer not in made:
                    made[layer] = self._layer(layer)
                known[id(layer)] = made[layer]
        return tuple(known[id(layer)] for layer in self.arch.main.layers)

    def _layer(self, layer: LayerSpec) -> _Part:
        leaves = layer_leaves(layer, self.arch.d_model, cached=self._side.decodes)
        kept = {
            f"{path}.{name}": tensor
            for path, held in layer_caches(self._side, layer).items()
            for name, tensor in held.items()
        }
        assert all(map(is_cache, kept)), kept
        held = kept_bytes(kept, self.sharding.tensor_parallel)
        return _Part(self._values(leaves, layer), held, tuple(self._calls.of_layer(layer)))

    def _values(self, leaves: Leaves, layer: LayerSpec | None = None, *, borrowed: bool = False) -> Mapping[str, int]:
        """A rank's values of every leaf; of those that another leaf owns too where they are `borrowed` by a copy."""
        ranks = self.sharding.tensor_parallel
        return {
            path: sum(rank_values(path, each, ranks, layer) for each in inside if each.owned or borrowed)
            for path, inside in leaves.items()
        }


def sharded(
    arch: ArchSpec,
    workload: Workload,
    *,
    tensor_parallel: int = 1,
    sequence_parallel: bool = False,
    pipeline_parallel: int = 1,
    data_parallel: int = 1,
) -> ShardedPrediction:
    """Predict `workload` of `arch`, spread over so many ranks of each kind.

    Raises InputError where docs/reference-sharding.md has no rule for it, naming what has none, or where a degree does
    not divide what it has to, listing those that do; and what `check_workload` raises.
    """
    sharding = Sharding(
        tensor_parallel=tensor_parallel,
        sequence_parallel=sequence_parallel,
        pipeline_parallel=pipeline_parallel,
        data_parallel=data_parallel,
    )
    return sharded_as(arch, workload, sharding)


def sharded_as(arch: ArchSpec, workload: Workload, sharding: Sharding) -> ShardedPrediction:
    """The same of degrees that are told at once."""
    check_sharding(arch, workload, sharding)
    return ShardedPrediction(arch, workload, sharding)


def _entry(path: str, quantity: Quantity, value: int) -> Entry:
    return Entry(path=path, quantity=quantity, value=value, basis=Basis.PREDICTED)
