"""OpenELM's class, as its model of 270M was released (recalled)."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "activation_fn_name": "swish",
    "ffn_dim_divisor": 256,
    "ffn_multipliers": [
        *(0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13),
        *(2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4.0),
    ],
    "ffn_with_glu": True,
    "head_dim": 64,
    "initializer_range": 0.02,
    "max_context_length": 2048,
    "model_dim": 1280,
    "normalization_layer_name": "rms_norm",
    "normalize_qk_projections": True,
    "num_gqa_groups": 4,
    "num_kv_heads": [3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5],
    "num_query_heads": [12, 12, 12, 12, 12, 16, 16, 16, 16, 16, 16, 16, 20, 20, 20, 20],
    "num_transformer_layers": 16,
    "qkv_multipliers": [0.5, 1.0],
    "rope_freq_constant": 10000,
    "rope_max_length": 4096,
    "share_input_output_layers": True,
    "vocab_size": 32000,
}

CASES = [
    Case(
        model_type="openelm",
        config=RELEASED,
        variations={
            "without norms of queries and keys": {"normalize_qk_projections": False},
            "equal layers": {
                "ffn_multipliers": [1.0, 1.0],
                "num_kv_heads": [3, 3],
                "num_query_heads": [12, 12],
                "num_transformer_layers": 2,
            },
        },
        params={
            # https://huggingface.co/apple/OpenELM-270M, the header of its weights, recalled.
            "as it stands": 271_527_168,
            "without norms of queries and keys": 271_527_168 - 16 * 2 * 64,
            # A table of 32000 x 1280; per layer (12 + 2 x 3) x 64 columns in, 12 x 64 out, 3 x 1280 x 1280, norms.
            "equal layers": 40_960_000 + 2 * (1_474_560 + 983_040 + 4_915_200 + 2_560 + 128) + 1_280,
        },
    )
]
