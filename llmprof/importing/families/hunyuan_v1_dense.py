"""Hunyuan's dense models: LLaMA's block with an RMSNorm of each head's queries and keys."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, normed_after_rotation, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    eps = c.number("rms_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    normed_after_rotation(c)
    # Fields of the release that the class does not read, at the values that it implements.
    for key in ("add_classification_head", "mlp_bias", "position_embedding_xdrope", "use_cla"):
        c.must(key, False, why="the class has no such thing")
    for key in ("use_qk_norm", "use_rotary_pos_emb"):
        c.must(key, True, why="the class has it in any case")
    c.must("attention_head_dim", head_dim.value, why="the class reads head_dim")
    c.must("norm_type", "rms", why="the class has RMSNorms")
    c.must("num_experts", 1, why="the class has one feed-forward")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=290943),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=11008),
            },
        },
    }


RELEASED = frozenset(
    {
        "cla_share_factor",
        "class_num",
        "dense_list",
        "enable_lm_head_fp32",
        "im_end_id",
        "im_newline_id",
        "im_start_id",
        "mask_init_id",
        "org_vocab_size",
        "pad_id",
        "pool_type",
        "text_end_id",
        "text_start_id",
    }
)
"""Fields of the release for sharing across layers and for heads that it does not have, and numbers of tokens."""

FAMILY = Family(document=document, config_class="HunYuanDenseV1Config", source=TRANSFORMERS, idle=RUNTIME | RELEASED)
