"""What tensors are called in GGUF files: the same table as `names_hf.py`, in the same notation.

The names: `TENSOR_NAMES` of the package gguf 0.19.0 (https://pypi.org/project/gguf/0.19.0/, read 2026-11-30), against
which a test holds this table.
"""

from __future__ import annotations

from collections.abc import Mapping

OUTER: Mapping[str, str] = {
    "token_embd": "embed",
    "token_embd_norm": "embed_norm",
    "token_types": "type_embed",
    "position_embd": "pos_embed",
    "output": "lm_head | embed",
    "output_norm": "final_norm",
    "enc.output_norm": "encoder.final_norm",
    "dec.output_norm": "decoder.final_norm",
}

RELATIVE_BIAS = "attn_rel_b"

LAYER: Mapping[str, str] = {
    "attn_norm": "attn_norm | ffn_norm",
    "attn_norm_2": "attn_norm",  # Falcon's, in whose files attn_norm is the feed-forward's
    "ffn_norm": "ffn_norm",
    "attn_output_norm": "attn_norm",
    "layer_output_norm": "ffn_norm",
    "post_attention_norm": "attn_post_norm | ffn_norm",
    "post_ffw_norm": "ffn_post_norm",
    "attn_q": "attn.q_proj + attn.gate_proj | attn.q_proj",
    "attn_k": "attn.k_proj",
    "attn_v": "attn.v_proj",
    "attn_qkv": "attn.q_proj + attn.k_proj + attn.v_proj | attn.in_proj*",
    "attn_gate": "attn.gate_proj | attn.in_proj*",
    "attn_output": "attn.o_proj",
    "attn_o": "attn.o_proj",
    "attn_q_norm": "attn.q_norm",
    "attn_k_norm": "attn.k_norm",
    "attn_sinks": "attn.core:sinks",
    RELATIVE_BIAS: "attn.rel_bias",
    "attn_q_a": "attn.q_down",
    "attn_q_a_norm": "attn.q_down_norm",
    "attn_q_b": "attn.q_up",
    "attn_kv_a_mqa": "attn.kv_down",
    "attn_kv_a_norm": "attn.kv_norm",
    "attn_kv_b": "attn.kv_up",
    "attn_k_b": "attn.kv_up*",
    "attn_v_b": "attn.kv_up*",
    "indexer.k_norm": "attn.indexer.k_norm",
    "indexer.proj": "attn.indexer.weights",
    "indexer.attn_k": "attn.indexer.k_proj",
    "indexer.attn_q_b": "attn.indexer.q_proj",
    "cross_attn_norm": "cross_norm",
    "cross_attn_q": "cross_attn.q_proj",
    "cross_attn_k": "cross_attn.k_proj",
    "cross_attn_v": "cross_attn.v_proj",
    "cross_attn_o": "cross_attn.o_proj",
    "ffn_gate": "ffn.gate",
    "ffn_up": "ffn.gate + ffn.up | ffn.up",
    "ffn_down": "ffn.down",
    "ffn_gate_inp": "ffn.router",
    "ffn_gate_exps": "ffn.experts:gate",
    "ffn_up_exps": "ffn.experts:up",
    "ffn_down_exps": "ffn.experts:down",
    "ffn_gate_up_exps": "ffn.experts:gate + ffn.experts:up",
    "ffn_gate_inp_shexp": "ffn.shared_gate",
    "ffn_gate_shexp": "ffn.shared.gate",
    "ffn_up_shexp": "ffn.shared.up",
    "ffn_down_shexp": "ffn.shared.down",
    "ffn_latent_down": "ffn.latent_down",
    "ffn_latent_up": "ffn.latent_up",
    "ssm_in": "mixer.in_proj | attn.in_proj",
    "ssm_conv1d": "mixer.conv | attn.conv",
    "ssm_x": "attn.x_proj",
    "ssm_dt": "attn.dt_proj",
    "ssm_dt_norm": "attn.dt_norm",
    "ssm_b_norm": "attn.b_norm",
    "ssm_c_norm": "attn.c_norm",
    "ssm_norm": "mixer.norm | attn.norm",
    "ssm_out": "mixer.out_proj | attn.out_proj",
    "ssm_ba": "attn.gates_proj",
    "ssm_alpha": "attn.gates_proj*",
    "ssm_beta": "attn.gates_proj*",
    "shortconv.conv": "attn.conv",
    "shortconv.in_proj": "attn.in_proj",
    "shortconv.out_proj": "attn.out_proj",
}
"""Modules below ``blk.N.``, whose tensors are ``weight`` and ``bias``."""

PARAMETERS: Mapping[str, str] = {
    "ssm_a": "mixer.core:a_log | attn.core:a_log",
    "ssm_d": "mixer.core:d | attn.core:d",
    "ssm_dt.bias": "mixer.core:dt_bias | attn.core:dt_bias",
}
"""Tensors below ``blk.N.`` that are called by a name of their own."""

FURTHER: Mapping[str, str] = {
    "nextn.enorm": "join.embed_norm",
    "nextn.hnorm": "join.hidden_norm",
    "nextn.eh_proj": "join.proj",
    "nextn.shared_head_norm": "norms",
    "nextn.embed_tokens": "embed",
    "nextn.shared_head_head": "lm_head | embed",
}
"""What a layer that predicts a further token has beside a layer's own."""
