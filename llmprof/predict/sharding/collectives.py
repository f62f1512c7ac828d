"""Which calls the ranks of a pass make, and how many bytes go with them (docs/reference-sharding.md, section 5).

Bytes on the wire are those that one rank sends in a ring
(https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md, recalled): 2 (n - 1) parts of a tensor that is
reduced everywhere, n - 1 parts of one that is gathered or whose sum is scattered, or of rows that go to all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from llmprof.predict.formats import float_format
from llmprof.predict.sharding.loads import own_loads, rows_of_experts
from llmprof.predict.sharding.slices import kv_heads_of_rank
from llmprof.sharding import Collective, CollectiveKind, Sharding
from llmprof.spec.arch import ArchSpec, GatedDeltaNet, Gqa, LayerSpec, Mamba2, Moe, NoAttention, NoFfn, NoHead
from llmprof.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The calls of one pass of `arch`, the whole model; the sequences and tokens of `workload` are those of a rank."""

    arch: ArchSpec
    workload: Workload
    sharding: Sharding

    @property
    def hidden(self) -> int:
        """Values of the hidden state of a replica; A is their bytes."""
        return self.workload.batch * self.workload.new_tokens * self.arch.d_model

    def of_embedding(self) -> Iterator[Collective]:
        """Those of the lookup in a table of which every rank has some rows."""
        if self.sharding.tensor_parallel > 1:
            yield self._reduce("embed")

    def of_layer(self, layer: LayerSpec) -> Iterator[Collective]:
        """Those of one layer, by their path below it."""
        if isinstance(layer.attention, Gqa) and self.sharding.context_parallel > 1:
            yield self._around_ring(layer.attention)
        if isinstance(layer.ffn, Moe) and self.sharding.sends_tokens:
            yield self._exchange(layer.ffn)
        if self.sharding.tensor_parallel > 1:
            yield from self._of_tensors(layer)

    def _of_tensors(self, layer: LayerSpec) -> Iterator[Collective]:
        """Those of ranks that share matrices: once where rows are joined, once where partial sums are added."""
        if layer.block == "parallel":
            # One norm serves both halves, so that what it makes is gathered once; two make two tensors.
            yield from self._gather(*(("attn_norm",) if layer.parallel_norms == 1 else ("attn", "ffn")))
            yield self._reduce("residual")
            return
        if not isinstance(layer.attention, NoAttention):
            yield from self._gather("attn")
            mixes = isinstance(layer.attention, GatedDeltaNet | Mamba2)
            yield self._reduce("attn.out_proj" if mixes else "attn.o_proj")
        match layer.ffn:
            case NoFfn():
                pass
            case Moe() if self.sharding.sends_tokens:
                pass
            case Moe():
                yield from self._gather("ffn")
                yield self._reduce("ffn")
            case _:
                yield from self._gather("ffn")
                yield self._reduce("ffn.down")

    def of_head(self) -> Iterator[Collective]:
        """Those of the logits, of which every rank makes the columns of its rows of the matrix."""
        ranks = self.sharding.tensor_parallel
        if ranks == 1 or isinstance(self.arch.head, NoHead) or self.workload.logits == "none":
            return
        rows = self.workload.batch * (1 if self.workload.logits == "last" else self.workload.new_tokens)
        logits = rows * ranks * -(-self.arch.vocab_size // ranks)
        joined = (self.hidden,) if self.sharding.splits_rows else ()
        yield self._call("lm_head", "all-gather", *joined, logits)

    def to_next_stage(self, last: str) -> Iterator[Collective]:
        """The hidden state, or the rank's rows of it, from the stage whose last layer is `last`."""
        parts = self.sharding.tensor_parallel if self.sharding.splits_rows else 1
        yield self._call(last, "send", self.hidden // parts)

    def _around_ring(self, spec: Gqa) -> Collective:
        """Keys and values of all ranks but the own, which come from the one before and go on to the next."""
        s, w = self.sharding, self.workload
        block = w.batch * w.new_tokens * kv_heads_of_rank(spec.n_kv_heads, s.tensor_parallel) * spec.head_dim
        return self._call("attn.core", "send", *[block] * (2 * (s.context_parallel - 1)))

    def _exchange(self, spec: Moe) -> Collective:
        """Rows to the ranks of their experts, and what these made of them back."""
        s, w = self.sharding, self.workload
        tokens = s.data_parallel * w.batch * w.new_tokens
        own = w.batch * w.new_tokens // (s.tensor_parallel if s.splits_rows else 1)
        got = rows_of_experts(own_loads(w.routing, tokens, spec, s.expert_parallel))
        d = self.arch.d_model
        return self._call("ffn.experts", "all-to-all", own * spec.top_k * d, got * d, ranks=s.expert_parallel)

    def _reduce(self, path: str) -> Collective:
        kind: CollectiveKind = "reduce-scatter" if self.sharding.splits_rows else "all-reduce"
        return self._call(path, kind, self.hidden)

    def _gather(self, *paths: str) -> Iterator[Collective]:
        """What a block reads, where every rank has some of its rows."""
        if self.sharding.splits_rows:
            for path in paths:
                yield self._call(path, "all-gather", self.hidden)

    def _call(self, path: str, kind: CollectiveKind, *values: int, ranks: int | None = None) -> Collective:
        """One call for each of `values`, the number of them in a tensor of activations, among `ranks` (tensor's: n)."""
        size = float_format(self.workload.dtypes.activations).bits // 8
        ranks = ranks or self.sharding.tensor_parallel
        return Collective(
            path=path,
            kind=kind,
            count=len(values),
            bytes=sum(values) * size,
            wire_bytes=sum(_sent(kind, each, ranks) for each in values) * size,
        )


def _sent(kind: CollectiveKind, values: int, ranks: int) -> int:
    """How many values one of `ranks` sends in a ring."""
    match kind:
        case "all-reduce":
            return 2 * (ranks - 1) * -(-values // ranks)
        case "all-gather" | "reduce-scatter":
            assert values % ranks == 0, (kind, values, ranks)
            return (ranks - 1) * values // ranks
        case "all-to-all":
            return (ranks - 1) * -(-values // ranks)
        case "send":
            return values
    assert_never(kind)
