"""GPT-J: one norm for both halves of a parallel block, partly rotated heads, a bias on the output matrix."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, four_times, multi_head, on
from llmprof.importing.config import Config, Read
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    on(c, "rotary", why="the class knows no other positions")
    on(c, "scale_attn_weights", why="the class always scales scores by the root of the head's width")
    hidden = c.size("n_embd", "hidden_size", default=4096)
    heads = c.size("n_head", "num_attention_heads", default=16)
    positions = c.size("n_positions", "max_position_embeddings", default=2048)
    c.must("n_ctx", positions.value, None, why="the context is as long as the table of rotations")
    head_dim = per_head(hidden, heads, c)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50400),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rotated_pairs(c),
        "layers": {
            "count": c.size("n_layer", "num_hidden_layers", default=28),
            "block": "parallel",
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-5)},
            "attention": multi_head(heads, head_dim, bias=False),
            "ffn": {
                "kind": c.choice("activation_function", of=MLPS, default="gelu_new"),
                "d_ff": c.size("n_inner", default=four_times(hidden)),
                "bias": True,
            },
        },
        "head": {"kind": "lm", "bias": True},
    }


def rotated_pairs(c: Config) -> Doc:
    """The rotation of the first ``rotary_dim`` values by adjacent pairs, of base 10000; of all where it is null.

    Some releases say ``rope_scaling: {"rope_type": "gptj"}``, the name of just this rotation; version 5 of transformers
    writes it as ``rope_parameters``.
    """
    for name in ("rope_scaling", "rope_parameters"):
        for key in ("rope_type", "type"):
            why = "the class rotates by its own table, which is not rescaled"
            c.below(name).must(key, "gptj", "default", None, why=why)
    width = c.optional_size("rotary_dim", default=64)
    rotated = width if isinstance(width.value, int) else Read(LEFT_OUT, width.keys)
    return {"kind": "rope", "theta": 10000.0, "rotary_dim": rotated}


FAMILY = Family(
    document=document,
    config_class="GPTJConfig",
    source=TRANSFORMERS,
    idle=frozenset({"summary_activation", "summary_proj_to_labels", "summary_type", "summary_use_proj"}),
)
