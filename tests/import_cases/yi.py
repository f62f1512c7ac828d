"""Yi's first class, as Yi-6B was released (recalled)."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "vocab_size": 64000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "rope_theta": 5000000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}

CASES = [
    Case(
        model_type="Yi",
        config=RELEASED,
        variations={},
        params={
            "as it stands": 6_061_035_520,  # https://huggingface.co/01-ai/Yi-6B, its safetensors header, recalled
        },
    )
]
