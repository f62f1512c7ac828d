"""What a rank holds and runs, part by part: what stands before the layers, each kind of layer, what stands behind them.

A part is that of a smaller model (`slices.py`), lowered like any other; a stage of a pipeline is a run of parts. Parts
are made once for an architecture, a pass and the degrees that divide them. Axis legend: see `predict/tensor.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from llmprof.predict import cost
from llmprof.predict.compulsory import Compulsory, of_ops
from llmprof.predict.constants import token_ids
from llmprof.predict.cost import NOTHING, Cost
from llmprof.predict.embedding import embed, open_stack
from llmprof.predict.head import logits
from llmprof.predict.layer import layer_caches, lower_layer
from llmprof.predict.lowering import is_cache
from llmprof.predict.norms import normalise
from llmprof.predict.relative import fetch
from llmprof.predict.setting import Setting, Side, setting, sides
from llmprof.predict.sharding.collectives import Calls
from llmprof.predict.sharding.experts import feed_of
from llmprof.predict.sharding.ring import ring_core
from llmprof.predict.sharding.tape import RankTape
from llmprof.predict.sharding.weights import Same, Weights, weights_of_rank
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.sharding import Collective, Sharding
from llmprof.spec.arch import ArchSpec, LayerSpec, LmHead
from llmprof.workload import Execution, Workload

FUSED = Execution(attention="fused")


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest sum of live tensors of a part, and the bytes of each constant that it takes."""

    nbytes: int
    constants: Mapping[tuple[object, ...], int]


@dataclass(frozen=True, slots=True)
class Run:
    """What a part runs: of each leaf that launches anything its cost, of all kernels what they move at least."""

    by_path: Mapping[str, Cost]
    cost: Cost
    least: Compulsory
    kinds: frozenset[str]


