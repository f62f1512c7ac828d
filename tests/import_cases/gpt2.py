"""GPT-2's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {"vocab_size": 300, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64}

CASES = [
    Case(
        model_type="gpt2",
        config=SMALL,
        variations={
            "as released": {
                "n_ctx": 64,
                "n_inner": None,
                "n_special": 0,
                "predict_special_tokens": True,
                "architectures": ["GPT2LMHeadModel"],
                "summary_type": "cls_index",
            },
            "as GPT-SW3": {"apply_query_key_layer_scaling": True, "normalize_attention_scores": True, "n_inner": 192},
            "stated width": {"n_inner": 100},
            "untied": {"tie_word_embeddings": False},
            "other activation": {"activation_function": "relu"},
            "by the library's names": {"hidden_size": 48, "num_hidden_layers": 3, "max_position_embeddings": 64},
            "scores by the layer's index": {"scale_attn_by_inverse_layer_idx": True},
            "scores not scaled": {"scale_attn_weights": False},
            "scores in fp32": {"reorder_and_upcast_attn": True},
        },
    )
]
