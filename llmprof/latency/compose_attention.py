"""The attention of a layer on one device, and its ops in a pass: of all that is launched, what depends on contexts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmprof.latency.compose_pass import Chunk, Pass
from llmprof.latency.op import DecodeAttention, Dtype, LatentDims, MlaDecode, MlaPrefill, PrefillAttention

AttentionOp = DecodeAttention | PrefillAttention | MlaDecode | MlaPrefill


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Queries of `heads` against `kv_heads` of keys and values; `window` 0 sees all of them."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int
    kv_dtype: Dtype
    engine: str | None

    def decode(self, sequences: int, context: int) -> DecodeAttention:
        """A token of each of `sequences`."""
        return DecodeAttention(
            batch=sequences,
            context=max(1, context),
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            kv_dtype=self.kv_dtype,
            window=self.window,
            engine=self.engine,
        )

    def prefill(self, chunk: Chunk) -> PrefillAttention:
        """The tokens of `chunk`."""
        return PrefillAttention(
            batch=chunk.sequences,
            new_tokens=chunk.tokens,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            prefix=chunk.prefix,
            kv_dtype=self.kv_dtype,
            window=self.window,
            engine=self.engine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention with its projections."""

    heads: int
    dims: LatentDims
    kv_dtype: Dtype
    engine: str | None

    def decode(self, sequences: int, context: int) -> MlaDecode:
        """A token of each of `sequences`."""
        return MlaDecode(
            batch=sequences,
            context=max(1, context),
            heads=self.heads,
            kv_dtype=self.kv_dtype,
            dims=self.dims,
            engine=self.engine,
        )

    def prefill(self, chunk: Chunk) -> MlaPrefill:
        """The tokens of `chunk`."""
        return MlaPrefill(
            batch=chunk.sequences,
            new_tokens=chunk.tokens,
            heads=self.heads,
            prefix=chunk.prefix,
            kv_dtype=self.kv_dtype,
            dims=self.dims,
            engine=self.engine,
        )


Attention = Grouped | Latent


def attention_ops(attention: Attention, asked: Pass) -> Iterator[AttentionOp]:
    """The ops of one layer in the pass: one for all that decode, one for each entry of the chunks."""
    if asked.decode_sequences:
        yield attention.decode(asked.decode_sequences, asked.decode_context)
    for chunk in asked.chunks:
        yield attention.prefill(chunk)
