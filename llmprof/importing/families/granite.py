"""Granite 3: LLaMA's block with factors on the embeddings, the scores, the residuals and the logits."""

from __future__ import annotations

from llmprof.importing.config import Config, inferred
from llmprof.importing.dense import RUNTIME, kv_heads, optional_scale, scaled_embedding, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
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
        "embedding": scaled_embedding(c.number("embedding_multiplier", default=1.0)),
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
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=11008),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
        "head": {
            "kind": "lm",
            "output_scale": optional_scale(
                inferred(1 / divisor.value, f"logits are divided by logits_scaling = {divisor.value:g}", divisor)
            ),
        },
    }


FAMILY = Family(document=document, config_class="GraniteConfig", source=TRANSFORMERS, idle=RUNTIME)
