"""InternLM 3: LLaMA's block under other names of its biases."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, stated_head_dim, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = stated_head_dim(c, hidden, heads, default=128)
    bias = c.flag("attention_bias", "qkv_bias", default=False)
    mlp_bias = c.flag("mlp_bias", "bias", default=False)
    if bias.value != mlp_bias.value:
        c.stop((mlp_bias.keys or bias.keys)[0], "the same as the other bias: the class has all or none")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=128512),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=48),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=2),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=10240),
                "bias": mlp_bias,
            },
        },
    }


FAMILY = Family(document=document, config_class="InternLM3Config", source=TRANSFORMERS, idle=RUNTIME)
