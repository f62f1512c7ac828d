"""Grouped-query attention: self-attention and cross-attention around their core.

reference-execution.md, section 5; options: reference-options.md, section 3. Axis legend: see `tensor.py`. Projected
queries are [b, t, q] and seen as [b, t, k, g, h].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from llmprof.predict import constants
from llmprof.predict.cache import append, fresh, keys_and_values, store
from llmprof.predict.core import Bias, Scoring
from llmprof.predict.gaussian import prior, prior_parameters
from llmprof.predict.heads import heads_outside
from llmprof.predict.leaf import Leaves, Parameter, matrix, norm_of
from llmprof.predict.linear import linear
from llmprof.predict.lowering import Kept
from llmprof.predict.masks import Sight, full
from llmprof.predict.norms import normalise, normalise_heads
from llmprof.predict.relative import bias_of_table
from llmprof.predict.rotary import rotate, rotate_queries
from llmprof.predict.setting import Setting, Side
from llmprof.predict.shared_kv import KeysAndValues
from llmprof.predict.softmax import softmax_core, softmax_kernel
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.spec.arch import Alibi, Gaussian, Gqa, LayerPosition, NoPosition, Norm, Rope, T5Bias


@dataclass(frozen=True, slots=True)
class GqaLowering:
    """Multi-head, multi-query and grouped-query attention. Members: see `Lowering`."""

    spec: Gqa

    @property
    def scoring(self) -> Scoring:
        """Scores times `scale`, or head_dim ** -0.5, under a soft cap where there is one, and beside sinks."""
        spec = self.spec
        return Scoring(spec.head_dim**-0.5 if spec.scale is None else spec.scale, spec.softcap, spec.sinks)

    def leaves(self, d: int, position: LayerPosition, *, cached: bool) -> Leaves:
        spec = self.spec
        q, kv = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
        leaves: Leaves = {"q_proj": matrix("q", q, "d", d, bias=spec.qkv_bias)}
        if not spec.shared_kv:
            leaves["k_proj"] = matrix("kv", kv, "d", d, bias=spec.has_k_bias)
            leaves["v_proj"] = matrix("kv", kv, "d", d, bias=spec.qkv_bias)
        match spec.output_gate:
            case "value":
                leaves["gate_proj"] = matrix("q", q, "d", d, bias=False)
            case "head":
                leaves["gate_proj"] = matrix("n", spec.n_heads, "d", d, bias=False)
        if spec.qk_norm is not None:
            leaves["q_norm"] = self._norm_of(spec.qk_norm, "n", spec.n_heads, "q")
            if not spec.shared_kv:
                leaves["k_norm"] = self._norm_of(spec.qk_norm, "k", spec.n_kv_heads, "kv")
        if spec.qkv_clip is not None:
            leaves["clip"] = ()
        if isinstance(position, Rope):
            leaves["rope"] = ()
        if cached and not spec.shared_kv:
            leaves["cache"] = ()
        if isinstance(position, Gaussian):
            leaves["prior"] = prior_parameters()
        if isinstance(position, T5Bias) and position.per_layer:
            leaves["rel_bias"] = (Parameter("weight", {"buckets": position.n_buckets, "n": spec.n_heads}),)
        leaves["core"] = (Parameter("sinks", {"n": spec.n_heads}),) if spec.sinks else ()
        if spec.output_gate is not None:
            leaves["gate"] = ()
        leaves["o_proj"] = matrix("d", d, "q", q, bias=spec.out_bias)
        return leaves

    def kept(self, side: Side) -> Kept:
        spec = self.spec
        if spec.shared_kv:
            return {}
        return keys_and_values(side, spec.n_kv_heads, side.cache_rows(spec.window or spec.chunk), spec.head_dim)

    def kept_of_source(self, side: Side) -> Kept:
        """The same as cross-attention: the keys and values of the source tokens."""
        spec = self.spec
        made = keys_and_values(side, spec.n_kv_heads, side.setting.workload.source_tokens, spec.head_dim)
        return {path: tensor.renamed("c", "m") for path, tensor in made.items()}

    @property
    def tokens_per_row(self) -> Mapping[str, int]:
        return {"cache.k": 1, "cache.v": 1}

    def attend(
        self, tape: Tape, side: Side, position: LayerPosition, x: Tensor, relative: Tensor | None, held: Kept
    ) -> Tensor:
        o, _ = self.attend_over(tape, side, position, x, relative, held, None)
        return o

    def attend_over(
        self,
        tape: Tape,
        side: Side,
        position: LayerPosition,
        x: Tensor,
        relative: Tensor | None,
        held: Kept,
        borrowed: KeysAndValues | None,
    ) -> tuple[Tensor, KeysAndValues]:
        """The same over `borrowed` keys and values where the layer has none of its own; and what its core took."""
        spec, setting = self.spec, side.setting
        sight = side.sight(spec)
        with tape.module("attn", x):
            q, own = linear(tape, "q_proj", x), None
            if not spec.shared_kv:
                own = linear(tape, "k_proj", x), linear(tape, "v_proj", x)
            gate = None if spec.output_gate is None else linear(tape, "gate_proj", x)
            if own is not None and spec.qkv_clip is not None:
                q, *clipped = self._clipped(tape, q, *own)
                own = clipped[0], clipped[1]
            q = self._query_heads(tape, setting, q)
            if own is None:
                assert borrowed is not None
                taken = borrowed
                if isinstance(position, Rope):
                    q = rotate_queries(tape, side, position, q)
            else:
                k, v = self._key_heads(tape, setting, own[0]), self._kv_heads(own[1])
                if isinstance(position, Rope):
                    q, k = rotate(tape, side, position, q, k)
                if held:
                    k, v = append(tape, side, sight, held, k, v, window=spec.window, chunk=spec.chunk)
                else:
                    k, v = fresh(k, side.row), fresh(v, side.row)
                taken = KeysAndValues(k, v)
            bias = self._bias(tape, side, position, sight, relative)
            o = softmax_core(tape, side, self.scoring, sight, q, *taken, bias)
            if gate is not None:
                o = self._gated(tape, o, gate)
            return linear(tape, "o_proj", o), taken

    def attend_source(self, tape: Tape, side: Side, x: Tensor, memory: Tensor | None, held: Kept) -> Tensor:
        """The module `cross_attn` on x [b, t, d]: keys and values of `memory` [b, m, d], or in decode those cached."""
        setting = side.setting
        inputs = (x,) if memory is None else (x, memory)
        with tape.module("cross_attn", *inputs):
            q = linear(tape, "q_proj", x)
            projected: tuple[Tensor, Tensor] | None = None
            if memory is not None:
                projected = linear(tape, "k_proj", memory), linear(tape, "v_proj", memory)
            q = self._query_heads(tape, setting, q)
            if projected is not None:
                projected = self._key_heads(tape, setting, projected[0]), self._kv_heads(projected[1])
            if held:
                if projected is not None:
                    store(tape, held, *projected)
                k, v = held["cache.k"], held["cache.v"]
            else:
                assert projected is not None
                k, v = heads_outside(projected[0]), heads_outside(projected[1])
            o = softmax_core(tape, side, self.scoring, self._source_sight(side), q, k, v, crossing=True)
            return linear(tape, "o_proj", o)

    def kernels(self, side: Side, position: LayerPosition) -> tuple[str, ...]:
        biased = isinstance(position, Alibi | T5Bias | Gaussian)
        sight = side.sight(self.spec)
        return (softmax_kernel(side, self.scoring, self.spec.head_dim, sight, biased=biased),)

    def source_kernels(self, side: Side) -> tuple[str, ...]:
        """The same of the core that `attend_source` launches."""
        return (softmax_kernel(side, self.scoring, self.spec.head_dim, self._source_sight(side)),)

    def _bias(
        self, tape: Tape, side: Side, position: LayerPosition, sight: Sight, relative: Tensor | None
    ) -> Bias | None:
        """What the position adds to the scores, the mask in it; None where it adds nothing."""
        match position:
            case Alibi():
                return Bias(constants.alibi(side, self.spec.n_heads, sight), shared=False)
            case T5Bias(per_layer=True):
                return Bias(bias_of_table(tape, side, sight, self.spec.n_heads, "rel_bias"), shared=False)
            case T5Bias():
                assert relative is not None
                return Bias(relative, shared=False)
            case Gaussian():
                return Bias(prior(tape, side, sight), shared=True)
            case Rope() | NoPosition():
                return None
        assert_never(position)

    @staticmethod
    def _source_sight(side: Side) -> Sight:
        return full(side.tokens, side.setting.workload.source_tokens)

    def _norm_of(self, spec: Norm, heads: str, n: int, row: str) -> tuple[Parameter, ...]:
        """The norm of queries or keys of `n` heads: a weight for every one of them, for each, or for all at once."""
        h = self.spec.head_dim
        match self.spec.qk_norm_over:
            case "head":
                return norm_of(spec, {"h": h})
            case "each-head":
                return norm_of(spec, {heads: n, "h": h})
            case "all-heads":
                return norm_of(spec, {row: n * h})
        assert_never(self.spec.qk_norm_over)

    def _query_heads(self, tape: Tape, setting: Setting, x: Tensor) -> Tensor:
        """[b, t, q] as [b, t, k, g, h], normalised where the spec says so."""
        spec = self.spec
        return self._heads(tape, setting, "q_norm", x, k=spec.n_kv_heads, g=spec.queries_per_kv_head)

    def _key_heads(self, tape: Tape, setting: Setting, x: Tensor) -> Tensor:
        """[b, t, kv] as [b, t, k, h], normalised where the spec says so."""
        return self._heads(tape, setting, "k_norm", x, k=self.spec.n_kv_heads)

    def _kv_heads(self, x: Tensor) -> Tensor:
        """[b, t, kv] as [b, t, k, h]."""
        return x.seen_as(**_rows(x), k=self.spec.n_kv_heads, h=self.spec.head_dim)

    def _heads(self, tape: Tape, setting: Setting, name: str, x: Tensor, **heads: int) -> Tensor:
        """The rows of x seen as heads, and the norm leaf `name` over what the spec says: each head, or all at once."""
        spec, h = self.spec.qk_norm, self.spec.head_dim
        over = self.spec.qk_norm_over
        if spec is not None and over == "all-heads":
            x = normalise(tape, setting, name, spec, x)
        seen = x.seen_as(**_rows(x), **heads, h=h)
        if spec is None or over == "all-heads":
            return seen
        return (normalise_heads if over == "each-head" else normalise)(tape, setting, name, spec, seen)

    @staticmethod
    def _clipped(tape: Tape, *rows: Tensor) -> list[Tensor]:
        """The leaf `clip`: each of `rows` cut on both sides."""
        with tape.module("clip", *rows):
            return [tape.update("clamp_", x, cost=2) for x in rows]

    @staticmethod
    def _gated(tape: Tape, o: Tensor, gate: Tensor) -> Tensor:
        """The leaf `gate`: o [b, t, q] times the sigmoid of a value each, or of one per head."""
        with tape.module("gate", o, gate):
            return tape.run("mul", o, tape.run("sigmoid", gate))


def _rows(x: Tensor) -> dict[str, int]:
    """The axes of x without its width."""
    return dict(list(x.axes.items())[:-1])
