"""BLOOM: ALiBi, a norm after the embeddings, GELU by tanh, biases everywhere."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, four_times, multi_head, off
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import per_head


def document(c: Config) -> Doc:
    """The table. ``seq_length``, which only releases have, is what a model was trained at."""
    built_as(c)
    off(c, "apply_residual_connection_post_layernorm", why="the residual would be taken after the norm")
    off(c, "slow_but_exact", why="the output matrices would be multiplied in slices")
    off(c, "skip_bias_add_qkv", why="queries, keys and values have biases in this class")
    hidden = c.size("hidden_size", "n_embed", default=64)
    heads = c.size("n_head", "num_attention_heads", default=8)
    eps = c.number("layer_norm_epsilon", default=1e-5)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=250880),
        "d_model": hidden,
        "max_context": c.optional_size("seq_length", default=None),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "alibi"},
        "embedding": {"norm": {"kind": "layernorm", "eps": eps}},
        "layers": {
            "count": c.size("n_layer", "num_hidden_layers", default=2),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": eps},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {"kind": "gelu-tanh", "d_ff": four_times(hidden), "bias": True},
        },
    }


FAMILY = Family(
    document=document,
    config_class="BloomConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            "attention_softmax_in_fp32",
            "bias_dropout_fusion",
            "masked_softmax_fusion",
            "offset_alibi",
            "pretraining_tp",
            "skip_bias_add",
        }
    ),
)
