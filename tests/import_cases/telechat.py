"""TeleChat's code. transformers has no class: counts are by hand."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "ffn_hidden_size": 80,
    "n_layer": 3,
    "n_head": 6,
    "seq_length": 256,
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": False,
    "skip_bias_add": True,
    "n_inner": None,
}
# Four square matrices and one bias, three matrices and one bias, two norms.
TOTAL = 2 * 300 * 48 + 48 + 3 * (4 * 48 * 48 + 48 + 3 * 48 * 80 + 48 + 2 * 48)

CASES = [
    Case(
        model_type="telechat",
        config=SMALL,
        variations={"grouped": {"num_key_value_heads": 2, "max_position_embeddings": 512, "seq_length": 512}},
        params={"as it stands": TOTAL, "grouped": TOTAL - 3 * 2 * 48 * 32},
    ),
    Case(model_type="telechat2", config=SMALL, params={"as it stands": TOTAL}),
]
