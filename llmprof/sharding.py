"""A model spread over ranks: the degrees, what a rank's account looks like, and what is refused.

Torch-free, and shared by both halves: which models and degrees docs/reference-sharding.md has rules for is part of the
contract, what a rank holds and sends is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmprof.errors import InputError
from llmprof.ledger import Ledger, Quantity
from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    Glu,
    Gqa,
    LayerSpec,
    LmHead,
    Mlp,
    NoAttention,
    NoFfn,
    NoHead,
    NoPosition,
    Rope,
)
from llmprof.training_rules import unlike_dtypes
from llmprof.workload import QUANTISED, Workload, check_workload

CollectiveKind = Literal["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "send"]

LISTED = 1024
"""The largest degree that a message lists: a batch may have more divisors than anybody reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """How many ranks share a tensor, a pass through the layers, and the sequences of a batch.

    `sequence_parallel`: whether tensor-parallel ranks share the rows of the hidden state too. `expert_parallel`: how
    many of the tensor- and data-parallel ranks share the experts of a layer; it adds no ranks. `context_parallel`: how
    many share the tokens of a sequence.
    """

    tensor_parallel: int = 1
    sequence_parallel: bool = False
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1
    context_parallel: int = 1

    @property
    def ranks(self) -> int:
        """Of all replicas."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel * self.context_parallel

    @property
    def splits_rows(self) -> bool:
        """Whether a rank has a part of the rows of the hidden state."""
        return self.sequence_parallel and self.tensor_parallel > 1

    @property
    def sends_tokens(self) -> bool:
        """Whether tokens go to the ranks of their experts, rather than experts' shares to all ranks of a replica."""
        return self.expert_parallel > 1 and self.data_parallel > 1 and self.tensor_parallel % self.expert_parallel != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """All calls of one kind at one path, of one rank.

    `bytes` is their payload and `wire_bytes` what the rank sends in a ring, each summed over the `count` calls.
    """

    path: str
    kind: CollectiveKind
    count: int
    bytes: int
    wire_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAccount:
    """What any one rank of a pipeline stage holds (params, weight_bytes, kv_cache_bytes), runs and sends.

    What it runs is matmul_flops, matmul_flops_causal and hbm_bytes at its leaves and peak_live_bytes at the path "".
    `collectives` has one entry per path and kind, in no order that means anything. `unmeasured` says, by (path,
    quantity), what no rank can be seen to do, and why; a prediction leaves it empty.
    """

    stage: int
    ledger: Ledger
    collectives: tuple[Collective, ...]
    unmeasured: Mapping[tuple[str, Quantity], str] = field(default_factory=dict)


def check_sharding(arch: ArchSpec, workload: Workload, sharding: Sharding) -> None:
    """Raise InputError where `workload` of `arch` cannot be spread so, saying which degrees would do.

    NotApplicable, UnfitLength: as `check_workload` has it.
    """
    check_workload(arch, workload)
    s = sharding
    for name, value in (
        ("tensor_parallel", s.tensor_parallel),
        ("pipeline_parallel", s.pipeline_parallel),
        ("data_parallel", s.data_parallel),
        ("expert_parallel", s.expert_parallel),
        ("context_parallel", s.context_parallel),
    ):
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    for name, value in (("expert_parallel", s.expert_parallel), ("context_parallel", s.context_parallel)):
        if value > 1:
            raise InputError(f"{name} is {value}, for which docs/reference-sharding.md has no rule yet; leave it at 1")
    reason = without_rule(arch) or _workload_without_rule(workload)
    if reason is not None:
        raise InputError(f"{arch.label} cannot be sharded: {reason}, for which docs/reference-sharding.md has no rule")
    _check_tensor_parallel(arch, s.tensor_parallel)
    if s.splits_rows and workload.new_tokens % s.tensor_parallel:
        raise InputError(
            f"sequence parallelism over {s.tensor_parallel} ranks needs a multiple of {s.tensor_parallel} new tokens, "
            f"but there are {workload.new_tokens}; leave it out, as decode has to"
        )
    _check_divides("pipeline_parallel", s.pipeline_parallel, arch.n_layers, f"the {arch.n_layers} layers")
    _check_divides("data_parallel", s.data_parallel, workload.batch, f"the batch of {workload.batch}")


