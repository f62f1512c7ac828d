"""Small random architectures and workloads, for properties that must hold for every spec.

Sizes are tiny and mostly coprime, so that a confusion of two axes changes a number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hypothesis import strategies as st

from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    Attention,
    AudioFront,
    EmbeddedPosition,
    Ffn,
    Gaussian,
    Glu,
    Gqa,
    Head,
    LayerNorm,
    LayerPosition,
    LayerSpec,
    Learned,
    LmHead,
    Mask,
    MlmHead,
    Mlp,
    NoAttention,
    NoFfn,
    NoHead,
    NoPosition,
    Norm,
    Residual,
    RmsNorm,
    Rope,
    Sinusoidal,
    Source,
    Stack,
    Structure,
    T5Bias,
)
from llmprof.workload import Dtypes, Phase, Workload
from tests.families import families, has_families, runs
from tests.sharing import further, with_a_borrower

MAX_TOKENS = 24
HEAD_DIMS = (8, 16)
"""Multiples of 8, as the fused kernels want them."""

norms: st.SearchStrategy[Norm] = st.one_of(
    st.builds(LayerNorm, bias=st.booleans(), eps=st.just(1e-5)),
    st.just(RmsNorm(eps=1e-6)),
    st.sampled_from([LayerNorm(weight=False, bias=False), RmsNorm(weight=False), RmsNorm(unit_offset=True)]),
)
booleans = st.booleans()


@st.composite
def attentions(draw: st.DrawFn, *, mask: Mask | None, softcap: bool) -> Gqa:
    """GQA, MHA or MQA with any of its options; without a `mask` those of cross-attention."""
    n_kv_heads = draw(st.sampled_from([1, 2, 3]))
    norm = draw(st.none() | norms)
    reaches = {"causal": ["", "window", "chunk"], "bidirectional": ["", "window"]}.get(mask or "", [""])
    reach = draw(st.sampled_from(reaches))
    cap = draw(st.sampled_from([None, None, 30.0])) if softcap else None
    return Gqa(
        n_heads=n_kv_heads * draw(st.sampled_from([1, 2, 3])),
        n_kv_heads=n_kv_heads,
        head_dim=draw(st.sampled_from(HEAD_DIMS)),
        qkv_bias=draw(booleans),
        out_bias=draw(booleans),
        k_bias=draw(st.sampled_from([None, None, True, False])),
        qk_norm=norm,
        qk_norm_over="head" if norm is None else draw(st.sampled_from(["head", "each-head", "all-heads"])),
        window=draw(st.integers(1, MAX_TOKENS)) if reach == "window" else None,
        chunk=draw(st.integers(1, MAX_TOKENS)) if reach == "chunk" else None,
        sinks=mask is not None and cap is None and draw(st.sampled_from([False, False, True])),
        qkv_clip=draw(st.sampled_from([None, 0.5])) if mask is not None and norm is None else None,
        output_gate=draw(st.sampled_from([None, None, "value", "head"])) if mask is not None else None,
        softcap=cap,
        scale=draw(st.sampled_from([None, 1.0, 0.5])),
    )


@st.composite
def ffns(draw: st.DrawFn) -> Ffn:
    """Two or three matrices with any activation."""
    d_ff = draw(st.sampled_from([5, 20, 33]))
    bias = draw(booleans)
    if draw(booleans):
        kind = draw(st.sampled_from(["relu", "gelu", "gelu-tanh", "swish"]))
        return Mlp(kind=kind, d_ff=d_ff, bias=bias, beta=draw(_beta(kind)))
    gated = draw(st.sampled_from(["glu", "reglu", "geglu", "geglu-tanh", "swiglu"]))
    return Glu(kind=gated, d_ff=d_ff, bias=bias, beta=draw(_beta(gated)))


def _beta(kind: str) -> st.SearchStrategy[float]:
    return st.sampled_from([1.0, 1.5]) if kind in ("swish", "swiglu") else st.just(1.0)


@st.composite
def layers(
    draw: st.DrawFn,
    *,
    mask: Mask,
    cross: bool,
    bias: T5Bias | None,
    n_heads: int | None,
    window: int | None,
    softcap: bool,
    single: bool,
) -> LayerSpec:
    """One layer for a stack. With a T5 table all layers have its number of heads, and one window."""
    attention: Attention = draw(attentions(mask=mask, softcap=softcap))
    position: LayerPosition
    if bias is not None and n_heads is not None:
        position = bias
        attention = Gqa(n_heads=n_heads, n_kv_heads=n_heads, head_dim=8, window=window, scale=1.0)
    else:
        rope = Rope(theta=10000.0, rotary_dim=draw(st.sampled_from([None, 4])), axes=draw(st.sampled_from([1, 2])))
        position = draw(st.sampled_from([rope, Alibi(), Gaussian(), NoPosition()]))
        if draw(st.sampled_from([False, False, True])):
            attention = draw(families(mask=mask))
            position = draw(st.sampled_from([rope, NoPosition()]))
        elif isinstance(position, Gaussian):
            attention = replace(attention, window=None, chunk=None)
    block: Literal["serial", "parallel"] = "serial" if cross else draw(st.sampled_from(["serial", "parallel"]))
    placement = "pre" if block == "parallel" else draw(st.sampled_from(["pre", "post", "sandwich", "reordered"]))
    residuals = [Residual(), Residual(scale=0.5), *([Residual(alpha=2.0, beta=0.5)] if placement == "post" else [])]
    ffn: Ffn = draw(ffns())
    if single and bias is None and block == "serial":
        lacks = draw(st.sampled_from([None, None, None, None, "attention", "ffn"]))
        if lacks == "attention":
            attention, position = NoAttention(), NoPosition()
        ffn = NoFfn() if lacks == "ffn" else ffn
    return LayerSpec(
        group="layers",
        attention=attention,
        ffn=ffn,
        norm=draw(norms),
        placement=placement,
        position=position,
        block=block,
        parallel_norms=draw(st.sampled_from([1, 2])) if block == "parallel" else 1,
        residual=draw(st.sampled_from(residuals)),
        cross_attention=draw(attentions(mask=None, softcap=softcap)) if cross else None,
        first_norm=placement not in ("pre", "sandwich")
        or block == "parallel"
        or draw(st.sampled_from([True, True, False])),
    )


@st.composite
def stacks(draw: st.DrawFn, *, prefix: str, mask: Mask, cross: bool = False, softcap: bool = True) -> Stack:
    """One to three layers, of up to three kinds."""
    bias = (
        T5Bias(n_buckets=8, max_distance=16, per_layer=draw(booleans))
        if draw(st.sampled_from([False, False, True]))
        else None
    )
    n_heads = draw(st.sampled_from([2, 3])) if bias is not None else None
    window = draw(st.none() | st.integers(1, MAX_TOKENS)) if mask == "causal" else None
    made = draw(
        st.lists(
            layers(
                mask=mask, cross=cross, bias=bias, n_heads=n_heads, window=window, softcap=softcap, single=not prefix
            ),
            min_size=1,
            max_size=3,
        )
    )
    embedded: EmbeddedPosition | None = draw(
        st.sampled_from([None, Learned(rows=MAX_TOKENS + 2), Sinusoidal(), Sinusoidal(stored_rows=MAX_TOKENS)])
    )
    lends = mask != "bidirectional" and draw(st.sampled_from([False, False, True]))
    front = AudioFront(channels=3, kernel=draw(st.sampled_from([1, 3])))
    return Stack(
        prefix=prefix,
        mask=mask,
        layers=with_a_borrower(made) if lends else tuple(made),
        embedded_position=embedded,
        embedding_norm=draw(st.none() | norms),
        final_norm=draw(st.none() | norms),
        front=front if prefix == "encoder." and draw(st.sampled_from([False, False, True])) else None,
    )


@st.composite
def archs(draw: st.DrawFn, *, softcap: bool = True) -> ArchSpec:
    """Any architecture that the language can say, in small."""
    structure: Structure = draw(st.sampled_from(["causal-decoder", "prefix-decoder", "encoder-decoder", "encoder"]))
    if structure == "encoder-decoder":
        both = (
            draw(stacks(prefix="encoder.", mask="bidirectional", softcap=softcap)),
            draw(stacks(prefix="decoder.", mask="causal", cross=True, softcap=softcap)),
        )
    else:
        masks: dict[str, Mask] = {"causal-decoder": "causal", "prefix-decoder": "prefix", "encoder": "bidirectional"}
        both = (draw(stacks(prefix="", mask=masks[structure], softcap=softcap)),)
    heads: list[Head] = [
        LmHead(),
        LmHead(bias=True, input_scale=0.5, softcap=15.0),
        LmHead(output_scale=0.25),
        NoHead(),
    ]
    if structure == "encoder":
        heads.append(MlmHead(norm=draw(norms), dense_bias=draw(booleans)))
    head = draw(st.sampled_from(heads))
    return ArchSpec(
        name="random",
        variant=None,
        structure=structure,
        sources=(Source(url="https://example.org/random"),),
        d_model=draw(st.sampled_from([10, 24])),
        vocab_size=draw(st.sampled_from([11, 37])),
        max_context=MAX_TOKENS,
        tied_embeddings=draw(booleans) if head.kind != "none" else True,
        stacks=both,
        head=head,
        pooler=structure == "encoder" and draw(booleans),
        embedding_scale=draw(st.sampled_from([None, 3.0])),
        type_vocab_size=draw(st.sampled_from([0, 2])) if structure == "encoder" else 0,
        mtp=draw(further(both[-1], counts=st.sampled_from([1, 2])))
        if structure == "causal-decoder" and isinstance(head, LmHead)
        else None,
    )


@st.composite
def workloads(draw: st.DrawFn, arch: ArchSpec, *, dtypes: Dtypes | None = None) -> Workload:
    """A workload that `arch` can run."""
    phase: Phase = "prefill" if arch.structure == "encoder" else draw(st.sampled_from(["prefill", "decode"]))
    new_tokens, context, source_tokens = draw(_lengths(arch, phase))
    logits = ["none"] if arch.head.kind == "none" else ["all", "none"]
    if arch.head.kind == "lm" and arch.structure != "encoder":
        logits.append("last")
    chosen = draw(st.sampled_from(logits))
    return Workload(
        phase=phase,
        batch=draw(st.sampled_from([1, 2, 3])),
        new_tokens=new_tokens,
        context=context,
        source_tokens=source_tokens,
        prefix_tokens=draw(st.integers(0, context)) if arch.structure == "prefix-decoder" else 0,
        logits=chosen,
        mtp=arch.mtp is not None and chosen == "all" and draw(booleans),
        dtypes=dtypes
        or draw(
            st.sampled_from(
                [
                    Dtypes(),
                    Dtypes(weights="fp32", activations="fp32", kv_cache="fp32"),
                    Dtypes(weights="fp32", activations="bf16", kv_cache="bf16"),
                    Dtypes(weights="bf16", activations="fp32", kv_cache="fp16"),
                    Dtypes(weights="fp16", activations="fp16", kv_cache="fp32"),
                ]
            )
        ),
    )


@st.composite
def _lengths(draw: st.DrawFn, arch: ArchSpec, phase: Phase) -> tuple[int, int, int]:
    """(new_tokens, context, source_tokens): any where all layers are gqa, else one of those that all can run."""
    pair, fresh_only = arch.structure == "encoder-decoder", arch.structure in ("encoder", "encoder-decoder")
    if not has_families(arch):
        context = draw(st.integers(1, MAX_TOKENS))
        new_tokens = 1
        if phase == "prefill":
            new_tokens = context if fresh_only else draw(st.integers(1, context))
        return new_tokens, context, draw(st.integers(1, MAX_TOKENS)) if pair else 0
    sources = [12, 18] if pair else [0]  # both are cut into segments, blocks and chunks of 2 and 3
    contexts = sorted(draw(st.sets(st.integers(1, MAX_TOKENS), min_size=2, max_size=4)) | {12, MAX_TOKENS})
    candidates = [
        (new_tokens, context, source)
        for context in contexts
        for new_tokens in ([1] if phase == "decode" else [context] if fresh_only else range(1, context + 1))
        for source in sources
        if runs(arch, _asked(phase, new_tokens, context, source))
    ]
    return draw(st.sampled_from(candidates))


def _asked(phase: Phase, new_tokens: int, context: int, source: int) -> Workload:
    return Workload(phase=phase, batch=1, new_tokens=new_tokens, context=context, source_tokens=source)
