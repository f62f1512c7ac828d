"""Qwen 1: LLaMA's block with biases of the queries, keys and values; ``intermediate_size`` counts gate and up."""

from __future__ import annotations

from llmprof.importing.config import Config, inferred
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import Family


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = c.size("kv_channels")
    both = c.size("intermediate_size")
    if both.value % 2:
        c.wrong("intermediate_size", "an even number: the width of gate and up together")
    bare = c.flag("no_bias")
    bias = inferred(not bare.value, f"no_bias is {str(bare.value).lower()}", bare)
    c.must("rotary_pct", 1, why="heads are rotated whole")
    c.must("scale_attn_weights", True, why="scores are scaled")
    for key in ("use_dynamic_ntk", "use_logn_attn"):
        if c.raw(key):
            c.leave_out(key, "it rescales what lies beyond seq_length, and changes no size and no contraction")
    theta = c.number("rotary_emb_base")
    c.must("rope_theta", theta.value, None, why="the class reads rotary_emb_base")  # Qwen-72B says both
    trained = c.size("seq_length")
    longest = c.size("max_position_embeddings", default=trained)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": longest,
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": {"kind": "rope", "theta": theta},
        "layers": {
            "count": c.size("num_hidden_layers"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("layer_norm_epsilon")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": heads,
                "head_dim": head_dim,
                "qkv_bias": True,
                "out_bias": bias,
            },
            "ffn": {
                "kind": "swiglu",
                "d_ff": inferred(
                    both.value // 2, f"half of intermediate_size = {both.value}: it counts gate and up", both
                ),
                "bias": bias,
            },
        },
    }


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://github.com/mlc-ai/mlc-llm/tree/79d603f085f50500e9509fa01785ffa7ecfaaa93/python/mlc_llm/model: "
    "model_preset.py and qwen/qwen_model.py, read 2026-11-30; "
    "https://huggingface.co/Qwen/Qwen-7B, configuration_qwen.py and modeling_qwen.py, recalled",
    idle=RUNTIME
    | {
        "bf16",
        "fp16",
        "fp32",
        "onnx_safe",
        "softmax_in_fp32",
        "use_cache_kernel",
        "use_cache_quantization",
    },
)
