"""What tensors are called in the releases of the Hugging Face hub, and where they stand here: one literal table.

On the right are paths of the call tree. ``a + b`` is one tensor that holds several matrices; ``a | b`` are readings of
which the architecture decides: the first that it has, and that no other tensor has taken. ``path:name`` is a parameter
that is called neither weight nor bias, ``path*`` a part of one. Below a layer, paths are relative to it. ``*`` in a
name stands for the number of an expert or a head.

The names are those of the models in transformers 5.23.0 (https://pypi.org/project/transformers/5.23.0/, read
2026-11-30) and of its `conversion_mapping.py`, which says how they are called in files; those marked R are of released
code that stands beside the weights on the hub (recalled).
"""

from __future__ import annotations

from collections.abc import Mapping

WRAPPERS = (
    "model.",
    "transformer.",
    "language_model.",
    "text_model.",
    "thinker.",
    "gpt_neox.",
    "gpt_neox_japanese.",
    "biogpt.",
    "backbone.",
    "bert.",
    "roberta.",
    "ernie.",
    "distilbert.",
    "rwkv.",
    "base_model.",
)
"""What may stand before all names, in any order and more than once: it says nothing of where a tensor stands."""

_EMBEDDINGS = {
    "embed_tokens": "embed",
    "wte": "embed",
    "embed_in": "embed",
    "tokens_embed": "embed",
    "w": "embed",  # CTRL
    "shared": "embed",
    "word_embeddings": "embed",
    "tok_embeddings": "embed",
    "token_embeddings": "embed",  # R: OpenELM
    "embd.wte": "embed",  # R: the first Phi, as the norm and the matrix of its head below
    "embeddings": "embed",
    "embedding": "embed",
    "embeddings.word_embeddings": "embed",
    "embedding.word_embeddings": "embed",
    "embeddings.tok_embeddings": "embed",
    "encoder.embed_tokens": "embed",
    "decoder.embed_tokens": "embed",
    "wpe": "pos_embed",
    "embed_positions": "pos_embed",
    "positions_embed": "pos_embed",
    "embeddings.position_embeddings": "pos_embed",
    "encoder.embed_positions": "encoder.pos_embed | pos_embed",
    "decoder.embed_positions": "decoder.pos_embed | pos_embed",
    "embeddings.token_type_embeddings": "type_embed",
    "embeddings.LayerNorm": "embed_norm",
    "embeddings.norm": "embed_norm",
    "emb_ln": "embed_norm",
    "word_embeddings_layernorm": "embed_norm",
    "encoder.layernorm_embedding": "encoder.embed_norm",
    "decoder.layernorm_embedding": "decoder.embed_norm",
    "blocks.0.pre_ln": "embed_norm",
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "decoder.project_in": "embed_proj",
    "decoder.project_out": "head.proj",
}

_ENDS = {
    "norm": "final_norm",
    "ln_f": "final_norm",
    "norm_f": "final_norm",
    "final_norm": "final_norm",
    "final_layernorm": "final_norm",
    "final_layer_norm": "final_norm",
    "embedding_norm": "final_norm",  # LFM2 calls the norm behind its layers so
    "ln_out": "final_norm",
    "layer_norm": "final_norm",
    "layernorm": "final_norm",
    "encoder.final_layernorm": "final_norm",  # R: ChatGLM
    "encoder.layer_norm": "encoder.final_norm",
    "decoder.layer_norm": "decoder.final_norm",
    "encoder.final_layer_norm": "encoder.final_norm",
    "decoder.final_layer_norm": "decoder.final_norm | final_norm",
    "encoder.norm": "encoder.final_norm",
    "encoder.ln": "final_norm",  # Megatron-BERT
    "encoder.LayerNorm": "final_norm",  # XLM-RoBERTa-XL
    "vocab_transform": "head.dense",  # these three are DistilBERT's
    "vocab_layer_norm": "head.norm",
    "vocab_projector": "lm_head | embed",
    "decoder.norm": "decoder.final_norm",
    "lm_head": "lm_head | embed",
    "embed_out": "lm_head | embed",
    "output": "lm_head | embed",
    "output_layer": "lm_head | embed",
    "proj_out": "lm_head | embed",
    "output_projection": "lm_head | embed",
    "head": "lm_head | embed",
    "pooler.dense": "pooler",
    "cls.predictions.transform.dense": "head.dense",
    "cls.predictions.transform.LayerNorm": "head.norm",
    "cls.predictions.decoder": "lm_head | embed",
    "cls.predictions": "lm_head",  # its bias
    "lm_head.ln": "final_norm",
    "lm_head.linear": "lm_head | embed",
    "lm_head.dense": "head.dense",
    "lm_head.layer_norm": "head.norm",
    "lm_head.decoder": "lm_head | embed",
    "head.dense": "head.dense",
    "head.norm": "head.norm",
    "decoder": "lm_head | embed",
}

