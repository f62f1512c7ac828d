"""IQuest-Coder: LLaMA's block."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, stated_head_dim, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=5120)
    heads = c.size("num_attention_heads", default=40)
    head_dim = stated_head_dim(c, hidden, heads, default=128)
    bias = c.flag("attention_bias", default=False)
    c.must("clip_qkv", None, why="the class clamps nothing")
    c.must("use_sliding_window", False, why="the class has no window")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=76800),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=80),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=27648),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
    }


FAMILY = Family(document=document, config_class="IQuestCoderConfig", source=TRANSFORMERS, idle=RUNTIME)
