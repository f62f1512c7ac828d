"""Persimmon: LayerNorms with biases, also of queries and keys, half of each head rotated, squared ReLU."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=64)
    head_dim = per_head(hidden, heads, c)
    eps = c.number("layer_norm_eps", default=1e-5)
    normed = c.flag("qk_layernorm", default=True).value
    c.must("num_key_value_heads", heads.value, None, why="every head has keys and values of its own")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=262144),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=16384),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0, partial=0.5),
        "layers": {
            "count": c.size("num_hidden_layers", default=36),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": heads,
                "head_dim": head_dim,
                "qkv_bias": True,
                "out_bias": True,
                "qk_norm": {"kind": "layernorm", "eps": eps} if normed else LEFT_OUT,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=MLPS, default="relu2"),
                "d_ff": c.size("intermediate_size", default=16384),
                "bias": True,
            },
        },
    }


FAMILY = Family(document=document, config_class="PersimmonConfig", source=TRANSFORMERS, idle=RUNTIME | {"rms_norm_eps"})