OUTER: Mapping[str, str] = {**_EMBEDDINGS, **_ENDS}
"""Modules outside layers, whose tensors are ``weight`` and ``bias``. A tied release may have but the output matrix."""

RELATIVE_BIAS = "layer.0.SelfAttention.relative_attention_bias"
"""T5's table, which stands in the first layer and serves its stack."""

_SELF_ATTENTION = (
    "self_attn",
    "attn",
    "attention",
    "self_attention",
    "multi_head_attention",
    "attn.attention",
    "mixer",
    "temporal_block",
)
"""What an attention is called below its layer."""

_QKV = "attn.q_proj + attn.k_proj + attn.v_proj"
_Q = "attn.q_proj + attn.gate_proj | attn.q_proj"

_PROJECTIONS = {
    "q_proj": _Q,
    "k_proj": "attn.k_proj",
    "v_proj": "attn.v_proj",
    "o_proj": "attn.o_proj",
    "Wq": "attn.q_proj",
    "Wk": "attn.k_proj",
    "Wv": "attn.v_proj",
    "wq": "attn.q_proj",
    "wk": "attn.k_proj",
    "wv": "attn.v_proj",
    "wo": "attn.o_proj",
    "out_proj": "attn.o_proj | attn.out_proj",
    "dense": "attn.o_proj",
    "q_lin": "attn.q_proj",
    "k_lin": "attn.k_proj",
    "v_lin": "attn.v_proj",
    "out_lin": "attn.o_proj",
    "c_proj": "attn.o_proj",
    "Wo": "attn.o_proj",
    "qkv_proj": _QKV,
    "query_key_value": _QKV,
    "c_attn": _QKV,
    "Wqkv": _QKV,
    "wqkv": _QKV,
    "W_pack": _QKV,
    "g_proj": "attn.gate_proj",
    "gate_proj": "attn.gate_proj",
    "q_norm": "attn.q_norm",
    "k_norm": "attn.k_norm",
    "q_layernorm": "attn.q_norm",
    "k_layernorm": "attn.k_norm",
    "q_layernorm.norms.*": "attn.q_norm*",  # StableLM has one for each head
    "k_layernorm.norms.*": "attn.k_norm*",
    "query_layernorm": "attn.q_norm",
    "key_layernorm": "attn.k_norm",
    "q_a_proj": "attn.q_down",
    "q_a_layernorm": "attn.q_down_norm",
    "q_b_proj": "attn.q_up",
    "kv_a_proj_with_mqa": "attn.kv_down",
    "kv_a_layernorm": "attn.kv_norm",
    "kv_b_proj": "attn.kv_up",
    "indexer.wq_b": "attn.indexer.q_proj",
    "indexer.wk": "attn.indexer.k_proj",
    "indexer.k_norm": "attn.indexer.k_norm",
    "indexer.weights_proj": "attn.indexer.weights",
}

