"""TeleChat 3's code. transformers has no class: counts are by hand."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="telechat3",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 256,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
        },
        variations={"biases": {"attention_bias": True, "mlp_bias": True, "head_dim": None}},
        params={
            "as it stands": 2 * 300 * 48 + 48 + 3 * (2 * 48 * 96 + 2 * 48 * 32 + 3 * 48 * 80 + 96),
            "biases": 2 * 300 * 48
            + 48
            + 3 * (2 * 48 * 48 + 2 * 48 * 16 + 48 + 32 + 48 + 3 * 48 * 80 + 2 * 80 + 48 + 96),
        },
    )
]
