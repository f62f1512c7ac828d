"""nanochat: norms without weights, also of the embeddings, queries and keys; squared ReLU; capped logits."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, normed_after_rotation, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.gemma import softcap
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=768)
    heads = c.size("num_attention_heads", default=6)
    head_dim = per_head(hidden, heads, c, "head_dim")
    norm = {"kind": "rmsnorm", "weight": False, "eps": c.number("rms_norm_eps", default=1e-6)}
    bias = c.flag("attention_bias", default=False)
    normed_after_rotation(c)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50304),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": {"norm": norm},
        "layers": {
            "count": c.size("num_hidden_layers", default=12),
            "norm": {"placement": "pre", **norm},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": norm,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=MLPS, default="relu2"),
                "d_ff": c.size("intermediate_size", default=8192),
            },
        },
        "head": {"kind": "lm", "softcap": softcap(c, "final_logit_softcapping", default=15.0)},
    }


FAMILY = Family(document=document, config_class="NanoChatConfig", source=TRANSFORMERS, idle=RUNTIME)
