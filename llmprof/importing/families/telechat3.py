"""TeleChat 3's dense models: LLaMA's block. transformers has no class of it."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head

SOURCE = "mlx-lm 0.32.2, https://pypi.org/project/mlx-lm/0.32.2/, mlx_lm/models/telechat3.py, read 2026-11-30"


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=None),
        "layers": {
            "count": c.size("num_hidden_layers"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads"),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of={"silu": GLUS["silu"]}),
                "d_ff": c.size("intermediate_size"),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
    }


FAMILY = Family(document=document, config_class=None, source=SOURCE, idle=RUNTIME)
