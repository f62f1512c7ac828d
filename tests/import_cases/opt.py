"""OPT's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "ffn_dim": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
}

CASES = [
    Case(
        model_type="opt",
        config=SMALL,
        variations={
            "as released": {"word_embed_proj_dim": 48, "do_layer_norm_before": True, "_remove_final_layer_norm": False},
            "as the 13B": {"_name_or_path": "facebook/opt-13b", "output_projection": True},
            "as the 350M": {"word_embed_proj_dim": 32, "do_layer_norm_before": False},
            "narrow table and pre-norm": {"word_embed_proj_dim": 32},
            "narrow table, untied": {"word_embed_proj_dim": 32, "tie_word_embeddings": False},
            "as Galactica": {
                "enable_bias": False,
                "layer_norm_elementwise_affine": False,
                "activation_function": "gelu",
                "learned_embeddings": True,
                "scale_embeddings": False,
            },
            "without final norm": {"_remove_final_layer_norm": True},
            "untied": {"tie_word_embeddings": False},
        },
    )
]
