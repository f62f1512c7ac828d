"""Phi 1.5 and 2 by the schema of their first release: GPT-2's names for what the class of phi has."""

from __future__ import annotations

from llmprof.importing.config import Config, inferred
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file, but for widths that follow from others."""
    hidden = c.size("n_embd")
    heads = c.size("n_head")
    fourfold = inferred(4 * hidden.value, "n_inner is null: four times n_embd", hidden)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("n_positions"),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": {"kind": "rope", "theta": 10000.0, "rotary_dim": c.size("rotary_dim")},
        "layers": {
            "count": c.size("n_layer"),
            "block": "parallel",
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_epsilon")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("n_head_kv", default=inferred(heads.value, "n_head_kv is null: as n_head", heads)),
                "head_dim": per_head(hidden, heads, c),
                "qkv_bias": True,
                "out_bias": True,
            },
            "ffn": {
                "kind": c.choice("activation_function", of=MLPS),
                "d_ff": c.size("n_inner", default=fourfold),
                "bias": True,
            },
        },
        "head": {"kind": "lm", "bias": True},
    }


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://github.com/mlc-ai/mlc-llm/tree/79d603f085f50500e9509fa01785ffa7ecfaaa93/python/mlc_llm/model: "
    "model_preset.py and phi/phi_model.py, read 2026-11-30",
    idle=RUNTIME | {"flash_attn", "flash_rotary", "fused_dense"},
)
