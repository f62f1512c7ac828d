"""InternLM 2 and 2.5: LLaMA's block, whose queries, keys and values are stored as one matrix."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    bias = c.flag("bias")
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
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {"kind": c.choice("hidden_act", of=GLUS, default="silu"), "d_ff": c.size("intermediate_size")},
        },
    }


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://github.com/mlc-ai/mlc-llm/tree/79d603f085f50500e9509fa01785ffa7ecfaaa93/python/mlc_llm/model: "
    "model_preset.py and internlm2/internlm2_model.py, read 2026-11-30; "
    "https://huggingface.co/internlm/internlm2-7b, its configuration and modeling file, recalled",
    idle=RUNTIME,
)
