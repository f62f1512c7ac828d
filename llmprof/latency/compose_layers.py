"""The ops of a pass through an architecture, as engines fuse them, read off the structure of its layers.

Queries, keys and values come of one product, gate and up of another; a residual sum and the norm after it are one
kernel, and so are the two halves of a rotation. Every op here is that of one token (`of_tokens`), and attention is left
to what a pass has of contexts (`compose_attention`). Letters: `d` d_model, `e` bytes of a value.
What engines launch for a layer was read in vLLM 0.11's llama, qwen3 and deepseek_v2 models (recalled).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from llmprof.errors import InputError
from llmprof.latency.compose_attention import Attention, Grouped, Latent
from llmprof.latency.compose_pass import Layout, Precision
from llmprof.latency.op import (
    Collective,
    CollectiveKind,
    Elementwise,
    Gemm,
    LatentDims,
    Moe,
    Op,
)
from llmprof.spec import arch as spec

PartName = Literal["attention", "matrices", "experts", "collectives", "elementwise", "head", "host"]
JOINED_NORMS = ("trtllm",)
"""Engines whose all-reduce of a sublayer's output does the residual sum and the norm after it too: TensorRT-LLM's
``AllReduceFusionOp.RESIDUAL_RMS_NORM`` (https://github.com/NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/models/
modeling_llama.py, read 2026-11-30)."""

Maker = Literal["norm", "activation", "attention", "other"]
JOINS_ROUNDING: dict[str | None, frozenset[Maker]] = {
    "trtllm": frozenset(("norm", "activation", "attention")),
    "vllm": frozenset(("norm", "activation")),
}
"""Whose kernels round what they make to fp8, where scales are stored. For TensorRT-LLM the times of ai-dynamo/
aiconfigurator leave out the kernels that find scales and round (sdk/operations/gemm.py, GEMMQuantMode.fp8_static);
vLLM has `fuse_norm_quant` and `fuse_act_quant` on by default, `fuse_attn_quant` off (https://docs.vllm.ai/en/stable/
design/fusions/); both read 2026-11-30. SGLang rounds by a kernel of its own (recalled)."""

SKEW = 1.01
"""How unevenly tokens choose their experts: the exponent of the power law that their loads are drawn from.

ai-dynamo/aiconfigurator predicts served models with such loads and not with balanced ones: 1.01 for DeepSeek's, Llama
4's and most others, 1.2 for Mixtral's, Qwen's and gpt-oss (sdk/models/, `_power_law_alpha`, read 2026-11-30). The
milder is taken for all: no load of a served model was at hand.
"""

E = 2  # bytes of an activation: 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One op, how often the pass runs it, and the part of the pass that it counts to."""

    op: Op
    times: int
    part: PartName


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """What the ops of a token depend on beside the layer. `engine` names whose kernels run, None for nobody's."""

    arch: spec.ArchSpec
    layout: Layout
    precision: Precision
    engine: str | None = None

    def product(self, n: int, k: int, *, of: Maker = "other", quantised: bool = True, attention: bool = False) -> Gemm:
        """A matrix product by the format of its matrix, of an input that `of` has made."""
        formats = self.precision
        dtype = (formats.attention if attention else None) or formats.dense
        if not quantised:
            dtype = "bf16"
        rounded = dtype == "fp8" and self.precision.static and of in JOINS_ROUNDING.get(self.engine, ())
        return Gemm(m=1, n=n, k=k, dtype=dtype, rounded=rounded, engine=self.engine)

    def share(self, whole: int, what: str) -> int:
        """One device's part of a width that tensor parallelism divides. InputError where it does not."""
        if whole % self.layout.tensor:
            raise InputError(
                f"{self.arch.label}: {self.layout.tensor} devices cannot share {what} ({whole}); "
                f"use a divisor of {whole} as tensor_parallel"
            )
        return whole // self.layout.tensor

    def joined(self, kind: CollectiveKind, size: int, devices: int) -> Iterator[Counted]:
        """A collective over `devices`, or nothing where there is one alone."""
        if devices > 1:
            op = Collective(kind=kind, bytes=size, devices=devices, engine=self.engine)
            yield Counted(op=op, times=1, part="collectives")


def layer_ops(layer: spec.LayerSpec, low: Lowering) -> Iterator[Counted | Attention]:
    """The ops of `layer`, what its attention launches left to each pass. InputError for a kind without known times."""
    _check(layer, low.arch)
    has_attention = not isinstance(layer.attention, spec.NoAttention)
    has_ffn = not isinstance(layer.ffn, spec.NoFfn)
    tokens = low.arch.d_model * E
    yield from _norms(layer, low, sublayers=has_attention + has_ffn)
    if has_attention:
        yield from _attention(layer, low)
    parallel = layer.block == "parallel" and has_ffn
    if has_attention and not parallel:
        yield from low.joined("allreduce", tokens, low.layout.tensor)
    if has_ffn:
        yield from _feed_forward(layer.ffn, low)
        if not isinstance(layer.ffn, spec.Moe) or low.layout.attention_copies == 1:
            yield from low.joined("allreduce", tokens, low.layout.tensor)


