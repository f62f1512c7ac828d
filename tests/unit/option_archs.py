"""Small architectures with the options of norms, layers, gqa, positions and heads, built from the spec types by hand."""

from __future__ import annotations

from dataclasses import replace

from twin_archs import GQA, MHA, MQA, ROPE, bare, decoder, encoder_decoder, layer, model, stack

from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    AudioFront,
    LayerNorm,
    Learned,
    LmHead,
    MlmHead,
    Mlp,
    Mtp,
    NoAttention,
    NoFfn,
    Residual,
    RmsNorm,
    Rope,
    Sinusoidal,
)

LN = LayerNorm()
LN_PLAIN = LayerNorm(weight=False, bias=False)
LN_BARE = LayerNorm(bias=False)
RMS_PLAIN = RmsNorm(weight=False)
RMS_UNIT = RmsNorm(unit_offset=True)
WINDOW = replace(GQA, window=4)
CHUNK = replace(GQA, chunk=4)
SHARED = replace(GQA, shared_kv=True)

NORMS: dict[str, ArchSpec] = {
    "layernorm without weight": model(stack(*[layer(norm=LN_PLAIN)] * 2, final_norm=LN_PLAIN)),
    "rmsnorm without weight": model(stack(*[layer(norm=RMS_PLAIN)] * 2, final_norm=RMS_PLAIN)),
    "rmsnorm, unit offset": model(
        stack(*[layer(norm=RMS_UNIT, placement="sandwich")] * 2, embedding_norm=RMS_UNIT, final_norm=RMS_UNIT)
    ),
    **{
        f"qk norm over {over}, {name}": decoder(*[layer(attention=replace(GQA, qk_norm=norm, qk_norm_over=over))] * 2)
        for over in ("head", "each-head", "all-heads")
        for name, norm in {
            "rmsnorm": RmsNorm(),
            "unit offset": RMS_UNIT,
            "rmsnorm without weight": RMS_PLAIN,
            "layernorm": LN,
            "layernorm without bias": LN_BARE,
            "layernorm without weight": LN_PLAIN,
        }.items()
    },
}

LAYERS: dict[str, ArchSpec] = {
    "reordered": decoder(*[layer(placement="reordered")] * 2),
    "reordered, layernorm": decoder(*[layer(placement="reordered", norm=LN)] * 2),
    "no first norm, pre": decoder(layer(first_norm=False), layer()),
    "no first norm, sandwich": decoder(layer(first_norm=False, placement="sandwich"), layer()),
    **{
        f"{part}, {placement}": model(
            stack(
                layer(placement=placement),  # type: ignore[arg-type]
                replace(
                    bare(placement=placement),  # type: ignore[arg-type]
                    **({"attention": NoAttention()} if part == "no attention" else {"ffn": NoFfn()}),  # type: ignore[arg-type]
                ),
                layer(placement=placement),  # type: ignore[arg-type]
            )
        )
        for part in ("no attention", "no feed-forward")
        for placement in ("pre", "post", "sandwich", "reordered")
    },
    "residual scale": decoder(*[layer(residual=Residual(scale=0.22))] * 2),
    "residual scale, parallel": decoder(*[layer(residual=Residual(scale=0.22), block="parallel", norm=LN)] * 2),
    "residual scale, sandwich": decoder(*[layer(residual=Residual(scale=0.22), placement="sandwich")] * 2),
    "output scale": decoder(layer(), head=LmHead(output_scale=0.0625)),
    "output scale, softcap": decoder(layer(), head=LmHead(output_scale=3.0, softcap=2.0), embedding_scale=12.0),
    "stored sinusoid": model(stack(*[bare()] * 2, position=Sinusoidal(stored_rows=32))),
}

