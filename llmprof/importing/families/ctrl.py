"""CTRL: pre-norm, sinusoids, scaled embeddings, a bias on the output matrix."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, multi_head
from llmprof.importing.config import Config, inferred
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import per_head


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    hidden = c.size("n_embd", "hidden_size", default=1280)
    heads = c.size("n_head", "num_attention_heads", default=16)
    positions = c.size("n_positions", "max_position_embeddings", default=256)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=246534),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "sinusoidal"},
        "embedding": {"scale": inferred(hidden.value**0.5, f"the square root of {hidden.value}", hidden)},
        "layers": {
            "count": c.size("n_layer", "num_hidden_layers", default=48),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": 1e-6},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {"kind": "relu", "d_ff": c.size("dff", default=8192), "bias": True},
            "final_norm": {"kind": "layernorm", "eps": c.number("layer_norm_epsilon", default=1e-6)},
        },
        "head": {"kind": "lm", "bias": True},
    }


FAMILY = Family(
    document=document,
    config_class="CTRLConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {"from_tf", "n_ctx", "summary_activation", "summary_proj_to_labels", "summary_type", "summary_use_proj"}
    ),
)
