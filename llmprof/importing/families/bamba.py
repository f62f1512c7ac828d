"""Bamba: Mamba-2 in most layers and attention in a few, each with a gated feed-forward."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import count_of_layers, kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import IDLE, NOWHERE, inner, mamba_2, silu_alone
from llmprof.importing.parts import GLUS, per_head, rope, stack


def document(c: Config) -> Doc:
    """The table. Half of each head is rotated whatever the file says: the class writes the factor itself."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=32)
    bias = c.flag("attention_bias", default=False)
    c.must("partial_rotary_factor", 0.5, why="the class rotates half of each head")
    c.must("attn_rotary_emb", head_dim.value // 2, None, why="the class rotates half of each head")
    silu_alone(c, "hidden_act")
    chosen = c.sizes("attn_layer_indices", default=Read(()))
    names = ["softmax" if i in chosen.value else "mamba" for i in range(count.value)]
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=128000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=262144),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "layers": stack(
            count,
            names,
            {
                "mamba": {
                    "attention": mamba_2(c, inner(c, "mamba_expand", hidden, default=2)),
                    "position": NOWHERE,
                },
                "softmax": {
                    "attention": {
                        "kind": "gqa",
                        "n_heads": heads,
                        "n_kv_heads": kv_heads(c, heads, default=8),
                        "head_dim": head_dim,
                        "qkv_bias": bias,
                        "out_bias": bias,
                    },
                    "position": rope(c, head_dim, theta=10000.0, partial=0.5),
                },
            },
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=14336),
                    "bias": c.flag("mlp_bias", default=False),
                },
            },
        ),
    }


FAMILY = Family(
    document=document,
    config_class="BambaConfig",
    source=TRANSFORMERS,
    idle=IDLE | {"mamba_dt_rank", "z_loss_coefficient"},
)