_FIXED_ATTENTION = {
    "attention.self.query": "attn.q_proj",
    "attention.self.key": "attn.k_proj",
    "attention.self.value": "attn.v_proj",
    "attention.output.dense": "attn.o_proj",
    "norm_attn_norm.attn.Wqkv": _QKV,
    "norm_attn_norm.attn.out_proj": "attn.o_proj",
    "layer.0.SelfAttention.q": "attn.q_proj",
    "layer.0.SelfAttention.k": "attn.k_proj",
    "layer.0.SelfAttention.v": "attn.v_proj",
    "layer.0.SelfAttention.o": "attn.o_proj",
    "layer.1.EncDecAttention.q": "cross_attn.q_proj",
    "layer.1.EncDecAttention.k": "cross_attn.k_proj",
    "layer.1.EncDecAttention.v": "cross_attn.v_proj",
    "layer.1.EncDecAttention.o": "cross_attn.o_proj",
    "encoder_attn.q_proj": "cross_attn.q_proj",
    "encoder_attn.k_proj": "cross_attn.k_proj",
    "encoder_attn.v_proj": "cross_attn.v_proj",
    "encoder_attn.out_proj": "cross_attn.o_proj",
}

_MIXERS = ("mixer", "mamba", "linear_attn", "conv", "temporal_block", "attn", "attention")
"""What a recurrent mixer is called below its layer; Falcon-H1 has one beside its attention."""

_MIXER_PARTS = {
    "in_proj": "mixer.in_proj | attn.in_proj",
    "conv1d": "mixer.conv | attn.conv",
    "conv_1d": "attn.conv",
    "conv": "attn.conv",
    "x_proj": "attn.x_proj",
    "dt_proj": "attn.dt_proj",
    "out_proj": "mixer.out_proj | attn.out_proj | attn.o_proj",
    "norm": "mixer.norm | attn.norm",
    "dt_layernorm": "attn.dt_norm",
    "b_layernorm": "attn.b_norm",
    "c_layernorm": "attn.c_norm",
    "in_proj_qkvz": "attn.in_proj",
    "in_proj_ba": "attn.gates_proj",
    "in_proj_qkv": "attn.in_proj*",
    "in_proj_z": "attn.in_proj*",
    "in_proj_a": "attn.gates_proj*",
    "in_proj_b": "attn.gates_proj*",
    "q_proj": "attn.in_proj*",  # OLMo Hybrid, whose projections and convolutions are apart
    "k_proj": "attn.in_proj*",
    "v_proj": "attn.in_proj*",
    "g_proj": "attn.in_proj*",
    "a_proj": "attn.gates_proj*",
    "b_proj": "attn.gates_proj*",
    "q_conv1d": "attn.conv*",
    "k_conv1d": "attn.conv*",
    "v_conv1d": "attn.conv*",
    "o_proj": "attn.out_proj",
    "o_norm": "attn.norm",
    "linear_x": "attn.in_proj",
    "linear_y": "attn.gate_proj",
    "linear_out": "attn.out_proj",
    "key": "attn.k_proj",
    "value": "attn.v_proj",
    "receptance": "attn.r_proj",
    "output": "attn.o_proj | attn.out_proj",
}

_MIXER_PARAMETERS = {
    "A_log": "mixer.core:a_log | attn.core:a_log",
    "D": "mixer.core:d | attn.core:d",
    "dt_bias": "mixer.core:dt_bias | attn.core:dt_bias",
    "rg_lru.recurrent_param": "attn.core:decay",
    "rg_lru.input_gate_weight": "attn.core:input_weight",
    "rg_lru.input_gate_bias": "attn.core:input_bias",
    "rg_lru.recurrent_gate_weight": "attn.core:decay_weight",
    "rg_lru.recurrent_gate_bias": "attn.core:decay_bias",
    "time_decay": "attn.core:decay",
    "time_first": "attn.core:first",
    "time_mix_key": "attn.shift:k",
    "time_mix_value": "attn.shift:v",
    "time_mix_receptance": "attn.shift:r",
}

