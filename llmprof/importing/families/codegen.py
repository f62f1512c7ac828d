"""CodeGen: GPT-J's layers, with queries, keys and values in one matrix of four parts."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, four_times, multi_head, on
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.families.gptj import rotated_pairs
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head

PARTS = 4


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    on(c, "scale_attn_weights", why="the class always scales scores by the root of the head's width")
    hidden = c.size("n_embd", "hidden_size", default=4096)
    heads = c.size("n_head", "num_attention_heads", default=16)
    if heads.value % PARTS:
        c.wrong((heads.keys or ("n_head",))[0], f"a multiple of {PARTS}: the class takes heads in {PARTS} parts")
    positions = c.size("n_positions", "max_position_embeddings", default=2048)
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
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=False),
            "ffn": {
                "kind": c.choice("activation_function", of=MLPS, default="gelu_new"),
                "d_ff": c.size("n_inner", default=four_times(hidden)),
                "bias": True,
            },
        },
        "head": {"kind": "lm", "bias": True},
    }


FAMILY = Family(
    document=document,
    config_class="CodeGenConfig",
    source=TRANSFORMERS,
    idle=frozenset({"n_ctx", "summary_activation", "summary_proj_to_labels", "summary_type", "summary_use_proj"}),
)
