"""What one pass asks of each device: FLOPs, the bytes that it has to move, and what its links have to carry.

All of it is that of `llmprof count`: of the op list with fused attention, on the rank of each pipeline stage that has
the most to do. Of op-level traffic the part that no kernel can avoid bounds a time (`predict/compulsory.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from llmprof.planning.contexts import chunks, sampled
from llmprof.planning.demand import Demand
from llmprof.planning.even_experts import as_divided, deals_unevenly, sent_bytes, without_experts
from llmprof.predict.api import predict
from llmprof.predict.compulsory import compulsory
from llmprof.routing import BALANCED, Routing
from llmprof.sharding import Collective, CollectiveKind, Sharding
from llmprof.spec.arch import ArchSpec, Moe
from llmprof.workload import Dtypes, Execution, LatentForm, Logits, Phase, Workload

if TYPE_CHECKING:
    from llmprof.predict.sharding.api import RankTotals

FUSED = Execution(attention="fused")

WIRE_SHARE: dict[CollectiveKind, float] = {"all-reduce": 0.5}
"""Kind -> the part of what a ring sends that any way of doing it has to carry in one direction; all of it elsewhere.

A ring's all-reduce carries 2 (n - 1) / n X. Where switches add up, as NVLink SHARP does
(https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html, NCCL_NVLS_ENABLE, recalled), (n - 1) / n X of
summands still leave a device. What the other kinds carry leaves or enters each device however it is routed.
"""


@dataclass(frozen=True, slots=True)
class Work:
    """Of one device in one pass, or of several passes together.

    `flops` are those of contractions that the mask lets through, `op_level_bytes` all that kernels read and write
    (`weight_bytes` and `cache_bytes` are the least of it), `link_bytes` what one direction of its links has to carry.
    """

    flops: float
    weight_bytes: float
    cache_bytes: float
    op_level_bytes: float
    link_bytes: float

    @property
    def moved_bytes(self) -> float:
        """What has to come from memory or go there."""
        return self.weight_bytes + self.cache_bytes

    def plus(self, other: Work, times: float = 1) -> Work:
        """This and `times` the other."""
        return Work(
            self.flops + times * other.flops,
            self.weight_bytes + times * other.weight_bytes,
            self.cache_bytes + times * other.cache_bytes,
            self.op_level_bytes + times * other.op_level_bytes,
            self.link_bytes + times * other.link_bytes,
        )

    def times(self, factor: float) -> Work:
        """`factor` of it."""
        return NO_WORK.plus(self, factor)


NO_WORK = Work(0, 0, 0, 0, 0)

EVEN_FROM = 2
"""Sequences from which on a step's work grows evenly with them, in a model without experts."""

Stages = tuple[Work, ...]
"""The work of one rank of each pipeline stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The decode steps of an answer: what one of them asks for on average, at least, and the contexts of both ends."""

    stages: Stages
    first_context: int
    last_context: int