@dataclass(frozen=True, eq=False)
class Part:
    """One layer, or what stands before or behind all of them, by paths below it.

    `lower` writes its kernels onto a tape and returns what it comes to.
    """

    setting: Setting
    sharding: Sharding
    weights: Weights
    kept: Mapping[str, Tensor]
    collectives: tuple[Collective, ...]
    lower: Callable[[RankTape], Tensor]

    @cached_property
    def kept_bytes(self) -> Mapping[str, int]:
        """Bytes of all that is kept between tokens."""
        return {path: tensor.nbytes for path, tensor in self.kept.items()}

    @cached_property
    def cache_bytes(self) -> int:
        """Bytes of what is kept with a row for a token."""
        return sum(size for path, size in self.kept_bytes.items() if is_cache(path))

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of what is kept whatever the number of tokens."""
        return sum(self.kept_bytes.values()) - self.cache_bytes

    # Sums are kept and kernels are not: searches ask for one or the other of thousands of passes, and what they would
    # leave behind costs more than to lower a part twice.

    @cached_property
    def peak(self) -> Peak:
        """What is live of its pass."""
        return self._lowered[1]

    @cached_property
    def run(self) -> Run:
        """What its pass launches."""
        ops = self._lowered[0].kernels()
        by_path = cost.by_path(ops)
        whole = NOTHING
        for spent in by_path.values():
            whole = whole.plus(spent)
        least = of_ops(self.setting, self.weights.leaves, ops)
        return Run(by_path, whole, least, frozenset(op.kind for op in ops))

    @property
    def _lowered(self) -> tuple[RankTape, Peak]:
        made = self.setting
        tape = RankTape(made.activations, self.weights.tensors, self.sharding, self.collectives)
        result = self.lower(tape)
        most = tape.peak((result,))[0] if tape.items else result.nbytes
        return tape, Peak(most, {key: tensor.nbytes for key, tensor in made.constants.items()})


@dataclass(frozen=True)
class Parts:
    """The parts of one rank: `layers` are all of the model, of which equal ones are the same object."""

    opening: Part
    layers: tuple[Part, ...]
    closing: Part


def pass_of_rank(workload: Workload, sharding: Sharding) -> Workload:
    """The pass of one rank: its replica's sequences, and of them the tokens that it has."""
    s, own = sharding.context_parallel, workload.batch // sharding.data_parallel
    if s == 1:
        return replace(workload, batch=own)
    return replace(workload, batch=own, new_tokens=workload.new_tokens // s, context=workload.context // s)


def parts_of(arch: ArchSpec, workload: Workload, sharding: Sharding) -> Parts:
    """The parts of one rank of a stage in a pass that `check_sharding` has accepted.

    Whether there are stages matters at the ends alone: with tied embeddings the last has a table of its own.
    """
    own = pass_of_rank(workload, sharding)
    staged = sharding.pipeline_parallel > 1
    replicas = sharding.data_parallel if sharding.sends_tokens else 1
    divided = replace(sharding, data_parallel=replicas, pipeline_parallel=1, pipeline_layers=())
    return _made(Same(arch), own, divided, staged)


@lru_cache(maxsize=256)
def _made(same: Same, workload: Workload, sharding: Sharding, staged: bool) -> Parts:
    stored = weights_of_rank(same, sharding, workload.dtypes, staged=staged)
    calls = Calls(arch=same.arch, workload=workload, sharding=sharding)
    layers: dict[int, Part] = {}
    for layer, of_rank, weights in zip(same.arch.main.layers, stored.arch.main.layers, stored.layers, strict=True):
        if id(of_rank) not in layers:
            made = tuple(calls.of_layer(layer))
            layers[id(of_rank)] = _layer(_side(stored.arch, workload, sharding), sharding, of_rank, weights, made)
    return Parts(
        _opening(_side(stored.arch, workload, sharding), sharding, stored.opening, tuple(calls.of_embedding())),
        tuple(layers[id(layer)] for layer in stored.arch.main.layers),
        _closing(_side(stored.arch, workload, sharding), sharding, stored.closing, tuple(calls.of_head())),
    )


def _side(arch: ArchSpec, workload: Workload, sharding: Sharding) -> Side:
    """The decoder in the pass of a rank, with constants of its own."""
    made = setting(arch, workload, FUSED)
    (side,) = sides(made if sharding.context_parallel == 1 else replace(made, core=ring_core))
    return side


def _opening(side: Side, sharding: Sharding, weights: Weights, calls: tuple[Collective, ...]) -> Part:
    """Embedding, positions and their norm: of the first stage."""

    def lower(tape: RankTape) -> Tensor:
        ids = token_ids(side)
        x = embed(tape, side, ids) if sharding.tensor_parallel == 1 else _own_embed(tape, side, ids)
        return open_stack(tape, side, x)

    return Part(side.setting, sharding, weights, {}, calls, lower)


def _own_embed(tape: RankTape, side: Side, ids: Tensor) -> Tensor:
    """The leaf `embed` with some rows of the table: zeros in place of the others, then the sum of all ranks."""
    with tape.module("embed", ids):
        (table,) = tape.parameters()
        local, foreign = tape.foreign(ids)
        x = fetch(tape, local, {**side.rows, **table.without("v")})
        tape.overwrite("masked_fill_", x, foreign)
        return tape.across("sum", x)


def _layer(side: Side, sharding: Sharding, layer: LayerSpec, weights: Weights, calls: tuple[Collective, ...]) -> Part:
    caches = layer_caches(side, layer)
    kept = {f"{path}.{name}": tensor for path, held in caches.items() for name, tensor in held.items()}

    def lower(tape: RankTape) -> Tensor:
        x = _hidden(tape, side, sharding)
        result, _ = lower_layer(tape, side, layer, caches, x, None, None, feed=feed_of(sharding))
        tape.touch((x,))  # a module's input lives until it returns
        return result

    return Part(side.setting, sharding, weights, kept, calls, lower)


def _closing(side: Side, sharding: Sharding, weights: Weights, calls: tuple[Collective, ...]) -> Part:
    """The last norm and the head: of the last stage."""
    head, wanted, final = side.setting.arch.head, side.setting.workload.logits, side.stack.final_norm

    def lower(tape: RankTape) -> Tensor:
        x = _hidden(tape, side, sharding)
        if final is not None:
            x = normalise(tape, side.setting, "final_norm", final, x)
        if wanted == "none" or not isinstance(head, LmHead):
            return x
        return logits(tape, side.setting, head, x)

    return Part(side.setting, sharding, weights, {}, calls, lower)


def _hidden(tape: Tape, side: Side, sharding: Sharding) -> Tensor:
    """The hidden state as the last part left it: the rank's rows of it."""
    own = side.tokens // sharding.tensor_parallel if sharding.splits_rows else side.tokens
    return tape.allocate("x", {**side.rows, side.row: own, "d": side.setting.arch.d_model})
