"""Llama Nemotron's class: small, with a layer of each kind, and as Llama 3.1 70B would be written in it."""

from __future__ import annotations

from tests.importing import Case

OFF = {
    "num_sink_tokens": None,
    "replace_with_linear": False,
    "sparsify": None,
    "unshifted_sink": False,
    "use_prefill_window_in_sink_attention": False,
    "window_length": None,
}
NO_ATTENTION = {"n_heads_in_group": None, "no_op": True, **OFF}
NO_FFN = {"ffn_mult": None, "no_op": True, "replace_with_linear": False, "sparsify": None}


def attention(group: int) -> dict[str, object]:
    """Heads in groups of so many."""
    return {"n_heads_in_group": group, "no_op": False, **OFF}


def ffn(factor: float) -> dict[str, object]:
    """A feed-forward of such a width."""
    return {"ffn_mult": factor, "no_op": False, "replace_with_linear": False, "sparsify": None}


SMALL = {
    "attention_bias": False,
    "block_configs": [
        {"attention": attention(3), "ffn": ffn(2.0)},
        {"attention": NO_ATTENTION, "ffn": ffn(1.0)},
        {"attention": attention(6), "ffn": NO_FFN},
    ],
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": None,
    "max_position_embeddings": 256,
    "mlp_bias": False,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "num_key_value_heads": None,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 300,
}

CASES = [
    Case(
        model_type="nemotron-nas",
        config=SMALL,
        variations={
            "Llama 3.1 70B": {
                "block_configs": [{"attention": attention(8), "ffn": ffn(5.25)}] * 80,
                "hidden_size": 8192,
                "max_position_embeddings": 131072,
                "num_attention_heads": 64,
                "num_hidden_layers": 80,
                "vocab_size": 128256,
            }
        },
        params={
            # Tables 2 x 300 x 48. The first layer: 48 x (48 + 2 x 16 + 48), 3 x 48 x 256 as 2/3 x 2 x 48 = 64 goes up to
            # 256, two norms. The second: 3 x 48 x 256, one norm. The third: 48 x (48 + 2 x 8 + 48), one norm. One more.
            "as it stands": 28_800 + (6_144 + 36_864 + 96) + (36_864 + 48) + (5_376 + 48) + 48,
            "Llama 3.1 70B": 70_553_706_496,
        },
    )
]