class Predictions:
    """The passes of one architecture in one choice of dtypes. Each is predicted once, whatever the device."""

    def __init__(
        self,
        arch: ArchSpec,
        dtypes: Dtypes,
        demand: Demand,
        *,
        routing: Routing = BALANCED,
        latent: LatentForm = "absorbed",
    ) -> None:
        self.arch, self.dtypes, self.demand = arch, dtypes, demand
        self.routing, self.latent = routing, latent
        self._mixtures = {layer.ffn for stack in arch.stacks for layer in stack.layers if isinstance(layer.ffn, Moe)}
        self.predicted = 0
        """How many passes have been predicted: no more than there are different ones."""
        self._known: dict[tuple[Workload, Sharding], Stages] = {}
        self._alone: dict[Sharding, Stages] = {}
        self._decoded: dict[tuple[Sharding, int], Steps] = {}

    def prefill(self, sharding: Sharding) -> Stages:
        """One prompt of one replica, as if in one pass."""
        return self.of(self.workload("prefill", batch=1, context=self.demand.prompt_tokens), sharding)

    def alone(self, sharding: Sharding) -> Stages:
        """One prompt while nothing else runs, as if in one pass: replicas that share experts have none beside it.

        Such a prompt has the experts of all ranks to itself, and the rest of the layers of one rank.
        """
        if sharding not in self._alone:
            self._alone[sharding] = self._by_itself(sharding)
        return self._alone[sharding]

    def _by_itself(self, sharding: Sharding) -> Stages:
        every = self.prefill(sharding)
        if not sharding.sends_tokens:
            return every
        workload = self.workload("prefill", batch=1, context=self.demand.prompt_tokens)
        without = _whole(self._dense, workload)
        of_all = (each.plus(own, -1) for each, own in zip(every, without, strict=True))
        return tuple(own.plus(each, 1 / sharding.data_parallel) for own, each in zip(without, of_all, strict=True))

    @cached_property
    def _dense(self) -> ArchSpec:
        """The architecture without its experts, nor layers that have nothing else."""
        return without_experts(self.arch, shared=False)

    def decode(self, sharding: Sharding, batch: int) -> Steps | None:
        """One step of `batch` sequences of a replica; None where nothing is decoded after the prompt.

        The prompt's pass makes the first token of an answer, so that N tokens take N - 1 steps.
        """
        if not self.decodes:
            return None
        if (sharding, batch) not in self._decoded:
            self._decoded[sharding, batch] = self._mean_step(sharding, batch)
        return self._decoded[sharding, batch]

    def _mean_step(self, sharding: Sharding, batch: int) -> Steps:
        first, last = self.contexts
        mean: list[Work] | None = None
        for context, share in sampled(first, last, chunks(self.arch)).items():
            found = self.of(self.workload("decode", batch=batch, context=context), sharding)
            before = mean or [NO_WORK] * len(found)
            mean = [each.plus(work, share) for each, work in zip(before, found, strict=True)]
        assert mean is not None
        return Steps(stages=tuple(mean), first_context=first, last_context=last)

    def microbatches(self, sharding: Sharding, batch: int) -> tuple[Stages, Stages] | None:
        """A step of one of as many microbatches as there are stages, rounded down, and of all `batch` sequences."""
        whole = self.decode(sharding, batch)
        part = self.decode(sharding, max(1, batch // sharding.pipeline_parallel))
        return None if whole is None or part is None else (part.stages, whole.stages)

    @property
    def decodes(self) -> bool:
        """Whether there is a step behind the prompt."""
        return self.arch.structure != "encoder" and self.demand.output_tokens > 1

    @property
    def contexts(self) -> tuple[int, int]:
        """What the first and the last step of an answer attend to, the new token included."""
        before = 1 if self.arch.structure == "encoder-decoder" else self.demand.prompt_tokens
        return before + 1, before + self.demand.output_tokens - 1

    def workload(self, phase: Phase, *, batch: int, context: int) -> Workload:
        """A pass of the request: of an encoder-decoder the prompt is the source, and the answer begins at one token."""
        arch, prompt = self.arch, self.demand.prompt_tokens
        translates = arch.structure == "encoder-decoder"
        if translates and phase == "prefill":
            context = 1
        return Workload(
            phase=phase,
            batch=batch,
            new_tokens=1 if phase == "decode" else context,
            context=context,
            source_tokens=prompt if translates else 0,
            prefix_tokens=prompt if arch.structure == "prefix-decoder" else 0,
            logits=_logits(arch, phase),
            dtypes=self.dtypes,
            routing=self.routing,
            latent=self.latent,
        )

    def of(self, workload: Workload, sharding: Sharding) -> Stages:
        """The work of every stage. InputError where the architecture cannot be spread so, as `sharded_as` has it."""
        one = replace(sharding, data_parallel=1)
        if sharding.sends_tokens:
            if deals_unevenly(workload, sharding, self._mixtures):
                return self._evenly_sent(workload, sharding)
            one, workload = sharding, replace(workload, batch=workload.batch * sharding.data_parallel)
        one = as_divided(one, self.routing, self._mixtures, self.dtypes)
        start = self._even_from(workload, one)
        if start is not None and workload.batch > start + 1:
            few, more = (self.of(replace(workload, batch=start + n), one) for n in (0, 1))
            further = workload.batch - start
            return tuple(a.plus(b.plus(a, -1), further) for a, b in zip(few, more, strict=True))
        key = (workload, one)
        found = self._known.get(key)
        if found is None:
            self.predicted += 1
            found = self._known[key] = _whole(self.arch, workload) if one == Sharding() else _ranks(self.arch, *key)
        return found

    def _evenly_sent(self, workload: Workload, sharding: Sharding) -> Stages:
        """A rank's own part, and of all that experts and routers do its share; the same of what is sent."""
        replicas = sharding.data_parallel
        every = replace(workload, batch=workload.batch * replicas)
        found = self._known.get((every, sharding))
        if found is None:
            self.predicted += 1
            (own,), (others,), (whole,) = (
                _whole(arch, asked)
                for arch, asked in ((self._unrouted, workload), (self._unrouted, every), (self.arch, every))
            )
            made = own.plus(whole.plus(others, -1), 1 / replicas)
            found = (replace(made, link_bytes=sent_bytes(self.arch, workload, replicas)),)
            self._known[every, sharding] = found
        return found

    @cached_property
    def _unrouted(self) -> ArchSpec:
        return without_experts(self.arch, shared=True)

    def _even_from(self, workload: Workload, sharding: Sharding) -> int | None:
        """From how many sequences on each further one adds as much to a step as the one before; None where none does.

        One sequence alone is a regime of its own. Of `balanced` experts each further token touches as many more until
        all are touched. Not so where they are drawn or lie on several ranks, of which the first has its share in turns,
        nor where the elements of an all-reduce are rounded up to the ranks.
        """
        if workload.phase != "decode" or self.arch.d_model % sharding.tensor_parallel:
            return None
        starts = {EVEN_FROM}
        if self._mixtures:
            if self.routing.kind == "random" or sharding.expert_parallel > 1:
                return None
            if self.routing.kind == "balanced":
                starts |= {-(-each.n_experts // each.top_k) for each in self._mixtures}
        return max((each for each in starts if EVEN_FROM <= each <= workload.batch), default=None)


def _logits(arch: ArchSpec, phase: Phase) -> Logits:
    if arch.head.kind == "none":
        return "none"
    return "last" if phase == "prefill" and arch.structure != "encoder" else "all"


def _whole(arch: ArchSpec, workload: Workload) -> Stages:
    """All of it on one device."""
    made = predict(arch, workload, FUSED)
    least = compulsory(made.program)
    return (Work(made.cost.causal_flops, least.weight_bytes, least.cache_bytes, made.cost.hbm_bytes, 0),)


def _ranks(arch: ArchSpec, workload: Workload, sharding: Sharding) -> Stages:
    from llmprof.predict.sharding.api import sharded_as

    return tuple(map(_rank, sharded_as(arch, workload, sharding).ranks))


def _rank(rank: RankTotals) -> Work:
    own = rank.own
    calls = ((call, times) for part, times in own.parts for call in part.collectives)
    least = own.least
    return Work(own.cost.causal_flops, least.weight_bytes, least.cache_bytes, own.cost.hbm_bytes, carried_bytes(calls))


def carried_bytes(calls: Iterable[tuple[Collective, int]]) -> float:
    """What one direction of a device's links has to carry of collectives, each made so many times.

    Sends to the next stage are not among them: it may stand in another node, of whose links nothing is known.
    """
    return sum(times * WIRE_SHARE.get(call.kind, 1.0) * call.wire_bytes for call, times in calls if call.kind != "send")
