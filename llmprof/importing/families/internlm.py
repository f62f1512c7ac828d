"""InternLM 1: LLaMA's block with biases in and out of the heads."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    bias = c.flag("bias")
    rotary = c.below("rotary")
    if rotary.has("type"):
        c.leave_out("rotary", "how the rotation is rescaled for longer contexts; it changes no size and no kernel")
    theta = rotary.number("base", default=10000.0)
    c.must("rope_theta", theta.value, None, why="the class reads the base of rotary")
    c.must("num_key_value_heads", None, heads.value, why="every head has keys and values of its own")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": {"kind": "rope", "theta": theta},
        "layers": {
            "count": c.size("num_hidden_layers"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": heads,
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
    "model_preset.py and internlm/internlm_model.py, read 2026-11-30; "
    "https://huggingface.co/internlm/internlm-7b, its configuration and modeling file, recalled",
    idle=RUNTIME,
)