def without_rule(arch: ArchSpec) -> str | None:
    """Why `arch` is none of those that the page has rules for; None where it is."""
    if arch.structure != "causal-decoder":
        return f"its structure is {arch.structure}"
    if not isinstance(arch.head, LmHead | NoHead):
        return f"its head is of kind {arch.head.kind}"
    if arch.embedding_width is not None:
        return "its token table has a width of its own (embedding_width)"
    if arch.pooler or arch.type_vocab_size:
        return "it has a pooler or segments"
    for index, layer in enumerate(arch.main.layers):
        reason = _of_layer(layer)
        if reason is not None:
            return f"layers.{index} has {reason}"
    return None


def tensor_parallel_degrees(arch: ArchSpec) -> tuple[int, ...]:
    """The degrees that fit every layer of `arch`, an architecture that the page has rules for."""
    most = min((_gqa.n_heads for _gqa in _attentions(arch)), default=0)
    most = most or min(_widths(arch), default=1)
    return tuple(n for n in range(1, most + 1) if _misfit(arch, n) is None)


def _of_layer(layer: LayerSpec) -> str | None:
    """What of `layer` has no rule."""
    if layer.mixer is not None:
        return f"a mixer ({layer.mixer.kind}) beside its attention"
    if layer.cross_attention is not None:
        return "a cross-attention"
    if layer.block == "parallel" and not layer.first_norm:
        return "a parallel block without a first norm"
    match layer.attention:
        case Gqa() as gqa:
            if gqa.sinks or gqa.output_gate is not None or gqa.shared_kv:
                return "attention with sinks, an output gate or the keys and values of another layer"
            if not isinstance(layer.position, Rope | Alibi | NoPosition):
                return f"positions of kind {layer.position.kind}"
        case NoAttention():
            pass
        case other:
            return f"attention of kind {other.kind}"
    if not isinstance(layer.ffn, Mlp | Glu | NoFfn):
        return f"a feed-forward of kind {layer.ffn.kind}"
    return None


def _workload_without_rule(workload: Workload) -> str | None:
    """What of `workload` has no rule."""
    dtypes = workload.dtypes
    if workload.phase == "train":
        return "the phase is train"
    if workload.mtp:
        return "layers that predict further tokens (mtp) run"
    if dtypes.weights in QUANTISED:
        return f"weights are stored as {dtypes.weights}"
    return unlike_dtypes(dtypes.weights, dtypes.activations)


def _attentions(arch: ArchSpec) -> Iterator[Gqa]:
    return (layer.attention for layer in arch.main.layers if isinstance(layer.attention, Gqa))


def _widths(arch: ArchSpec) -> Iterator[int]:
    return (layer.ffn.d_ff for layer in arch.main.layers if isinstance(layer.ffn, Mlp | Glu))


def _misfit(arch: ArchSpec, n: int) -> str | None:
    """Why n ranks cannot share the layers of `arch`; None where they can."""
    for gqa in _attentions(arch):
        if gqa.n_heads % n:
            return f"it does not divide n_heads ({gqa.n_heads})"
        if gqa.n_kv_heads % n and n % gqa.n_kv_heads:
            return f"it neither divides n_kv_heads ({gqa.n_kv_heads}) nor is a multiple of them"
        if n > 1 and gqa.qk_norm is not None and gqa.qk_norm_over == "all-heads":
            return "it divides the heads that one norm of queries or keys runs over (all-heads), in layers"
    for d_ff in _widths(arch):
        if d_ff % n:
            return f"it does not divide d_ff ({d_ff})"
    return None


def _check_tensor_parallel(arch: ArchSpec, n: int) -> None:
    reason = _misfit(arch, n)
    if reason is not None:
        works = ", ".join(map(str, tensor_parallel_degrees(arch)))
        raise InputError(f"tensor_parallel is {n}, but {reason} of {arch.label}; use one of: {works}")


def _check_divides(name: str, degree: int, whole: int, what: str) -> None:
    if whole % degree:
        works = ", ".join(str(n) for n in range(1, min(whole, LISTED) + 1) if whole % n == 0)
        more = ", or a larger divisor" if whole > LISTED else ""
        raise InputError(f"{name} is {degree}, which does not divide {what}; use one of: {works}{more}")