_NORMS = {
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

_FEED_FORWARDS = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "mixer", "mlp_block", "layer.1.DenseReluDense", "")
"""What a feed-forward is called below its layer; OPT and BART have its matrices in the layer itself."""

_UP = "ffn.gate + ffn.up | ffn.up"

_MATRICES = {
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

_NUMBERED = {"w1": "ffn.gate", "w2": "ffn.down", "w3": "ffn.up"}
"""LLaMA's own names, which most follow."""

_SHARED = ("shared_expert", "shared_experts", "shared_mlp")
"""What the experts that run for every token are called, below a feed-forward or, in Granite, below the layer."""

_SHARED_MATRICES = {
    "gate_proj": "ffn.shared.gate | ffn.gate",
    "up_proj": "ffn.shared.up | ffn.up",
    "down_proj": "ffn.shared.down | ffn.down",
    "gate_up_proj": "ffn.shared.gate + ffn.shared.up | ffn.gate + ffn.up",
    "input_linear": "ffn.shared.gate + ffn.shared.up | ffn.gate + ffn.up",
    "output_linear": "ffn.shared.down | ffn.down",
}

_FIXED_MATRICES = {
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

_STACKED = {
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


def _below(blocks: tuple[str, ...], table: Mapping[str, str]) -> dict[str, str]:
    return {f"{block}.{name}" if block else name: target for block in blocks for name, target in table.items()}


def _joined(*tables: Mapping[str, str]) -> dict[str, str]:
    """The tables as one: a name that stands in several has the readings of all, in their order."""
    made: dict[str, str] = {}
    for table in tables:
        for name, target in table.items():
            made[name] = target if name not in made else f"{made[name]} | {target}"
    return made


LAYER: Mapping[str, str] = _joined(
    _NORMS,
    _below(_SELF_ATTENTION, _PROJECTIONS),
    _below(_MIXERS, _MIXER_PARTS),
    _FIXED_ATTENTION,
    _below(_FEED_FORWARDS, _MATRICES),
    _below(("feed_forward", "block_sparse_moe", "ffn"), _NUMBERED),
    _below((*_SHARED, *(f"{ffn}.{name}" for ffn in _FEED_FORWARDS[:-1] for name in _SHARED)), _SHARED_MATRICES),
    _FIXED_MATRICES,
)
"""Modules below a layer, whose tensors are ``weight`` and ``bias``."""

PARAMETERS: Mapping[str, str] = _joined(
    _below(("self_attn", "attn"), {"sinks": "attn.core:sinks"}),
    _below(_MIXERS, _MIXER_PARAMETERS),
    _below(_FEED_FORWARDS[:-1], _STACKED),
    {"attention.dense_bias": "attn.o_proj:bias"},
    {"feed_forward.time_mix_key": "ffn.shift:k", "feed_forward.time_mix_receptance": "ffn.shift:r"},
)
"""Tensors below a layer that are called by a name of their own."""

FURTHER: Mapping[str, str] = {
    "enorm": "join.embed_norm",
    "hnorm": "join.hidden_norm",
    "eh_proj": "join.proj",
    "shared_head.norm": "norms",
    "embed_tokens": "embed",
    "shared_head.head": "lm_head | embed",
    "token_layernorm": "join.embed_norm",
    "hidden_layernorm": "join.hidden_norm",
    "input_proj": "join.proj",
    "final_layernorm": "norms",
}
"""What a layer of further tokens has beside a layer's own: behind the last layer (DeepSeek), or apart (R: MiMo)."""

FURTHER_OUTER: Mapping[str, str] = {
    "pre_fc_norm_embedding": "join.embed_norm",
    "pre_fc_norm_hidden": "join.hidden_norm",
    "fc": "join.proj",
    "norm": "norms",
    "embed_tokens": "embed",
    "lm_head": "lm_head | embed",
}
"""The same below ``mtp.`` (Qwen3-Next)."""
