"""Orion 14B: LLaMA's block with LayerNorms, whose eps is still called that of an RMSNorm."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.families.llama import context
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    c.must("attention_bias", False, why="the class has no biases but those of its norms")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": context(c),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": whole_rope(c, head_dim, theta=None),
        "layers": {
            "count": c.size("num_hidden_layers"),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads"),
                "head_dim": head_dim,
            },
            "ffn": {"kind": c.choice("hidden_act", of=GLUS), "d_ff": c.size("intermediate_size")},
        },
    }


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://github.com/mlc-ai/mlc-llm/tree/79d603f085f50500e9509fa01785ffa7ecfaaa93/python/mlc_llm/model: "
    "model_preset.py and orion/orion_model.py, read 2026-11-30",
    idle=RUNTIME,
)
