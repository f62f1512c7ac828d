"""The first GPT: post-norm, learned positions, no norm at the end."""

from __future__ import annotations

from collections.abc import Mapping

from llmprof.importing.blocks import built_as, four_times, multi_head
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import per_head

ACTIVATIONS: Mapping[str, str] = {"relu": "relu", "silu": "swish", "swish": "swish", "gelu": "gelu-tanh"}
"""``afn``: the class has names of its own, and its GELU is by tanh."""


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    c.must("n_special", 0, None, why="further tokens would have rows of their own")
    hidden = c.size("n_embd", "hidden_size", default=768)
    heads = c.size("n_head", "num_attention_heads", default=12)
    positions = c.size("n_positions", "max_position_embeddings", default=512)
    c.must("n_ctx", positions.value, None, why="the context is as long as the table of positions")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=40478),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "learned", "rows": positions},
        "layers": {
            "count": c.size("n_layer", "num_hidden_layers", default=12),
            "norm": {"kind": "layernorm", "placement": "post", "eps": c.number("layer_norm_epsilon", default=1e-5)},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {"kind": c.choice("afn", of=ACTIVATIONS, default="gelu"), "d_ff": four_times(hidden), "bias": True},
        },
    }


FAMILY = Family(
    document=document,
    config_class="OpenAIGPTConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            "predict_special_tokens",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        }
    ),
)