def outer_ops(low: Lowering) -> Iterator[Counted]:
    """What a pass runs once: embedding, transfers between stages, final norm."""
    arch, d = low.arch, low.arch.d_model
    yield Counted(op=Elementwise(bytes=2 * d * E), times=1, part="elementwise")
    yield from low.joined("allreduce", d * E, low.layout.tensor)
    if low.layout.pipeline > 1:
        send = Collective(kind="p2p", bytes=d * E, devices=2, engine=low.engine)
        yield Counted(op=send, times=low.layout.pipeline - 1, part="collectives")
    if isinstance(arch.head, spec.NoHead):
        return
    yield Counted(op=Elementwise(bytes=4 * d * E), times=1, part="elementwise")


def head_ops(low: Lowering) -> Iterator[Counted]:
    """What a pass runs once for each row of logits: output matrix, choice of tokens."""
    arch = low.arch
    if isinstance(arch.head, spec.NoHead):
        return
    vocabulary = ceil(arch.vocab_size / low.layout.tensor)
    yield Counted(op=low.product(vocabulary, arch.d_model, quantised=False), times=1, part="head")
    yield from low.joined("allgather", arch.vocab_size * E, low.layout.tensor)
    # Logits are made fp32 and read again for the choice: 2 bytes in, 4 out, 4 in.
    yield Counted(op=Elementwise(bytes=arch.vocab_size * (E + 4 + 4), kernels=2), times=1, part="head")


def of_tokens(op: Op, tokens: int) -> Op:
    """An op of one token as that of `tokens`: rows, bytes and choices are as many times as many."""
    match op:
        case Gemm():
            return Gemm(
                m=op.m * tokens,
                n=op.n,
                k=op.k,
                dtype=op.dtype,
                weight_copies=op.weight_copies,
                rounded=op.rounded,
                engine=op.engine,
            )
        case Elementwise():
            return Elementwise(bytes=op.bytes * tokens, kernels=op.kernels)
        case Collective():
            return Collective(kind=op.kind, bytes=op.bytes * tokens, devices=op.devices, engine=op.engine)
        case Moe():
            return replace(op, tokens=op.tokens * tokens)
    raise AssertionError(f"an op of one token is no {type(op).__name__}")


def _check(layer: spec.LayerSpec, arch: spec.ArchSpec) -> None:
    found = None
    if layer.cross_attention is not None:
        found = "a cross-attention"
    elif layer.mixer is not None:
        found = f"a mixer ({layer.mixer.kind}) beside its attention"
    elif not isinstance(layer.attention, spec.Gqa | spec.Mla | spec.NoAttention):
        found = f"attention of kind {layer.attention.kind}"
    elif isinstance(layer.attention, spec.Mla) and layer.attention.indexer is not None:
        found = "latent attention with an indexer"
    elif not isinstance(layer.ffn, spec.Mlp | spec.Glu | spec.Moe | spec.NoFfn):
        found = f"a feed-forward of kind {layer.ffn.kind}"
    if found is not None:
        raise InputError(
            f"{arch.label}: group {layer.group} has {found}, for which no times are known; known are layers of "
            "softmax attention (gqa, mla) with an MLP, a gated unit or a mixture of experts"
        )


def _norms(layer: spec.LayerSpec, low: Lowering, *, sublayers: int) -> Iterator[Counted]:
    """Each norm is one kernel with the residual sum before it: x and the residual are read, and both are written."""
    kernels = sublayers * (2 if layer.placement == "sandwich" else 1)
    if layer.block == "parallel":
        kernels = layer.parallel_norms
    if low.layout.tensor > 1 and low.engine in JOINED_NORMS:
        kernels = 0
    if kernels:
        yield Counted(op=Elementwise(bytes=4 * low.arch.d_model * E), times=kernels, part="elementwise")


def _attention(layer: spec.LayerSpec, low: Lowering) -> Iterator[Counted | Attention]:
    match layer.attention:
        case spec.Gqa() as gqa:
            yield from _grouped(gqa, layer, low)
        case spec.Mla() as mla:
            yield _latent(mla, low)


