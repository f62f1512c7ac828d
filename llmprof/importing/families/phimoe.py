"""Phi-3.5-MoE and its slim kin: LayerNorms, biases of the attention and of the head, two experts a token.

They are chosen one after the other (SparseMixer, https://arxiv.org/abs/2409.12136).
"""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, one_window, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    context = c.size("max_position_embeddings", default=131072)
    bias = c.flag("attention_bias", default=False)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32064),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=1000000.0),
        "head": {"kind": "lm", "bias": c.flag("lm_head_bias", default=False)},
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads", default=8),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "window": one_window(c, context, default=None),
            },
            "ffn": _experts(c),
        },
    }


def _experts(c: Config) -> Doc:
    c.must("num_experts_per_tok", 2, why="the class chooses two experts, one after the other")
    return experts(
        c.choice("hidden_act", of=GLUS, default="silu"),
        count=c.size("num_local_experts", default=16),
        top_k=Read(2, ("num_experts_per_tok",) if c.has("num_experts_per_tok") else ()),
        width=c.size("intermediate_size", default=6400),
        router={"scores": "sparsemixer", "margin": c.number("router_jitter_noise", default=0.01)},
    )


FAMILY = Family(
    document=document,
    config_class="PhimoeConfig",
    source=TRANSFORMERS,
    idle=RUNTIME | {"input_jitter_noise", "original_max_position_embeddings"},
)
