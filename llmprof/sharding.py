"""A model spread over ranks: the degrees, what a rank's account looks like, and what is refused.

Torch-free, and shared by both halves: which models and degrees docs/reference-sharding.md has rules for is part of the
contract, what a rank holds and sends is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmprof.errors import InputError
from llmprof.ledger import Ledger, Quantity
from llmprof.sharding_degrees import (
    check_context_parallel,
    check_divides,
    expert_misfit,
    list_of,
    tensor_misfit,
    tensor_parallel_degrees,
)
from llmprof.sharding_rules import facts, without_rule, workload_without_rule
from llmprof.sharding_stages import check_stages, depths
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload, check_workload

__all__ = [
    "Collective",
    "CollectiveKind",
    "Sharding",
    "StageAccount",
    "check_sharding",
    "expert_parallel_degrees",
    "tensor_parallel_degrees",
    "without_rule",
]

CollectiveKind = Literal["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "send"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """How many ranks share a tensor, a pass through the layers, and the sequences of a batch.

    `sequence_parallel`: whether tensor-parallel ranks share the rows of the hidden state too. `expert_parallel`: how
    many of the tensor- and data-parallel ranks share the experts of a layer; it adds no ranks. `context_parallel`: how
    many share the tokens of a sequence. `pipeline_layers`: how many layers each stage has; () as evenly as can be.
    """

    tensor_parallel: int = 1
    sequence_parallel: bool = False
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1
    context_parallel: int = 1
    pipeline_layers: tuple[int, ...] = ()

    def stage_depths(self, n_layers: int) -> tuple[int, ...]:
        """How many of `n_layers` each stage has."""
        return depths(n_layers, self.pipeline_parallel, self.pipeline_layers)

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
    reason = without_rule(arch) or workload_without_rule(workload)
    if reason is not None:
        raise InputError(f"{arch.label} cannot be sharded: {reason}, for which docs/reference-sharding.md has no rule")
    indivisible = facts(arch).indivisible
    if indivisible is not None and (s.tensor_parallel, s.expert_parallel, s.context_parallel) != (1, 1, 1):
        raise InputError(
            f"{arch.label} has stages and replicas alone: {indivisible}, for which, where ranks share it, "
            "docs/reference-sharding.md has no rule; leave tensor_parallel, expert_parallel and context_parallel at 1"
        )
    _check_tensor_parallel(arch, workload, s)
    if s.context_parallel > 1:
        check_context_parallel(arch, workload, s.context_parallel)
    if s.splits_rows and workload.new_tokens // s.context_parallel % s.tensor_parallel:
        shared = f" on each of {s.context_parallel} ranks that share a sequence" if s.context_parallel > 1 else ""
        raise InputError(
            f"sequence parallelism over {s.tensor_parallel} ranks needs a multiple of {s.tensor_parallel} new tokens, "
            f"but there are {workload.new_tokens // s.context_parallel}{shared}; leave it out, as decode has to"
        )
    check_stages(arch.label, arch.n_layers, s.pipeline_parallel, s.pipeline_layers)
    check_divides("data_parallel", s.data_parallel, workload.batch, f"the batch of {workload.batch}")
    if s.expert_parallel > 1:
        _check_expert_parallel(arch, workload, s)


def expert_parallel_degrees(arch: ArchSpec, *, tensor_parallel: int, data_parallel: int) -> tuple[int, ...]:
    """How many of so many ranks may share the experts of each layer of `arch`; 1 alone where it has none."""
    ranks = tensor_parallel * data_parallel
    tried = [x for x in range(1, tensor_parallel + 1) if tensor_parallel % x == 0]
    if data_parallel > 1:
        tried.append(ranks)
    return tuple(
        x for x in tried if x == 1 or expert_misfit(arch, x, tensor=tensor_parallel, data=data_parallel) is None
    )


def _check_tensor_parallel(arch: ArchSpec, workload: Workload, sharding: Sharding) -> None:
    n, x, dtypes = sharding.tensor_parallel, sharding.expert_parallel, workload.dtypes
    # Experts are cut by columns only as far as they are not dealt out.
    dealt = x if n % x == 0 else 1
    reason = tensor_misfit(arch, n, columns=1 if sharding.sends_tokens else n // dealt, dtypes=dtypes)
    if reason is not None:
        works = list_of(tensor_parallel_degrees(arch, expert_parallel=dealt, dtypes=dtypes))
        raise InputError(f"tensor_parallel is {n}, but {reason} of {arch.label}; use one of: {works}")


def _check_expert_parallel(arch: ArchSpec, workload: Workload, sharding: Sharding) -> None:
    s = sharding
    reason = expert_misfit(arch, s.expert_parallel, tensor=s.tensor_parallel, data=s.data_parallel)
    if reason is not None:
        works = list_of(expert_parallel_degrees(arch, tensor_parallel=s.tensor_parallel, data_parallel=s.data_parallel))
        raise InputError(f"expert_parallel is {s.expert_parallel}, but {reason}; use one of: {works}")
    if workload.routing.kind == "random":
        raise InputError(
            f"expert_parallel is {s.expert_parallel} and the routing is random, by which each rank's experts get "
            "another number of tokens; use balanced or concentrated"
        )
    if not s.sends_tokens:
        return
    if s.context_parallel > 1:
        raise InputError(
            f"expert_parallel is {s.expert_parallel}, more than the {s.tensor_parallel} ranks of a replica, and "
            f"context_parallel is {s.context_parallel}, for which together docs/reference-sharding.md has no rule"
        )
    if s.tensor_parallel > 1 and not s.sequence_parallel:
        raise InputError(
            f"expert_parallel is {s.expert_parallel}, all ranks of {s.data_parallel} replicas, but the "
            f"{s.tensor_parallel} of a replica would send the same tokens; add sequence parallelism, or let "
            f"{s.tensor_parallel} ranks share the experts"
        )
    known = facts(arch)
    if known.parallel_experts or known.latent_experts:
        what = "experts in parallel layers" if known.parallel_experts else "experts that see a latent"
        raise InputError(
            f"expert_parallel is {s.expert_parallel}, more than the {s.tensor_parallel} ranks of a replica, and "
            f"{arch.label} has {what}, for which docs/reference-sharding.md has no rule"
        )
