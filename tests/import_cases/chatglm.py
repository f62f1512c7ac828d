"""ChatGLM's two schemas, of which transformers has no class: counts by hand.

Width 32, 4 heads of 8, two layers, 100 tokens: a table of 3,200.
"""

from __future__ import annotations

from tests.importing import ABSENT, Case

FIRST = {
    "architectures": ["ChatGLMModel"],
    "vocab_size": 100,
    "hidden_size": 32,
    "inner_hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "layernorm_epsilon": 1e-5,
    "max_sequence_length": 64,
    "position_encoding_2d": True,
}
SECOND = {
    "architectures": ["ChatGLMModel"],
    "padded_vocab_size": 100,
    "hidden_size": 32,
    "ffn_hidden_size": 48,
    "kv_channels": 8,
    "num_layers": 2,
    "num_attention_heads": 4,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "seq_length": 64,
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "fp32_residual_connection": False,
    "layernorm_epsilon": 1e-5,
    "original_rope": True,
    "post_layer_norm": True,
    "quantization_bit": 0,
    "rmsnorm": True,
    "tie_word_embeddings": False,
}
# four projections and two of the feed-forward with their biases, two norms; and a norm after the embeddings
FIRST_TOTAL = 3200 + 64 + 2 * (4 * (1024 + 32) + (2048 + 64) + (2048 + 32) + 128)
# q with a bias, k and v of two heads with theirs, o, a gated feed-forward, two norms
LAYER = (1024 + 32) + 2 * (32 * 16 + 16) + 1024 + 3 * 32 * 48 + 64
SECOND_TOTAL = 2 * 3200 + 2 * LAYER + 32

CASES = [
    Case(
        model_type="chatglm",
        config=FIRST,
        variations={
            "one position": {"position_encoding_2d": False},
            "not quantised": {"quantization_bit": 0, "pre_seq_len": None, "prefix_projection": False},
            "untied": {"tie_word_embeddings": False},
        },
        params={
            "as it stands": FIRST_TOTAL,
            "one position": FIRST_TOTAL,
            "not quantised": FIRST_TOTAL,
            "untied": FIRST_TOTAL + 3200,
        },
    ),
    Case(
        model_type="chatglm",
        config=SECOND,
        variations={
            "as CodeGeeX2": {"interleaved_qkv": False, "rotary_percent": 0.5, "quantization_bit": ABSENT},
            "as GLM-4-9B": {"rope_ratio": 500, "layernorm_epsilon": 1.5625e-07},
            "all biases": {"add_bias_linear": True, "add_qkv_bias": False},
            "no biases": {"add_qkv_bias": False},
            "multi-head": {"multi_query_attention": False},
            "LayerNorm": {"rmsnorm": False},
            "no norm at the end": {"post_layer_norm": False},
        },
        params={
            "as it stands": SECOND_TOTAL,
            "as CodeGeeX2": SECOND_TOTAL,
            "as GLM-4-9B": SECOND_TOTAL,
            "all biases": SECOND_TOTAL + 2 * (32 + 48 + 48 + 32),
            "no biases": SECOND_TOTAL - 2 * (32 + 16 + 16),
            "multi-head": SECOND_TOTAL + 2 * 2 * (32 * 16 + 16),
            "LayerNorm": SECOND_TOTAL + 5 * 32,
            "no norm at the end": SECOND_TOTAL - 32,
        },
    ),
]
