"""Norms, feed-forwards and experts in the tables of `names_hf.py`."""

from __future__ import annotations

NORMS = {
    "input_layernorm": "attn_norm | ffn_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "ln1": "attn_norm",
    "ln2": "ffn_norm",
    "norm1": "attn_norm",
    "norm2": "ffn_norm",
    "norm_1": "attn_norm",
    "norm_2": "ffn_norm",
    "norm_attn_norm.norm_1": "attn_norm",
    "norm_attn_norm.norm_2": "ffn_norm",
    "norm": "attn_norm | ffn_norm",
    "ln_attn": "attn_norm",
    "ln_mlp": "ffn_norm",
    "attention_norm": "attn_norm",
    "attention_layer_norm": "attn_norm",
    "attention_layernorm": "attn_norm",  # Apertus
    "feedforward_layernorm": "ffn_norm",
    "feedforward_layer_norm": "ffn_norm | attn_post_norm",
    "layernorm1": "attn_norm",
    "layernorm2": "ffn_norm",
    "post_norm1": "attn_post_norm",
    "post_norm2": "ffn_post_norm",
    "attn_norm": "attn_norm",
    "mlp_norm": "ffn_norm",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "temporal_pre_norm": "attn_norm",
    "channel_pre_norm": "ffn_norm",
    "self_attn_layer_norm": "attn_norm",
    "encoder_attn_layer_norm": "cross_norm",
    "final_layer_norm": "ffn_norm",
    "attention.output.LayerNorm": "attn_norm",
    "attention.ln": "attn_norm",  # Megatron-BERT
    "ln": "ffn_norm | attn_norm",  # R: the first Phi has one norm in a layer
    "attention.self_attn_layer_norm": "attn_norm",  # XLM-RoBERTa-XL
    "LayerNorm": "ffn_norm",
    "sa_layer_norm": "attn_norm",  # DistilBERT
    "output_layer_norm": "ffn_norm",
    "output.LayerNorm": "ffn_norm",
    "pre_ff_layernorm": "ffn_norm",
    "pre_mlp_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_self_attn_layernorm": "attn_post_norm",
    "post_mlp_layernorm": "ffn_post_norm",
    "post_feedforward_layernorm": "ffn_post_norm",
    "post_attention_layernorm": "attn_post_norm | ffn_norm",
    "layer.0.layer_norm": "attn_norm",
    "layer.1.layer_norm": "cross_norm | ffn_norm",
    "layer.2.layer_norm": "ffn_norm",
}

FEED_FORWARDS = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "mixer", "mlp_block", "layer.1.DenseReluDense", "")
"""What a feed-forward is called below its layer; OPT and BART have its matrices in the layer itself."""

_UP = "ffn.gate + ffn.up | ffn.up"

MATRICES = {
    "gate_proj": "ffn.gate",
    "up_proj": "ffn.up",
    "down_proj": "ffn.down",
    "gate_up_proj": "ffn.gate + ffn.up",
    "fc1": "ffn.up",
    "fc2": "ffn.down",
    "c_fc": "ffn.up",
    "c_proj": "ffn.down",
    "0": "ffn.up",  # CTRL
    "2": "ffn.down",
    "fc11": "ffn.up",  # Nomic's BERT
    "fc12": "ffn.gate",
    "lin1": "ffn.up",
    "lin2": "ffn.down",
    "c_fc_0": "ffn.gate",  # EXAONE
    "c_fc_1": "ffn.up",
    "fc_in": "ffn.up",
    "fc_out": "ffn.down",
    "dense_h_to_4h": _UP,
    "dense_4h_to_h": "ffn.down",
    "Wi": _UP,
    "Wo": "ffn.down",
    "wi": "ffn.up",
    "wi_0": "ffn.gate",
    "wi_1": "ffn.up",
    "wo": "ffn.down",
    "key": "ffn.up",
    "value": "ffn.down",
    "receptance": "ffn.receptance",
    "gate": "ffn.router",
    "gate.wg": "ffn.router",
    "router": "ffn.router",
    "router.layer": "ffn.router",
    "router.gate": "ffn.router",
    "shared_expert_gate": "ffn.shared_gate",
    "experts.*.gate_proj": "ffn.experts:gate",
    "experts.*.up_proj": "ffn.experts:up",
    "experts.*.down_proj": "ffn.experts:down",
    "experts.*.w1": "ffn.experts:gate",
    "experts.*.w3": "ffn.experts:up",
    "experts.*.w2": "ffn.experts:down",
    "input_linear": "ffn.experts:gate + ffn.experts:up",  # Granite's experts
    "output_linear": "ffn.experts:down",
    "fc1_latent_proj": "ffn.latent_down",
    "fc2_latent_proj": "ffn.latent_up",
}

NUMBERED = {"w1": "ffn.gate", "w2": "ffn.down", "w3": "ffn.up"}
"""LLaMA's own names, which most follow."""

SHARED = ("shared_expert", "shared_experts", "shared_mlp")
"""What the experts that run for every token are called, below a feed-forward or, in Granite, below the layer."""

SHARED_MATRICES = {
    "gate_proj": "ffn.shared.gate | ffn.gate",
    "up_proj": "ffn.shared.up | ffn.up",
    "down_proj": "ffn.shared.down | ffn.down",
    "gate_up_proj": "ffn.shared.gate + ffn.shared.up | ffn.gate + ffn.up",
    "input_linear": "ffn.shared.gate + ffn.shared.up | ffn.gate + ffn.up",
    "output_linear": "ffn.shared.down | ffn.down",
}

FIXED_MATRICES = {
    "ffn.proj_1": "ffn.gate + ffn.up",  # R: OpenELM
    "ffn.proj_2": "ffn.down",
    "mlp.w1": "ffn.up",  # R: the first Qwen, whose numbers are others
    "mlp.w2": "ffn.gate",
    "intermediate.dense": "ffn.up",
    "output.dense": "ffn.down",
    "layer.2.DenseReluDense.wi": "ffn.up",
    "layer.2.DenseReluDense.wi_0": "ffn.gate",
    "layer.2.DenseReluDense.wi_1": "ffn.up",
    "layer.2.DenseReluDense.wo": "ffn.down",
}

STACKED = {
    "experts.gate_up_proj": "ffn.experts:gate + ffn.experts:up | ffn.experts:up",
    "experts.gate_up_proj_bias": "ffn.experts:gate_bias + ffn.experts:up_bias | ffn.experts:up_bias",
    "experts.gate_proj": "ffn.experts:gate",
    "experts.up_proj": "ffn.experts:up",
    "experts.down_proj": "ffn.experts:down",
    "experts.down_proj_bias": "ffn.experts:down_bias",
    "experts.mlp.w1": "ffn.experts:gate",
    "experts.mlp.v1": "ffn.experts:up",
    "experts.mlp.w2": "ffn.experts:down",
}
"""Parameters of all experts in one tensor."""
