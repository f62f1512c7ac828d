"""LLaMA's class."""

from __future__ import annotations

from tests.importing import ABSENT, Case

SMALL = {
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
        model_type="llama",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "stated head_dim": {"head_dim": 16},
            "tied": {"tie_word_embeddings": True},
            "biases of the attention": {"attention_bias": True},
            "biases of the feed-forward": {"mlp_bias": True},
            "the first release": {"max_position_embeddings": ABSENT, "max_sequence_length": 256},
            "two lengths": {"max_sequence_length": 1024, "rope_scaling": {"factor": 4.0, "type": "linear"}},
            "as SmolLM is released": {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {}},
            "as AWS trains it": {"sequence_parallel_enabled": False, "selective_checkpoint_enabled": False},
            "as ALLaM is released": {"internal_version": "7b-alpha-v2.33.0.30", "head_dim": 8},
            "as LongChat is released": {"rope_condense_ratio": 8, "max_sequence_length": 2048},
            "rescaled rotation": {
                "rope_theta": 500000.0,
                "rope_scaling": {
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 128,
                    "rope_type": "llama3",
                },
            },
        },
    )
]
