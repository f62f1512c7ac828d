"""Granite's models of experts without recurrent layers: one table for both classes."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import kv_heads, optional_scale, whole_rope
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.experts import experts
from llmprof.importing.parts import GLUS, per_head


def granite_experts(c: Config, *, shared: Read[int] | Read[Left] | None) -> Doc:
    """Granite's factors around LLaMA's block, experts under a softmax over the chosen; `shared` as in `experts`."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    divisor = c.number("logits_scaling", default=1.0)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": {"scale": optional_scale(c.number("embedding_multiplier", default=1.0))},
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
            "residual": {"kind": "plain", "scale": c.number("residual_multiplier", default=1.0)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "scale": c.number("attention_multiplier", default=1.0),
            },
            "ffn": experts(
                c.choice("hidden_act", of=GLUS, default="silu"),
                count=c.size("num_local_experts", default=8),
                top_k=c.size("num_experts_per_tok", default=2),
                width=c.size("intermediate_size", default=11008),
                shared=shared,
                router={"scores": "softmax-chosen"},
            ),
        },
        "head": {
            "kind": "lm",
            "output_scale": optional_scale(
                inferred(1 / divisor.value, f"logits are divided by logits_scaling = {divisor.value:g}", divisor)
            ),
        },
    }


def shared_width(c: Config) -> Read[int] | Read[Left]:
    """``shared_intermediate_size``, where 0 is none."""
    width = c.size("shared_intermediate_size", default=0, least=0)
    return width if width.value else Read(LEFT_OUT, width.keys)
