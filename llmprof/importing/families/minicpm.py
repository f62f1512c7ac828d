"""MiniCPM 1 and 2: LLaMA's block with factors on the embeddings, the residuals and the last state."""

from __future__ import annotations

from llmprof.importing.config import Config, inferred
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file, but that embeddings are tied goes without saying."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    bias = c.flag("attention_bias", default=False)
    count = c.size("num_hidden_layers")
    depth, base = c.number("scale_depth"), c.size("dim_model_base")
    c.must("mup_denominator", count.value, None, why="the class takes the root of num_hidden_layers")  # MiniCPM 4
    c.must("num_experts", 0, why="the models with experts are another family")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": {"scale": c.number("scale_emb")},
        "layers": {
            "count": count,
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
            "residual": {
                "kind": "plain",
                "scale": inferred(
                    depth.value / count.value**0.5,
                    f"scale_depth = {depth.value:g} over the square root of {count.value} layers",
                    depth,
                    count,
                ),
            },
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
        "head": {
            "kind": "lm",
            "input_scale": inferred(
                base.value / hidden.value, f"dim_model_base = {base.value} over hidden_size", base, hidden
            ),
        },
    }


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://github.com/mlc-ai/mlc-llm/tree/79d603f085f50500e9509fa01785ffa7ecfaaa93/python/mlc_llm/model: "
    "model_preset.py and minicpm/minicpm_model.py, read 2026-11-30; "
    "https://huggingface.co/openbmb/MiniCPM-2B-sft-bf16, its configuration and modeling file, recalled",
    idle=RUNTIME,
)
