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

from llmprof.stored import names_hf_attention as attention
from llmprof.stored import names_hf_ffn as ffn

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
    "data2vec_text.",
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
"""T5's table, which stands in the first layer and serves its stack; UMT5 has one in each layer."""


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
    ffn.NORMS,
    _below(attention.SELF_ATTENTION, attention.PROJECTIONS),
    _below(attention.MIXERS, attention.MIXER_PARTS),
    attention.FIXED_ATTENTION,
    _below(ffn.FEED_FORWARDS, ffn.MATRICES),
    _below(("feed_forward", "block_sparse_moe", "ffn"), ffn.NUMBERED),
    _below(
        (*ffn.SHARED, *(f"{block}.{name}" for block in ffn.FEED_FORWARDS[:-1] for name in ffn.SHARED)),
        ffn.SHARED_MATRICES,
    ),
    ffn.FIXED_MATRICES,
    {RELATIVE_BIAS: "attn.rel_bias"},
)
"""Modules below a layer, whose tensors are ``weight`` and ``bias``."""

PARAMETERS: Mapping[str, str] = _joined(
    _below(("self_attn", "attn"), {"sinks": "attn.core:sinks"}),
    _below(attention.MIXERS, attention.MIXER_PARAMETERS),
    {f"mlp.act_fn.{name}": f"ffn.act:{name}" for name in ("alpha_p", "alpha_n")},  # xIELU
    _below(ffn.FEED_FORWARDS[:-1], ffn.STACKED),
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
