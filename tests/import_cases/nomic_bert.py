"""Nomic Embed's class, by the names of transformers and by those of the releases."""

from __future__ import annotations

from tests.importing import ABSENT, Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 100,
    "max_position_embeddings": 64,
}
RELEASED = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "causal": False,
    "fused_bias_fc": True,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 768,
    "n_head": 12,
    "n_inner": 3072,
    "n_layer": 12,
    "n_positions": 128,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "type_vocab_size": 2,
    "use_flash_attn": True,
    "use_rms_norm": False,
    "use_xentropy": True,
}
# The table, two segments, the norm behind them; four projections, three matrices and two norms in each layer: with the
# release's 30,528 rows 136,731,648, as nomic-embed-text-v1.5 is published (its header, recalled).
TOTAL = 30528 * 768 + 2 * 768 + 2 * 768 + 12 * (4 * 768 * 768 + 3 * 768 * 3072 + 4 * 768)

CASES = [
    Case(
        model_type="nomic_bert",
        config=SMALL,
        variations={
            "one segment": {"type_vocab_size": 1},
            "another gate": {"hidden_act": "gelu"},
            "stated head_dim": {"head_dim": 16},
        },
        head="base",
    ),
    Case(
        model_type="nomic_bert",
        config={"vocab_size": 30528, **RELEASED},
        variations={"with both lengths": {"max_position_embeddings": 64}, "unsaid class": {"architectures": ABSENT}},
        params={"as it stands": TOTAL, "with both lengths": TOTAL, "unsaid class": TOTAL},
    ),
]
