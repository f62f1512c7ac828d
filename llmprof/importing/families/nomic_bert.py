"""Nomic Embed's BERT: post-norm SwiGLU layers with rotations, segments, no biases in the layers' matrices.

Releases have the names of GPT-2's fields, transformers' own class those of BERT's.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmprof.importing.blocks import built_as, multi_head, off
from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head, rope

GATED: Mapping[str, str] = {"swiglu": "swiglu", "geglu": "geglu", "glu": "glu"}
"""``activation_function`` of the releases, where the feed-forward is gated."""


def document(c: Config) -> Doc:
    """The table. The masked-LM head has SiLU between its matrices, which the spec language cannot say."""
    if built_as(c) not in (None, "NomicBertModel"):
        c.stop("architectures", "NomicBertModel: the heads of the other classes cannot be said")
    c.remark("counted without a head and without a pooler, as embeddings are made")
    off(c, "prenorm", "parallel_block", "causal", "use_rms_norm", why="the class has post-norm LayerNorm encoders")
    off(c, "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", why="the class has no biases in the layers' matrices")
    off(c, "add_pooling_layer", why="the class has no pooler")
    c.must("num_experts", 0, None, why="the class has no experts")
    c.must("rotary_emb_fraction", 1, why="positions that are not rotated have a table of their own")
    c.must("rotary_scaling_factor", None, why="the rotation would be stretched")
    c.must("tie_word_embeddings", True, False, why="there is no output matrix")
    c.must("scale_attn_weights", True, why="the class always scales scores by the root of the head's width")
    off(c, "scale_attn_by_inverse_layer_idx", why="the class scales all layers alike")
    hidden = c.size("hidden_size", default=768)
    heads = c.size("num_attention_heads", default=12)
    count = c.size("num_hidden_layers", default=12)
    width = c.size("intermediate_size", default=3072)
    # The releases say these alone, at the class's defaults; the class does not read them.
    for key, read in (("n_embd", hidden), ("n_head", heads), ("n_layer", count), ("n_inner", width)):
        c.must(key, read.value, None, why="the class has this where the file does not say it by the class's own name")
    head_dim = per_head(hidden, heads, c, "head_dim")
    norm: Doc = {"kind": "layernorm", "eps": c.number("layer_norm_eps", "layer_norm_epsilon", default=1e-12)}
    return {
        "structure": "encoder",
        "vocab_size": c.size("vocab_size", default=30528),
        "d_model": hidden,
        "max_context": _longest(c),
        "tied_embeddings": False,
        "position": rope(
            c, head_dim, theta=1000.0, theta_key="rotary_emb_base" if c.has("rotary_emb_base") else "rope_theta"
        ),
        "embedding": {"norm": norm, "type_vocab_size": c.size("type_vocab_size", default=2)},
        "layers": {
            "count": count,
            "norm": {**norm, "placement": "post"},
            "attention": multi_head(heads, head_dim, bias=False),
            "ffn": {"kind": _gate(c), "d_ff": width},
        },
        "head": {"kind": "none"},
    }


def _gate(c: Config) -> Read[str]:
    if not c.has("activation_function"):
        return c.choice("hidden_act", of=GLUS, default="silu")
    gate = c.choice("activation_function", of=GATED)
    if c.has("hidden_act") and c.choice("hidden_act", of=GLUS).value != gate.value:
        c.refuse("hidden_act", "the activation that activation_function says")
    return gate


def _longest(c: Config) -> Read[int]:
    """The longest input: the class's field, or that of the releases, which state a length that they stretch to."""
    if c.has("max_position_embeddings") or not c.has("n_positions"):
        return c.size("max_position_embeddings", default=2048)
    return c.size("n_positions")


FAMILY = Family(
    document=document,
    config_class="NomicBertConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            "dense_seq_output",
            "expert_choice_router",
            "ffn_div",
            "fused_bias_fc",
            "fused_dropout_add_ln",
            "last_layer_subset",
            "max_trained_positions",
            "moe_every_n_layers",
            "moe_impl",
            "moe_normalize_expert_weights",
            "moe_top_k",
            "n_positions",
            "num_shared_experts",
            "pad_vocab_size_multiple",
            "parallel_block_tied_norm",
            "reorder_and_upcast_attn",
            "rotary_emb_interleaved",
            "rotary_emb_scale_base",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
            "use_flash_attn",
            "use_xentropy",
        }
    ),
)
