"""The class of Llama 4's tower of text."""

from __future__ import annotations

from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="llama4_text",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 40,
            "intermediate_size_mlp": 88,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_local_experts": 5,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 1,
            "no_rope_layers": [],
            "attention_chunk_size": 64,
            "max_position_embeddings": 256,
        },
        variations={
            "every second layer sparse, as Maverick": {"interleave_moe_layer_step": 2, "use_qk_norm": False},
            "sparse layers by a list": {"moe_layers": [1, 2, 5]},
            "no experts": {"moe_layers": []},
            "rotated layers by a list": {"no_rope_layers": [1, 0, 0, 1, 1, 1]},
            "every third layer not rotated": {"no_rope_layer_interval": 3},
            "as the FP8 release has it": {"nope_layer_interval": 4, "for_llm_compressor": True},
            "all layers rotated": {"no_rope_layers": [1] * 6},
            "what layers see by a list": {"layer_types": [*["full_attention"] * 4, *["chunked_attention"] * 2]},
            "head_dim by default": {"head_dim": ABSENT},
            "biases of the attention": {"attention_bias": True},
            "two experts of a token": {"num_experts_per_tok": 2},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
