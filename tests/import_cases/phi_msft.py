"""Phi by its first schema, as Phi-1.5 and Phi-2 were released."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "activation_function": "gelu_new",
    "attn_pdrop": 0.0,
    "flash_attn": False,
    "flash_rotary": False,
    "fused_dense": False,
    "layer_norm_epsilon": 1e-05,
    "n_embd": 2048,
    "n_head": 32,
    "n_head_kv": None,
    "n_inner": None,
    "n_layer": 24,
    "n_positions": 2048,
    "rotary_dim": 32,
    "tie_word_embeddings": False,
    "vocab_size": 51200,
}

CASES = [
    Case(
        model_type="phi-msft",
        config=RELEASED,
        variations={"Phi-2": {"n_embd": 2560, "n_layer": 32}, "stated widths": {"n_head_kv": 32, "n_inner": 8192}},
        params={
            # As the later schema of the same models: https://huggingface.co/microsoft/phi-1_5 and phi-2, recalled.
            "as it stands": 1_418_270_720,
            "Phi-2": 2_779_683_840,
            "stated widths": 1_418_270_720,
        },
    )
]
