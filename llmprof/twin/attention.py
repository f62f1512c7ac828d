"""Grouped-query self-attention, and the cross-attention of a decoder, around their core.

Axis legend: B batch, T tokens, M source tokens, S keys, H query heads, K key/value heads, h head_dim, D d_model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from torch import Tensor

from llmprof.spec import arch
from llmprof.twin import hf_eager, masks
from llmprof.twin.cache import Cache, CacheState, Heads, prepare_cache, prepare_cross_cache
from llmprof.twin.clip import QkvClip
from llmprof.twin.core import Core, CorePlan, in_training, plan_core
from llmprof.twin.desk import Desk
from llmprof.twin.leaf import Material, TensorLeaf
from llmprof.twin.linear import layer_matrix
from llmprof.twin.masks import PositionSight, Sight
from llmprof.twin.norms import norm_module
from llmprof.twin.output_gate import OutputGate
from llmprof.twin.passes import StackPass
from llmprof.twin.positions import QueryRope, RelativeBias, Rope
from llmprof.twin.prior import Prior
from llmprof.twin.projections import P, Projections, Site
from llmprof.twin.reference import NAMED, SOFTMAX
from llmprof.twin.sinks import SinkCore
from llmprof.twin.unfused import plan_unfused
from llmprof.twin.views import Span, View


class _GroupedQueries(Projections[P]):
    """What self- and cross-attention of this kind share: grouped heads, norms of their rows, a cache and the core."""

    references = (*NAMED, *SOFTMAX)

    def __init__(self, spec: arch.Gqa, site: Site, *, cached: bool) -> None:
        kv = Heads(spec.n_kv_heads, spec.head_dim)
        super().__init__(
            site,
            queries=Heads(spec.n_heads, spec.head_dim),
            keys=kv,
            values=kv,
            qkv_bias=spec.qkv_bias,
            out_bias=spec.out_bias,
            k_bias=spec.has_k_bias,
            own_kv=not spec.shared_kv,
        )
        self.spec = spec
        self.q_norm = self._head_norm(self.queries, site.material)
        self.k_norm = None if spec.shared_kv else self._head_norm(self.keys, site.material)
        self.cache = Cache(f"{site.path}.cache") if cached and not spec.shared_kv else None
        scale = spec.head_dim**-0.5 if spec.scale is None else spec.scale
        path = f"{site.path}.core"
        if spec.sinks:
            self.core: Core = SinkCore(path, scale=scale, n_heads=spec.n_heads, material=site.material)
        else:
            self.core = Core(path, scale=scale, softcap=spec.softcap)

    def _head_norm(self, heads: Heads, material: Material) -> TensorLeaf | None:
        """The norm of a row of queries or keys, where there is one: over each head, or over all of them at once."""
        if self.spec.qk_norm is None:
            return None
        match self.spec.qk_norm_over:
            case "head":
                return norm_module(self.spec.qk_norm, heads.width, material)
            case "each-head":
                return norm_module(self.spec.qk_norm, heads.width, material, heads=heads.number)
            case "all-heads":
                return norm_module(self.spec.qk_norm, heads.number * heads.width, material)
            case never:
                assert_never(never)

    def _normed(self, norm: TensorLeaf | None, x: Tensor) -> Tensor:
        """`[B, T, X, n]` behind its norm, where there is one."""
        if norm is None:
            return x
        return norm(x.flatten(2)).view(x.shape) if self.spec.qk_norm_over == "all-heads" else norm(x)

    def _plan(self, desk: Desk, see: Sight, *, own_bias: str | None = None) -> CorePlan:
        """How the core runs; `own_bias` names a bias that is no mere mask."""
        square = see.rows == see.keys
        if desk.execution.attention == "unfused":
            plan = plan_unfused(
                self.core.path,
                kind=see.kind,
                square=square,
                execution=desk.execution,
                softcap=self.spec.softcap,
                sinks=self.spec.sinks,
                own_bias=own_bias,
            )
        else:
            plan = plan_core(
                self.core.path,
                kind=see.kind,
                square=square,
                head_dim=self.spec.head_dim,
                dtype=desk.dtype,
                execution=desk.execution,
                softcap=self.spec.softcap,
                own_bias=own_bias is not None,
            )
        desk.launches(self.core.path, plan.kernel, over=self.core.takes(plan, see))
        return in_training(plan, self.core.path, desk.workload)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfPass:
    """What one self-attention prepares. `bias` is its constant bias, if it has one: `[T, S]` or `[H, T, S]`."""

    plan: CorePlan
    rotation: tuple[Tensor, Tensor] | None
    cache: CacheState | None
    bias: Tensor | None
    distances: Tensor | None
    """`[T, S]`, squared, and `prior_mask` `[T, S]`: what the prior takes, where there is one."""
    prior_mask: Tensor | None


class SelfAttention(_GroupedQueries[SelfPass]):
    """Attention of a stack to itself: `[B, T, D] -> [B, T, D]`."""

    def __init__(self, spec: arch.Gqa, site: Site) -> None:
        super().__init__(spec, site, cached=site.cached)
        self.position = site.position
        self.rope: Rope | QueryRope | None = None
        self.prior: Prior | None = None
        self.takes_relative_bias = False
        self.rel_bias: RelativeBias | None = None
        self.own = range(spec.n_heads)
        """The query heads that it has: a part, where ranks share them."""
        self.gate: OutputGate | None = None
        if spec.output_gate is not None:
            width = spec.n_heads * (spec.head_dim if spec.output_gate == "value" else 1)
            self.gate_proj = layer_matrix(site.d_model, width, bias=False, material=site.material)
            self.gate = OutputGate(per_head=spec.output_gate == "head")
        self.clip = None if spec.qkv_clip is None else QkvClip(spec.qkv_clip)
        match site.position:
            case arch.Rope() as rope:
                self.rope = (QueryRope if spec.shared_kv else Rope)(rope, spec.head_dim)
            case arch.T5Bias() as table:
                if table.per_layer:
                    self.rel_bias = RelativeBias(table, spec.n_heads, site.material)
                self.takes_relative_bias = not table.per_layer
            case arch.Gaussian():
                self.prior = Prior(site.material)
            case arch.Alibi() | arch.NoPosition():
                pass
            case never:
                assert_never(never)

    @staticmethod
    def view(spec: arch.Gqa, span: Span) -> View:
        """What an attention of this kind sees: what its stack does, or the part within its window or its chunk."""
        return View(
            sight=masks.sight(
                span.mask, spec.window, chunk=spec.chunk, rows=span.rows, context=span.context, prefix=span.prefix
            ),
            title=_title(spec, span),
        )

    def prepare(self, desk: Desk) -> SelfPass:
        see = self.view(self.spec, desk.span).sight
        assert isinstance(see, PositionSight)
        biased = isinstance(self.position, arch.Alibi | arch.T5Bias | arch.Gaussian)
        plan = self._plan(desk, see, own_bias=f"position {self.position.kind}" if biased else None)
        bias: Tensor | None = None
        distances: Tensor | None = None
        prior_mask: Tensor | None = None
        match self.position:
            case arch.Alibi():
                heads, own = self.spec.n_heads, self.own
                bias = desk.constant(
                    ("alibi", see, heads), lambda: masks.alibi(see, heads, desk.dtype, desk.device, own=own)
                )
            case arch.T5Bias() as table:
                desk.share_table(self.path, table, see)  # `rel_bias` makes the bias during the pass
            case arch.Gaussian():
                distances = desk.constant(
                    "squared distances", lambda: masks.squared_distances(see, desk.dtype, desk.device)
                )
                prior_mask = None if see.kind == "full" else desk.mask(see)
            case arch.Rope() | arch.NoPosition():
                if plan.kernel == "hf-eager":
                    bias = hf_eager.mask(desk, see)
                elif plan.takes_mask(see.kind):
                    bias = desk.mask(see)
            case never:
                assert_never(never)
        cache: CacheState | None = None
        if self.cache is not None:
            cache = prepare_cache(
                desk, self.cache.path, k=self.keys, v=self.values, window=self.spec.window, chunk=self.spec.chunk
            )
        if self.spec.shared_kv and desk.keeps:
            desk.read_too(f"{desk.loans.lender_of(self.path)}.cache", self.core.path)
        rotation = None if self.rope is None else self.rope.tables(desk)
        return SelfPass(
            plan=plan, rotation=rotation, cache=cache, bias=bias, distances=distances, prior_mask=prior_mask
        )

    def forward(self, x: Tensor, run: StackPass, relative_bias: Tensor | None) -> Tensor:
        now = self.prepared(run)
        if self.spec.shared_kv:
            q = self._q(x)
            g = None if self.gate is None else self.gate_proj(x)
            q = self._normed(self.q_norm, q)
            if isinstance(self.rope, QueryRope):
                assert now.rotation is not None
                q = self.rope(q, *now.rotation)
            k, v = run.loans.borrow(self.path)
        else:
            q, k, v = self._q(x), self._k(x), self._v(x)
            g = None if self.gate is None else self.gate_proj(x)
            if self.clip is not None:
                q, k, v = self.clip(q, k, v)
            q = self._normed(self.q_norm, q)
            k = self._normed(self.k_norm, k)
            if isinstance(self.rope, Rope):
                assert now.rotation is not None
                q, k = self.rope(q, k, *now.rotation)
            if self.cache is not None:
                k, v = self.cache(k, v, now.cache)
            else:
                k, v = k.transpose(1, 2), v.transpose(1, 2)
            run.loans.lend(self.path, k, v)
        bias = relative_bias if self.takes_relative_bias else now.bias
        if self.rel_bias is not None:
            bias = self.rel_bias(run.buckets, run.buckets_mask)
        if self.prior is not None:
            bias = self.prior(now.distances, now.prior_mask)
        o = self.core(q, k, v, bias, now.plan)
        del q, k, v, bias
        if self.gate is not None:
            o = self.gate(o, g)
            del g
        return self.o_proj(o)


def _title(spec: arch.Gqa, span: Span) -> str | None:
    """What tells an attention from those of its stack that see all that the stack's mask shows."""
    if spec.window is not None and span.mask == "bidirectional":
        reach = spec.window // 2
        return None if reach >= span.context - 1 else f"window of {spec.window}: {reach} to either side"
    if spec.window is not None:
        return None if spec.window >= span.context else f"window of {spec.window}"
    return None if spec.chunk is None or spec.chunk >= span.context else f"chunks of {spec.chunk}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossPass:
    """What one cross-attention prepares."""

    plan: CorePlan
    cache: CacheState | None


class CrossAttention(_GroupedQueries[CrossPass]):
    """Attention to the encoder's output, which prefill projects and decode finds in the cache."""

    def __init__(self, spec: arch.Gqa, site: Site) -> None:
        super().__init__(spec, site, cached=True)

    def prepare(self, desk: Desk) -> CrossPass:
        assert self.cache is not None
        see = masks.cross_sight(desk.rows, desk.workload.source_tokens)
        return CrossPass(
            plan=self._plan(desk, see), cache=prepare_cross_cache(desk, self.cache.path, k=self.keys, v=self.values)
        )

    def forward(self, x: Tensor, memory: Tensor | None, run: StackPass) -> Tensor:
        """`memory` is `[B, M, D]` where the encoder runs, and None in decode."""
        assert self.cache is not None
        now = self.prepared(run)
        q = self._q(x)
        if memory is not None:
            k, v = self._k(memory), self._v(memory)
            q = self._normed(self.q_norm, q)
            k = self._normed(self.k_norm, k)
            k, v = self.cache(k, v, now.cache)
        else:
            q = self._normed(self.q_norm, q)
            k, v = self.cache(None, None, now.cache)
        o = self.core(q, k, v, None, now.plan)
        del q, k, v
        return self.o_proj(o)
