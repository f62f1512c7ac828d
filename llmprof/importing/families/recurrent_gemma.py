"""RecurrentGemma (Griffin): two recurrent blocks, then one of attention in a window."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import NOWHERE
from llmprof.importing.parts import per_head, rope, stack

BLOCKS = {"recurrent": "recurrent", "attention": "local"}
"""A word of ``block_types`` -> group."""


def document(c: Config) -> Doc:
    """The table. The feed-forward is half as wide as the field says; the class halves it."""
    hidden = c.size("hidden_size", default=2560)
    heads = c.size("num_attention_heads", default=10)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=26)
    wide = c.size("intermediate_size", default=7680, least=2)
    blocks = c.words("block_types", "_block_types", of=BLOCKS, default=Read(("recurrent", "recurrent", "attention")))
    if not blocks.value:
        c.stop("block_types", "at least one kind of block")
    names = [BLOCKS[blocks.value[i % len(blocks.value)]] for i in range(count.value)]
    c.must("hidden_activation", "gelu_pytorch_tanh", why="the gate of the recurrent block has another activation")
    c.must("embeddings_scale_by_sqrt_dim", True, why="the class scales embeddings in any case")
    width = c.size("lru_width", default=hidden)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": None,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "embedding": {"scale": inferred(hidden.value**0.5, f"sqrt({hidden.value}), as the class has it", hidden)},
        "layers": stack(
            count,
            names,
            {
                "recurrent": {
                    "attention": {
                        "kind": "rg-lru",
                        "width": width,
                        "n_blocks": heads,
                        "d_conv": c.size("conv1d_width", default=4),
                        "conv_bias": True,
                    },
                    "position": NOWHERE,
                },
                "local": {
                    "attention": {
                        "kind": "gqa",
                        "n_heads": heads,
                        "n_kv_heads": c.size("num_key_value_heads", default=heads),
                        "head_dim": head_dim,
                        "qkv_bias": c.flag("attention_bias", default=False),
                        "out_bias": True,
                        "window": c.size("attention_window_size", "sliding_window", default=2048),
                    },
                    "position": rope(c, head_dim, theta=10000.0, partial=0.5),
                },
            },
            {
                "norm": {
                    "kind": "rmsnorm",
                    "placement": "pre",
                    "unit_offset": True,
                    "eps": c.number("rms_norm_eps", default=1e-6),
                },
                "ffn": {
                    "kind": "geglu-tanh",
                    "d_ff": inferred(wide.value // 2, f"half of {wide.value:,}: the class halves the field", wide),
                    "bias": True,
                },
            },
        ),
        "head": {"kind": "lm", "softcap": c.number("logits_soft_cap", default=30.0)},
    }


FAMILY = Family(
    document=document,
    config_class="RecurrentGemmaConfig",
    source=TRANSFORMERS,
    idle=frozenset({"final_w_init_variance_scale", "w_init_variance_scale"}),
)
