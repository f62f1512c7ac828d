"""What is timed: one kernel, or one module that engines run as a unit, with the sizes that decide its time.

Axis letters are those of the formulas in docs/latency.md: ``m`` rows (tokens), ``n`` columns, ``k`` the contraction.
Sizes are per device: an op of a sharded model has its own heads, columns and experts, not the model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

Dtype = Literal["bf16", "fp16", "fp8", "fp8_block", "int8", "int4", "fp4"]
"""Of a matrix product: bf16 and fp16 as stored; fp8 with a scale per row or tensor, fp8_block per block, activations
quantised on the way in; int8, int4 and fp4 are weights alone, multiplied in bf16."""

CollectiveKind = Literal["allreduce", "allgather", "reducescatter", "alltoall", "p2p"]

Routing = Literal["balanced", "power_law"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """Y[m, n] = X[m, k] W[k, n].

    `weight_copies` is how many different weights are multiplied in turn before the first is met again: without end in
    a model, whose weights are cold each time; 6 in the tables that the constants were fitted to. `rounded` says that a
    narrow input arrives as such, rounded by the kernel that made it, and not in 16 bits. `engine` names whose kernel
    runs ("vllm", "trtllm", "sglang"), None where nobody has said.
    """

    m: int
    n: int
    k: int
    dtype: Dtype = "bf16"
    weight_copies: float = inf
    rounded: bool = False
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeAttention:
    """One new token of each of `batch` sequences against `context` kept tokens; `window` 0 sees them all.

    `warm` says that the same cache was read just before, as where a kernel is repeated to be timed; in a model other
    layers come in between.
    """

    batch: int
    context: int
    heads: int
    kv_heads: int
    head_dim: int
    kv_dtype: Dtype = "bf16"
    window: int = 0
    warm: bool = False
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillAttention:
    """`new_tokens` of each of `batch` sequences, causally, after `prefix` tokens that the cache has already.

    The keys and values of the new tokens are written to the cache.
    """

    batch: int
    new_tokens: int
    heads: int
    kv_heads: int
    head_dim: int
    prefix: int = 0
    kv_dtype: Dtype = "bf16"
    window: int = 0
    warm: bool = False
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentDims:
    """Widths of multi-head latent attention; those of DeepSeek-V3 (arXiv:2412.19437, section 4.2) where not said."""

    d_model: int = 7168
    query_rank: int = 1536
    kv_rank: int = 512
    rope_dim: int = 64
    nope_dim: int = 128
    value_dim: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class MlaDecode:
    """A whole layer of multi-head latent attention, projections included, for one new token of each sequence."""

    batch: int
    context: int
    heads: int
    kv_dtype: Dtype = "bf16"
    dims: LatentDims = LatentDims()
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MlaPrefill:
    """A whole layer of multi-head latent attention, projections included, for `new_tokens` of each sequence.

    `latent` says whether attention runs in the latent space, as in decoding; None leaves it to what engines do, which
    is to run short prompts so.
    """

    batch: int
    new_tokens: int
    heads: int
    prefix: int = 0
    kv_dtype: Dtype = "bf16"
    latent: bool | None = None
    dims: LatentDims = LatentDims()
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """The routed experts of one layer on one device: `tokens` enter, each meets `experts_per_token` of `experts`.

    `tp` divides the width of every expert, `ep` the experts. `d_ff` is the width of an expert before division.
    `tokens` are those of all devices of an expert-parallel group together.
    """

    tokens: int
    experts: int
    experts_per_token: int
    d_model: int
    d_ff: int
    tp: int = 1
    ep: int = 1
    dtype: Dtype = "bf16"
    routing: Routing = "balanced"
    skew: float = 0.0
    gated: bool = True
    warm: bool = False
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """`bytes` of one device's tensor, combined with or sent to the other `devices` of one node."""

    kind: CollectiveKind = "allreduce"
    bytes: int
    devices: int
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """`kernels` that read and write `bytes` together and do little else: norms, activations, rotary, residual sums."""

    bytes: int
    kernels: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What starting `kernels` costs the host: each alone, or all replayed as one CUDA graph."""

    kernels: int
    graph: bool = True


Op = Gemm | DecodeAttention | PrefillAttention | MlaDecode | MlaPrefill | Moe | Collective | Elementwise | Launch
