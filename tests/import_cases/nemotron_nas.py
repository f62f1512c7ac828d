"""Nemotron-NAS, of which transformers has no class."""

from __future__ import annotations

from typing import Any

from tests.importing import Case


def block(group: int | None, multiple: float | None) -> dict[str, Any]:
    """A block as released files write it; None for a part that it lacks."""
    return {
        "attention": {
            "n_heads_in_group": group,
            "no_op": group is None,
            "num_sink_tokens": None,
            "replace_with_linear": False,
            "sparsify": None,
            "unshifted_sink": False,
            "use_prefill_window_in_sink_attention": False,
            "window_length": None,
        },
        "ffn": {"ffn_mult": multiple, "no_op": multiple is None, "replace_with_linear": False, "sparsify": None},
    }


# Two thirds of 48 x 10 are 320, up to a multiple of 256: 512; of 48 x 3 they are 96, so 256.
FIRST = 48 + 2 * 48 * 48 + 2 * 48 * 16 + 48 + 3 * 48 * 512  # 6 heads of 8 in groups of 3: 2 key/value heads
SECOND = 48 + 3 * 48 * 256
THIRD = 48 + 2 * 48 * 48 + 2 * 48 * 48  # as many key/value heads as heads
OUTSIDE = 300 * 48 + 48

CASES = [
    Case(
        model_type="nemotron-nas",
        config={
            "architectures": ["DeciLMForCausalLM"],
            "attention_bias": False,
            "block_configs": [block(3, 10), block(None, 3.0), block(None, None), block(1, None)],
            "hidden_act": "silu",
            "hidden_size": 48,
            "intermediate_size": None,
            "max_position_embeddings": 256,
            "mlp_bias": False,
            "num_attention_heads": 6,
            "num_hidden_layers": 4,
            "num_key_value_heads": None,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
            "vocab_size": 300,
        },
        variations={
            "tied": {"tie_word_embeddings": True},
            "alike": {"block_configs": [block(3, 10)] * 4},
            "biases of the attention": {"attention_bias": True},
        },
        params={
            "as it stands": FIRST + SECOND + THIRD + OUTSIDE + 300 * 48,
            "tied": FIRST + SECOND + THIRD + OUTSIDE,
            "alike": 4 * FIRST + OUTSIDE + 300 * 48,
            # Of queries and output 48 each; of keys and values 16 in the first layer, 48 in the last.
            "biases of the attention": FIRST + SECOND + THIRD + OUTSIDE + 300 * 48 + (2 * 48 + 2 * 16) + 4 * 48,
        },
    )
]
