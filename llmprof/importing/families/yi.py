"""Yi's first releases, whose class was LLaMA's under another name; later ones have LLaMA's."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": whole_rope(c, head_dim, theta=None),
        "layers": {
            "count": c.size("num_hidden_layers"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
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
    source="https://huggingface.co/01-ai/Yi-6B, configuration_yi.py and modeling_yi.py of November 2023, recalled",
    idle=RUNTIME,
)
