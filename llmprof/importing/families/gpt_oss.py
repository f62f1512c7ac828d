"""GPT-OSS: sinks in every head, a window in every other layer, experts with biases and a clamped SwiGLU."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, by_window, count_of_layers, every, kv_heads, layer_kinds, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.heads import stated_head_dim


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2880)
    heads = c.size("num_attention_heads", default=64)
    head_dim = stated_head_dim(c, hidden, heads, 64)
    count = count_of_layers(c, default=36)
    bias = c.flag("attention_bias", default=True)
    c.must("hidden_act", "silu", "swish", why="the class always has SwiGLU, cut at swiglu_limit")
    kinds = layer_kinds(
        c,
        count,
        default=every(count, 2),
        why="layer_types is not in the file: every second layer sees all tokens, as GptOssConfig has it",
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=201088),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=150000.0),
        "layers": by_window(
            c,
            count,
            kinds,
            c.optional_size("sliding_window", default=128),
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=8),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                    "sinks": True,
                },
                "ffn": {
                    "kind": "moe",
                    "n_experts": c.size("num_local_experts", "num_experts", default=128),
                    "top_k": c.size("num_experts_per_tok", "experts_per_token", default=4),
                    "expert": {
                        "kind": "swiglu-clamped",
                        "d_ff": c.size("intermediate_size", default=2880),
                        "bias": True,
                        "beta": c.number("swiglu_alpha", default=1.702),
                        "limit": c.number("swiglu_limit", default=7.0),
                    },
                    "scores": "softmax-chosen",
                    "router_bias": True,
                },
            },
        ),
    }


FAMILY = Family(
    document=document,
    config_class="GptOssConfig",
    source=TRANSFORMERS,
    idle=RUNTIME | {"initial_context_length"},  # of the training before the rotation was rescaled
)
