"""ModernBERT's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "intermediate_size": 100,
    "max_position_embeddings": 64,
    "local_attention": 16,
    "pad_token_id": 0,
}

CASES = [
    Case(
        model_type="modernbert",
        config=SMALL,
        variations={
            "as released": {
                "architectures": ["ModernBertForMaskedLM"],
                "classifier_activation": "gelu",
                "classifier_bias": False,
                "decoder_bias": True,
                "global_attn_every_n_layers": 3,
                "global_rope_theta": 160000.0,
                "layer_norm_eps": 1e-05,
                "local_rope_theta": 10000.0,
                "position_embedding_type": "absolute",
                "reference_compile": None,
            },
            "other layers": {"layer_types": ["sliding_attention"] * 4 + ["full_attention"]},
            "every second": {"global_attn_every_n_layers": 2},
            "biases": {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
            "untied": {"tie_word_embeddings": False},
            "newer names": {
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 80000.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
                }
            },
        },
        head="masked-lm",
    ),
    Case(
        model_type="modernbert",
        config={**SMALL, "architectures": ["ModernBertModel"]},
        variations={"one layer": {"num_hidden_layers": 1}},
        head="base",
        unlike={"architectures"},
    ),
]
