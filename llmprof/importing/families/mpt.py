"""MPT: ALiBi, norms and matrices without biases."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, four_times, multi_head, off, on
from llmprof.importing.config import Config, Read
from llmprof.importing.dense import clip
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import per_head


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    on(c, "no_bias", why="the class builds no biases")
    c.must("expansion_ratio", 4, why="the class builds feed-forwards of 4 x d_model")
    c.must("embedding_fraction", 1, why="the class does not scale gradients of embeddings")
    c.must("logit_scale", None, why="the class does not scale logits")
    c.must("norm_type", "low_precision_layernorm", "layernorm", why="the class has LayerNorm")
    c.must("fc_type", "torch", None, why="another kind of linear layer is not known")
    c.below("ffn_config").must("ffn_type", "mptmlp", why="the class has feed-forwards of two matrices")
    c.below("ffn_config").must("fc_type", "torch", None, why="another kind of linear layer is not known")
    hidden = c.size("d_model", "hidden_size", default=2048)
    heads = c.size("n_heads", "num_attention_heads", default=16)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50368),
        "d_model": hidden,
        "max_context": c.size("max_seq_len", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "alibi"},
        "layers": {
            "count": c.size("n_layers", "num_hidden_layers", default=24),
            "norm": {
                "kind": "layernorm",
                "placement": "pre",
                "bias": False,
                "eps": c.number("layer_norm_epsilon", default=1e-5),
            },
            "attention": _attention(c.below("attn_config"), heads, per_head(hidden, heads, c)),
            "ffn": {"kind": "gelu", "d_ff": four_times(hidden)},
        },
    }


def _attention(c: Config, heads: Read[int], head_dim: Read[int]) -> Doc:
    """The attention that ``attn_config`` says."""
    on(c, "alibi", why="the class knows no other positions")
    off(c, "prefix_lm", why="the class has a causal mask")
    off(c, "qk_ln", "qk_gn", "rope", why="the class has no such thing")
    c.must("attn_type", "multihead_attention", why="the class has a head of keys for each head of queries")
    c.must("kv_n_heads", heads.value, None, why="the class has a head of keys for each head of queries")
    c.must("sliding_window_size", -1, None, why="the class has no window")
    scale = c.number("softmax_scale") if c.has("softmax_scale") else Read(LEFT_OUT)
    c.ignore("rope_dail_config", "rope_hf_config", "rope_impl", "rope_theta")  # of a rotation that is off
    c.ignore("alibi_bias_max", "attn_impl", "attn_uses_sequence_id", "learned_pos_emb")
    return {**multi_head(heads, head_dim, bias=False, scale=scale), "qkv_clip": clip(c)}


FAMILY = Family(
    document=document,
    config_class="MptConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {"init_config", "init_device", "learned_pos_emb", "tokenizer_name", "use_pad_tok_in_ffn", "verbose"}
    ),
)
