"""EXAONE 3 and 3.5: LLaMA's block under GPT-2's names."""

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
    c.must("head_dim", None, head_dim.value, why="the class has hidden_size over num_attention_heads")
    c.must("ln_no_scale", False, why="the norms have weights")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": whole_rope(c, head_dim, theta=None),
        "layers": {
            "count": c.size("num_layers", "num_hidden_layers"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("layer_norm_epsilon")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads"),
                "head_dim": head_dim,
            },
            "ffn": {"kind": c.choice("activation_function", of=GLUS), "d_ff": c.size("intermediate_size")},
        },
    }


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://huggingface.co/LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct, its configuration and modeling file, recalled",
    idle=RUNTIME,
)
