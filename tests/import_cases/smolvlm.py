"""SmolVLM."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="smolvlm",
        config={"text_config": TEXT, "vision_config": {}, "scale_factor": 4},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "untied": {"tie_word_embeddings": False},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
            "as released": {
                "text_config": {
                    **TEXT,
                    "is_llama_config": True,
                    "neftune_noise_alpha": 0.0,
                    "pixel_shuffle_factor": 4,
                    "qk_layer_norms": False,
                    "rope_interleaved": False,
                    "use_resampler": False,
                },
                "use_reentrant_checkpointing": False,
                "vocab_size": 300,
            },
        },
    )
]