WIDTHS: dict[str, ArchSpec] = {
    "narrow": decoder(*[layer()] * 2, embedding_width=10),
    "wide, tied": decoder(*[layer()] * 2, embedding_width=40, tied=True),
    "post-norm, tied, learned positions": model(
        stack(
            *[
                bare(
                    norm=LN,
                    placement="post",
                    attention=replace(MHA, qkv_bias=True, out_bias=True),
                    ffn=Mlp(kind="relu", d_ff=40, bias=True),
                )
            ]
            * 2,
            position=Learned(rows=32),
            final_norm=None,
        ),
        tied=True,
        embedding_width=10,
    ),
    "scaled and normed, a head with everything": model(
        stack(layer(), embedding_norm=LN),
        embedding_scale=3.0,
        embedding_width=7,
        head=LmHead(bias=True, output_scale=0.5, softcap=2.0),
    ),
}
"""Token tables of their own width."""

ENCODER_WIDTH = model(stack(*[layer()] * 2, mask="bidirectional"), structure="encoder", embedding_width=10, pooler=True)

GQAS: dict[str, ArchSpec] = {
    "k bias alone": decoder(*[layer(attention=replace(GQA, k_bias=True))] * 2),
    "no k bias": decoder(*[layer(attention=replace(MHA, qkv_bias=True, k_bias=False, out_bias=True))] * 2),
    "clip": decoder(*[layer(attention=replace(GQA, qkv_clip=0.05))] * 2),
    "gate per value": decoder(*[layer(attention=replace(GQA, output_gate="value"))] * 2),
    "gate per head": decoder(*[layer(attention=replace(GQA, output_gate="head"))] * 2),
    "gate per head, one head": decoder(layer(attention=replace(MQA, n_heads=1, output_gate="head"))),
    "gate, sinks, window": decoder(*[layer(attention=replace(WINDOW, output_gate="value", sinks=True))] * 2),
}

SINKS: dict[str, ArchSpec] = {
    "sinks, mha": decoder(*[layer(attention=replace(MHA, sinks=True))] * 2),
    "sinks, gqa": decoder(*[layer(attention=replace(GQA, sinks=True))] * 2),
    "sinks, mqa": decoder(*[layer(attention=replace(MQA, sinks=True, scale=1.0))] * 2),
    "sinks, window": decoder(*[layer(attention=replace(WINDOW, sinks=True))] * 2),
    "sinks, alibi": decoder(*[bare(Alibi(), attention=replace(GQA, sinks=True))] * 2),
    "sinks, chunk": decoder(*[layer(attention=replace(CHUNK, sinks=True))] * 2),
}

CHUNKS: dict[str, ArchSpec] = {
    "chunk": decoder(*[layer(attention=CHUNK)] * 2),
    "chunk of one": decoder(*[layer(attention=replace(GQA, chunk=1))] * 2),
    "chunk, mqa": decoder(*[layer(attention=replace(MQA, chunk=3))] * 2),
    "chunk, mha": decoder(*[layer(attention=replace(MHA, chunk=4))] * 2),
    "chunk, alibi": decoder(*[bare(Alibi(), attention=CHUNK)] * 2),
    "chunk, softcap": decoder(*[layer(attention=replace(CHUNK, softcap=3.0))] * 2),
    "chunks and global": decoder(layer(attention=CHUNK), bare(), layer(attention=replace(GQA, chunk=6))),
}

SHARING: dict[str, ArchSpec] = {
    "the second borrows": decoder(layer(), layer(attention=SHARED)),
    "others borrow, then own": decoder(layer(), layer(attention=SHARED), layer(attention=SHARED), layer()),
    "two lenders": decoder(
        layer(), layer(attention=WINDOW), layer(attention=replace(WINDOW, shared_kv=True)), layer(attention=SHARED)
    ),
    "the nearest lends": decoder(layer(), layer(position=Rope(theta=500.0)), layer(attention=SHARED)),
    "chunks borrow": decoder(layer(attention=CHUNK), layer(attention=replace(CHUNK, shared_kv=True))),
    "normed, other heads": decoder(
        layer(attention=replace(GQA, qk_norm=RmsNorm(), qkv_bias=True)),
        layer(attention=replace(SHARED, n_heads=6, qk_norm=RmsNorm(), qkv_bias=True)),
    ),
    "alibi borrows": decoder(bare(Alibi(), attention=MHA), bare(Alibi(), attention=replace(MHA, shared_kv=True))),
    "sinks and gate borrow": decoder(
        layer(), layer(attention=replace(SHARED, sinks=True, output_gate="head"), position=ROPE)
    ),
}

