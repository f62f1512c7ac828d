"""InternLM 2's class, as InternLM2-7B was released (recalled)."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "vocab_size": 92544,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "hidden_act": "silu",
    "bias": False,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
    "pretraining_tp": 1,
}

CASES = [
    Case(
        model_type="internlm2",
        config=RELEASED,
        variations={
            "biases": {"bias": True},
        },
        params={
            "as it stands": 7_737_708_544,  # https://huggingface.co/internlm/internlm2-7b, its weights, recalled
            "biases": 7_737_708_544 + 32 * (4096 + 2 * 1024 + 4096),
        },
    )
]
