"""Falcon: multi-query attention, parallel blocks; the larger ones group their keys and give each half its own norm."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, off
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", "n_embed", default=4544)
    heads = c.size("num_attention_heads", "n_head", default=71)
    count = c.size("num_hidden_layers", default=32)
    c.must("n_layer", count.value, None, why="the class reads num_hidden_layers")
    c.must("ff_factor", 4, None, why="the width is stated by ffn_hidden_size, or 4 x hidden_size")
    new = c.flag("new_decoder_architecture", default=False)
    one = c.flag("multi_query", default=True)
    return decoder(
        c,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(c, heads, new=new, one=one),
        block=_block(c, c.flag("parallel_attn", default=True), new),
        bias=c.flag("bias", default=False),
        d_ff=c.size(
            "ffn_hidden_size",
            default=inferred(4 * hidden.value, f"not stated, so 4 x {hidden.value}, as the class has it", hidden),
        ),
        activation=c.choice("activation", of=MLPS, default="gelu"),
        vocab_size=c.size("vocab_size", default=65024),
        max_context=c.size("max_position_embeddings", default=2048),
        count=count,
    )


def _kv_heads(c: Config, heads: Read[int], *, new: Read[bool], one: Read[bool]) -> Read[int]:
    """How many heads of keys there are. ``num_kv_heads`` counts in the new architecture alone."""
    if new.value:
        return c.size("num_kv_heads", "n_head_kv", default=heads)
    if one.value:
        c.size("num_kv_heads", "n_head_kv", default=heads)  # released, and of no effect
        return inferred(1, "multi_query in the old architecture", one)
    c.must("num_kv_heads", heads.value, None, why="without multi_query every head has keys of its own")
    return heads


def _block(c: Config, parallel: Read[bool], new: Read[bool]) -> Read[str]:
    """How the halves of a layer are arranged, and how many norms feed them."""
    norms = c.size("num_ln_in_parallel_attn", default=Read(2 if new.value else 1))
    if norms.value not in (1, 2) or (norms.value == 2 and not new.value):
        c.refuse("num_ln_in_parallel_attn", "1, or 2 in the new architecture")
    if not parallel.value:
        if new.value:
            c.refuse("parallel_attn", "true: the new architecture has parallel blocks")
        return Read("serial", parallel.keys, parallel.note)
    two = norms.value == 2
    return inferred("parallel-two-norms" if two else "parallel", f"{norms.value} norm(s) a layer", norms, parallel)


def decoder(
    c: Config,
    *,
    hidden: Read[int],
    heads: Read[int],
    kv_heads: Read[int],
    block: Read[str],
    bias: Read[bool],
    d_ff: Read[int],
    activation: Read[str],
    vocab_size: Read[int],
    max_context: Read[int] | Read[None],
    count: Read[int],
) -> Doc:
    """The architecture that all of Falcon's schemas describe."""
    built_as(c)
    off(c, "apply_residual_connection_post_layernorm", why="the residual would be taken after the norm")
    head_dim = per_head(hidden, heads, c)
    alibi = c.flag("alibi", default=False)
    if alibi.value:
        c.ignore("rope_parameters", "rope_scaling", "rope_theta")
    return {
        "structure": "causal-decoder",
        "vocab_size": vocab_size,
        "d_model": hidden,
        "max_context": max_context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": Read("alibi", alibi.keys)} if alibi.value else rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": count,
            "block": block,
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads,
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {"kind": activation, "d_ff": d_ff, "bias": bias},
        },
    }


FAMILY = Family(document=document, config_class="FalconConfig", source=TRANSFORMERS)
