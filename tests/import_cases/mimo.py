"""MiMo's class, as MiMo-7B was released (recalled)."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "vocab_size": 151680,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 640000,
    "hidden_act": "silu",
    "attention_bias": True,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 28,
    "num_nextn_predict_layers": 1,
}

CASES = [
    Case(
        model_type="mimo",
        config=RELEASED,
        variations={},
        params={
            "as it stands": 7_833_409_536
            - 210_790_400,  # what is released, less the layer that predicts a further token
        },
    )
]