def _grouped(gqa: spec.Gqa, layer: spec.LayerSpec, low: Lowering) -> Iterator[Counted | Attention]:
    tensor, width = low.layout.tensor, gqa.head_dim
    heads = low.share(gqa.n_heads, "the heads")
    if gqa.n_kv_heads % tensor and tensor % gqa.n_kv_heads:
        raise InputError(
            f"{low.arch.label}: {tensor} devices neither divide nor are a multiple of n_kv_heads ({gqa.n_kv_heads})"
        )
    kv_heads = max(1, gqa.n_kv_heads // tensor)
    columns = heads * width + (0 if gqa.shared_kv else 2 * kv_heads * width)
    columns += {None: 0, "value": heads * width, "head": heads}[gqa.output_gate]
    turned = (heads + (0 if gqa.shared_kv else kv_heads)) * width
    yield Counted(op=low.product(columns, low.arch.d_model, of="norm", attention=True), times=1, part="matrices")
    if gqa.qkv_clip is not None:
        yield Counted(op=Elementwise(bytes=2 * (heads + 2 * kv_heads) * width * E), times=1, part="elementwise")
    rotations = isinstance(layer.position, spec.Rope) + (gqa.qk_norm is not None)
    if rotations:
        yield Counted(op=Elementwise(bytes=2 * turned * E), times=rotations, part="elementwise")
    # A chunk is seen as a window of its length, the most that it can be.
    window = gqa.window or gqa.chunk or 0
    yield Grouped(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        window=window,
        kv_dtype=low.precision.kv_cache,
        engine=low.engine,
    )
    if gqa.output_gate is not None:
        yield Counted(op=Elementwise(bytes=3 * heads * width * E), times=1, part="elementwise")
    output = low.product(low.arch.d_model, heads * width, of="attention", attention=True)
    yield Counted(op=output, times=1, part="matrices")


def _latent(mla: spec.Mla, low: Lowering) -> Latent:
    heads = low.share(mla.n_heads, "the heads")
    dims = LatentDims(
        d_model=low.arch.d_model,
        query_rank=mla.q_rank or _as_bottleneck(low.arch.d_model, heads * mla.key_dim),
        kv_rank=mla.kv_rank,
        rope_dim=mla.rope_dim,
        nope_dim=mla.nope_dim,
        value_dim=mla.value_dim,
    )
    return Latent(heads=heads, dims=dims, kv_dtype=low.precision.kv_cache, engine=low.engine)


def _as_bottleneck(d: int, columns: int) -> int:
    """The width of a bottleneck with as many weights as one product of `d` by `columns`: q (d + c) = d c."""
    return round(d * columns / (d + columns))


def _feed_forward(ffn: spec.Ffn, low: Lowering) -> Iterator[Counted]:
    match ffn:
        case spec.Mlp() | spec.Glu():
            yield from _dense(ffn, low)
        case spec.Moe():
            yield from _experts(ffn, low)


def _dense(ffn: spec.Mlp | spec.Glu, low: Lowering) -> Iterator[Counted]:
    width, ups = low.share(ffn.d_ff, "d_ff"), 2 if isinstance(ffn, spec.Glu) else 1
    yield Counted(op=low.product(ups * width, low.arch.d_model, of="norm"), times=1, part="matrices")
    yield Counted(op=Elementwise(bytes=(ups + 1) * width * E), times=1, part="elementwise")
    yield Counted(op=low.product(low.arch.d_model, width, of="activation"), times=1, part="matrices")


def _experts(moe: spec.Moe, low: Lowering) -> Iterator[Counted]:
    d, layout = low.arch.d_model, low.layout
    tokens = layout.attention_copies
    yield Counted(op=low.product(moe.n_experts, d, quantised=False), times=1, part="matrices")
    yield Counted(op=Elementwise(bytes=2 * moe.n_experts * 4), times=1, part="elementwise")
    inner = d if moe.latent is None else moe.latent
    if moe.latent is not None:
        yield Counted(op=low.product(inner, d, of="norm"), times=1, part="matrices")
        yield Counted(op=low.product(d, inner), times=1, part="matrices")
    if layout.attention_copies > 1:
        yield from low.joined("allgather", tokens * inner * E, layout.group)
        yield from low.joined("reducescatter", tokens * inner * E, layout.group)
    routed = Moe(
        tokens=tokens,
        experts=moe.n_experts,
        experts_per_token=moe.top_k,
        d_model=inner,
        d_ff=moe.expert.d_ff,
        tp=layout.expert_tensor,
        ep=layout.expert,
        dtype=low.precision.experts,
        gated=isinstance(moe.expert, spec.Glu),
        routing="power_law",
        skew=SKEW,
        engine=low.engine,
    )
    yield Counted(op=routed, times=1, part="experts")
    if moe.shared is not None:
        yield from _dense(moe.shared, low)
        yield Counted(op=Elementwise(bytes=3 * d * E), times=1, part="elementwise")
