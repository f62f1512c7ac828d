"""StarCoder 2: LayerNorms and matrices with biases, an ungated feed-forward, in all layers a window or none."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, one_window, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=3072)
    heads = c.size("num_attention_heads", default=24)
    head_dim = per_head(hidden, heads, c, "head_dim")
    context = c.size("max_position_embeddings", default=4096)
    bias = c.flag("use_bias", default=True)
    # Fields of the release that the class does not read, at the values that it implements.
    c.must("activation_function", "gelu", "gelu_pytorch_tanh", why="the class reads hidden_act")
    c.must("mlp_type", "default", why="the class has an ungated feed-forward")
    c.must("norm_type", "layer_norm", why="the class has LayerNorms")
    c.must("scale_attn_weights", True, why="the class scales the scores")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=49152),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=30),
            "norm": {
                "kind": "layernorm",
                "placement": "pre",
                "eps": c.number("norm_epsilon", "layer_norm_epsilon", default=1e-5),
            },
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads", default=2),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "window": one_window(c, context, default=None),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=MLPS, default="gelu_pytorch_tanh"),
                "d_ff": c.size("intermediate_size", default=12288),
                "bias": bias,
            },
        },
    }


FAMILY = Family(
    document=document,
    config_class="Starcoder2Config",
    source=TRANSFORMERS,
    idle=RUNTIME | {"attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"},
)
