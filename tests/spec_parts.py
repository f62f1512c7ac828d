"""Random parts of the spec language in any size that it allows: for what reads and writes specs, not for what runs them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from llmprof.spec.arch import (
    ChannelMix,
    Expert,
    Ffn,
    GatedDeltaNet,
    Glu,
    Gqa,
    Indexer,
    LayerNorm,
    Mamba1,
    Mamba2,
    Mixer,
    Mla,
    Mlp,
    Moe,
    Norm,
    RgLru,
    RmsNorm,
    Rwkv4,
    ShortConv,
)

SIZES = st.integers(1, 2**40)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


NORMS: st.SearchStrategy[Norm] = st.one_of(
    st.builds(LayerNorm, bias=st.booleans(), eps=POSITIVE),
    st.builds(LayerNorm, weight=st.just(False), bias=st.just(False), eps=POSITIVE),
    st.builds(RmsNorm, unit_offset=st.booleans(), eps=POSITIVE),
    st.builds(RmsNorm, weight=st.just(False), eps=POSITIVE),
)


@st.composite
def attentions(
    draw: st.DrawFn, *, mask: str | None, heads: int | None = None, window: int | None = None, table: bool = False
) -> Gqa:
    """gqa with any of its options; without a `mask` that of cross-attention, and beside a `table` with its window."""
    kv, per = (1, heads) if heads is not None else (draw(st.integers(1, 64)), draw(st.integers(1, 16)))
    reach = "none" if mask == "prefix" or mask is None or table else draw(st.sampled_from(["none", "window", "chunk"]))
    norm = draw(maybe(NORMS))
    softcap = draw(maybe(POSITIVE))
    return Gqa(
        n_heads=kv * per, n_kv_heads=kv, head_dim=draw(st.integers(1, 256)) * 4, qkv_bias=draw(st.booleans()),
        out_bias=draw(st.booleans()), k_bias=draw(maybe(st.booleans())), qk_norm=norm,
        qk_norm_over="head" if norm is None else draw(st.sampled_from(["head", "each-head", "all-heads"])),
        window=window if table else draw(SIZES) if reach == "window" else None,
        chunk=draw(SIZES) if reach == "chunk" and mask == "causal" else None,
        sinks=mask is not None and softcap is None and draw(st.booleans()),
        qkv_clip=draw(maybe(POSITIVE)) if mask is not None and norm is None else None,
        output_gate=draw(st.sampled_from([None, "value", "head"])) if mask is not None else None,
        softcap=softcap, scale=draw(maybe(POSITIVE)),
    )  # fmt: skip


@st.composite
def latents(draw: st.DrawFn) -> Mla:
    """Latent attention, with an indexer or without."""
    rope = 2 * draw(st.integers(1, 64))
    q_rank = draw(maybe(SIZES))
    indexer = st.builds(Indexer, n_heads=SIZES, head_dim=st.integers(rope, 2**40), top_k=SIZES)
    return Mla(
        n_heads=draw(SIZES), q_rank=q_rank, kv_rank=draw(SIZES), nope_dim=draw(SIZES), rope_dim=rope, value_dim=draw(SIZES),
        norm=draw(NORMS), bias=draw(st.booleans()), scale=draw(maybe(POSITIVE)),
        indexer=None if q_rank is None else draw(maybe(indexer)),
    )  # fmt: skip


@st.composite
def mixers(draw: st.DrawFn, *, beside: bool) -> Mixer:
    """Any mixer, or any that may stand `beside` an attention."""
    conv: dict[str, Any] = {"d_conv": draw(st.integers(2, 16)), "conv_bias": draw(st.booleans())}
    bias = draw(st.booleans())
    parts = draw(st.integers(1, 8))
    made: list[Mixer] = [
        Mamba1(**conv, d_inner=draw(SIZES), d_state=draw(SIZES), dt_rank=draw(SIZES), bias=bias, inner_norm=draw(maybe(NORMS))),
        Mamba2(**conv, n_heads=parts * draw(st.integers(1, 8)), head_dim=draw(SIZES), d_state=draw(SIZES), n_groups=parts,
               chunk=1 + draw(SIZES), norm_groups=draw(st.sampled_from([0, 1, parts])), bias=bias),
        GatedDeltaNet(**conv, n_heads=parts * draw(st.integers(1, 8)), n_key_heads=parts, key_dim=draw(SIZES),
                      value_dim=draw(SIZES), chunk=1 + draw(SIZES)),
        RgLru(**conv, width=parts * draw(st.integers(1, 2**20)), n_blocks=parts, bias=bias),
        ShortConv(**conv, bias=bias),
        *([] if beside else [Rwkv4(width=draw(SIZES))]),
    ]  # fmt: skip
    return draw(st.sampled_from(made))


@st.composite
def experts(draw: st.DrawFn, *, alone: bool = False) -> Expert:
    """A feed-forward of two or three matrices; those that stand `alone` are no part of a mixture."""
    cls, kinds = draw(st.sampled_from([
        (Mlp, ["relu", "gelu", "gelu-tanh", "swish", "relu2", *(["xielu"] if alone else [])]),
        (Glu, ["glu", "reglu", "geglu", "geglu-tanh", "swiglu", "swiglu-clamped"]),
    ]))  # fmt: skip
    kind: Any = draw(st.sampled_from(kinds))
    said: dict[str, Any] = {"beta": draw(POSITIVE)} if kind in ("swish", "swiglu", "swiglu-clamped") else {}
    if kind == "swiglu-clamped":
        said["limit"] = draw(POSITIVE)
    bias = draw(st.booleans())
    if alone and cls is Glu and not bias:
        said["down_bias"] = draw(st.booleans())
    made: Expert = cls(kind=kind, d_ff=draw(SIZES), bias=bias, **said)
    return made


@st.composite
def mixtures(draw: st.DrawFn) -> Moe:
    """A mixture of experts, of one group or of several."""
    groups, members = draw(st.integers(1, 8)), draw(st.integers(1, 32))
    reached = draw(st.integers(1, groups))
    shared = draw(maybe(experts()))
    scores: Any = draw(st.sampled_from(["softmax", "sigmoid", "softmax-chosen"]))
    return Moe(
        n_experts=groups * members, top_k=draw(st.integers(1, reached * members)), expert=draw(experts()), shared=shared,
        shared_gate=shared is not None and draw(st.booleans()), scores=scores,
        normalise=scores != "softmax-chosen" and draw(st.booleans()), scale=draw(POSITIVE),
        weigh=draw(st.sampled_from(["output", "input"])), router_bias=draw(st.booleans()),
        correction_bias=draw(st.booleans()), n_groups=groups, groups_per_token=reached,
    )  # fmt: skip


def feed_forwards(mask: str) -> st.SearchStrategy[Ffn]:
    """Any feed-forward that goes with a mask."""
    always: st.SearchStrategy[Ffn] = experts(alone=True) | mixtures()
    return always | st.builds(ChannelMix, d_ff=SIZES) if mask == "causal" else always
