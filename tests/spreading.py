"""Small random decoders and passes of them, all of which docs/reference-sharding.md has rules for."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hypothesis import strategies as st

from llmprof.claims.specs import attention
from llmprof.spec.arch import (
    ArchSpec,
    GatedDeltaNet,
    Glu,
    LayerNorm,
    LayerSpec,
    Mamba2,
    Mla,
    Mlp,
    Moe,
    NoPosition,
    Placement,
    RmsNorm,
    Rope,
)
from llmprof.workload import Workload
from tests.unit.divided import SMALL, decode, prefill

NORMS: tuple[LayerNorm | RmsNorm, ...] = (LayerNorm(eps=1e-5), RmsNorm(eps=1e-6))
PLACEMENTS: tuple[Placement, ...] = ("pre", "post", "sandwich", "reordered")
NUMBERS: tuple[Literal[1, 2], ...] = (1, 2)
"""Of norms in a parallel layer."""


@st.composite
def layers(draw: st.DrawFn, norm: LayerNorm | RmsNorm) -> LayerSpec:
    base = SMALL.main.layers[0]
    kv, size = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([8, 16]))
    over = draw(st.sampled_from(["head", "each-head"]))
    now = replace(
        attention(SMALL),
        n_heads=kv * draw(st.sampled_from([1, 2, 4, 6])),
        n_kv_heads=kv,
        head_dim=size,
        window=draw(st.none() | st.integers(1, 40)),
        qk_norm=draw(st.none() | st.just(norm)),
        qk_norm_over=over,  # type: ignore[arg-type]
        qkv_bias=draw(st.booleans()),
        out_bias=draw(st.booleans()),
        output_gate=draw(st.sampled_from([None, None, "value", "head"])),
        sinks=draw(st.sampled_from([False, False, True])),
    )
    d_ff, bias = 24 * draw(st.integers(1, 5)), draw(st.booleans())
    kinds: list[Mlp | Glu] = [Mlp(kind="gelu", d_ff=d_ff, bias=bias), Glu(kind="swiglu", d_ff=d_ff, bias=bias)]
    made = replace(
        base,
        attention=now,
        ffn=draw(st.sampled_from(kinds)),
        norm=norm,
        placement=draw(st.sampled_from(PLACEMENTS)),
    )
    if made.placement == "pre" and draw(st.booleans()):
        return replace(made, block="parallel", parallel_norms=draw(st.sampled_from(NUMBERS)))
    return made


@st.composite
def sparse_layers(draw: st.DrawFn, norm: LayerNorm | RmsNorm) -> LayerSpec:
    """A layer with experts, with latent attention, or with both."""
    made = draw(layers(norm))
    if draw(st.booleans()):
        made = replace(made, attention=draw(latents()), position=Rope(theta=10_000.0))
        if draw(st.booleans()):
            return made
    elif draw(st.booleans()):
        made = replace(made, attention=draw(states()), position=NoPosition(), block="serial")
        if draw(st.booleans()):
            return made
    expert = Glu(kind="swiglu", d_ff=8 * draw(st.integers(1, 3)), bias=draw(st.booleans()))
    shared = Mlp(kind="relu2", d_ff=24 * draw(st.integers(1, 2)))
    moe = Moe(
        n_experts=4 * draw(st.integers(1, 3)),
        top_k=draw(st.integers(1, 4)),
        expert=expert,
        shared=draw(st.none() | st.just(shared)),
        weigh=draw(st.sampled_from(["output", "input"])),
        scores=draw(st.sampled_from(["softmax", "sigmoid", "softmax-chosen"])),
        router_bias=draw(st.booleans()),
        correction_bias=draw(st.booleans()),
        latent=draw(st.sampled_from([None, None, 12])),
    )
    return replace(made, ffn=replace(moe, shared_gate=moe.shared is not None and draw(st.booleans())))


@st.composite
def states(draw: st.DrawFn) -> GatedDeltaNet | Mamba2:
    """A mixer with a state, of heads that ranks can share."""
    heads, each, conv_bias = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2])), draw(st.booleans())
    if draw(st.booleans()):
        return GatedDeltaNet(
            n_heads=heads * each, n_key_heads=heads, key_dim=4, value_dim=6, chunk=8, d_conv=3, conv_bias=conv_bias
        )
    return Mamba2(
        n_heads=heads * each,
        n_groups=heads,
        norm_groups=draw(st.sampled_from([0, heads])),
        head_dim=4,
        d_state=8,
        chunk=8,
        d_conv=3,
        conv_bias=conv_bias,
        bias=draw(st.booleans()),
    )


@st.composite
def latents(draw: st.DrawFn) -> Mla:
    """Latent attention whose heads a fused kernel takes, and one whose heads it does not."""
    return Mla(
        n_heads=4 * draw(st.integers(1, 3)),
        q_rank=draw(st.sampled_from([None, 16])),
        kv_rank=draw(st.sampled_from([16, 20])),
        nope_dim=8,
        rope_dim=8,
        value_dim=draw(st.sampled_from([8, 16])),
        norm=RmsNorm(eps=1e-6),
        bias=draw(st.booleans()),
    )


@st.composite
def passes(draw: st.DrawFn, *, sparse: bool = False) -> tuple[ArchSpec, Workload]:
    """A decoder of layers of one or two kinds, and a pass of it. `sparse`: one of them has experts or latents."""
    norm = draw(st.sampled_from(NORMS))
    kinds = draw(st.lists(layers(norm), min_size=0 if sparse else 1, max_size=1 if sparse else 2))
    if sparse:
        kinds.append(draw(sparse_layers(norm)))
    stack = replace(SMALL.main, layers=tuple(kinds * draw(st.sampled_from([1, 2, 3]))), final_norm=norm)
    vocabulary, tied = draw(st.integers(5, 100)), draw(st.booleans())
    arch = replace(SMALL, stacks=(stack,), d_model=8 * draw(st.integers(1, 8)), vocab_size=vocabulary)
    logits = draw(st.sampled_from(["all", "last", "none"]))
    made = draw(st.sampled_from([prefill(24, logits=logits), decode(draw(st.integers(1, 32)), logits=logits)]))
    return replace(arch, tied_embeddings=tied), made