ENCODER_WINDOWS: dict[str, ArchSpec] = {
    f"encoder, window of {window}{', alibi' if position != ROPE else ''}": model(
        stack(
            layer(attention=replace(MHA, window=window), position=position, first_norm=False),
            layer(attention=MHA, position=position),
            mask="bidirectional",
        ),
        structure="encoder",
        head=MlmHead(dense_bias=False, norm=LN_BARE),
    )
    for window in (1, 4, 5, 17)
    for position in (ROPE, Alibi())
}

FRONT = AudioFront(channels=5, kernel=3)
AUDIO: dict[str, ArchSpec] = {
    "whisper": model(
        replace(
            stack(
                *[
                    bare(
                        norm=LN,
                        attention=replace(MHA, qkv_bias=True, k_bias=False, out_bias=True),
                        ffn=Mlp(kind="gelu", d_ff=40, bias=True),
                    )
                ]
                * 2,
                prefix="encoder.",
                mask="bidirectional",
                position=Sinusoidal(stored_rows=32),
                final_norm=LN,
            ),
            front=FRONT,
        ),
        stack(
            *[
                bare(
                    norm=LN,
                    attention=replace(MHA, qkv_bias=True, k_bias=False, out_bias=True),
                    cross_attention=replace(MHA, qkv_bias=True, k_bias=False, out_bias=True),
                    ffn=Mlp(kind="gelu", d_ff=40, bias=True),
                )
            ]
            * 2,
            prefix="decoder.",
            position=Learned(rows=32),
            final_norm=LN,
        ),
        structure="encoder-decoder",
        tied=True,
    ),
    "scaled, wide kernel, rope": model(
        replace(
            stack(layer(), prefix="encoder.", mask="bidirectional", embedding_norm=LN),
            front=AudioFront(channels=3, kernel=5),
        ),
        stack(layer(cross_attention=GQA), prefix="decoder."),
        structure="encoder-decoder",
        embedding_scale=2.0,
    ),
}

PAIRS: dict[str, ArchSpec] = {
    "reordered pair": encoder_decoder(
        layer(placement="reordered", attention=replace(GQA, window=4)),
        layer(
            placement="reordered", attention=CHUNK, cross_attention=replace(GQA, qk_norm=LN, qk_norm_over="all-heads")
        ),
    ),
}


def with_mtp(arch: ArchSpec, count: int, **of_layer: object) -> ArchSpec:
    """The architecture with layers that predict further tokens, like its last one but for `of_layer`."""
    last = replace(arch.main.layers[-1], **of_layer)  # type: ignore[arg-type]
    return replace(arch, mtp=Mtp(count=count, layer=last, norm=last.norm))


MTP: dict[str, ArchSpec] = {
    "one further token": with_mtp(decoder(*[layer()] * 2), 1),
    "three, tied, scaled": with_mtp(
        decoder(*[layer(norm=LN)] * 2, tied=True, embedding_scale=3.0, head=LmHead(output_scale=0.5)), 3
    ),
    "window, no final norm": with_mtp(model(stack(*[layer(attention=WINDOW)] * 2, final_norm=None)), 2),
    "other window": with_mtp(decoder(layer(), layer(attention=WINDOW)), 2),
    "chunk, sinks, reordered": with_mtp(
        decoder(*[layer(attention=replace(CHUNK, sinks=True), placement="reordered")] * 2), 2
    ),
    "alibi": with_mtp(decoder(bare(Alibi())), 2),
}

DECODERS: dict[str, ArchSpec] = {**NORMS, **LAYERS, **GQAS, **SINKS, **CHUNKS, **SHARING}
ALL: dict[str, ArchSpec] = {**DECODERS, **ENCODER_WINDOWS, **PAIRS, **AUDIO}
