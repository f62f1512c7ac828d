"""InternLM 1's class, small."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "bias": True,
    "tie_word_embeddings": False,
    "rotary": {"base": 10000, "type": "dynamic"},
}

CASES = [
    Case(
        model_type="internlm",
        config=SMALL,
        variations={
            "no biases": {"bias": False},
            "as the chat model of 20B is released": {
                "bias": False,
                "num_key_value_heads": 6,
                "pretraining_tp": 1,
                "rope_scaling": None,
                "rope_theta": 10000.0,
            },
        },
        params={
            # Tables 2 x 300 x 48; per layer 4 x (48 x 48 + 48) + 3 x 48 x 80 + 2 x 48; the last norm 48.
            "as it stands": 28_800 + 2 * (9_408 + 11_520 + 96) + 48,
            "no biases": 28_800 + 2 * (9_216 + 11_520 + 96) + 48,
            "as the chat model of 20B is released": 28_800 + 2 * (9_216 + 11_520 + 96) + 48,
        },
    )
]
