"""HyperCLOVA X: Granite's factors, and norms before and after each half of a block or before it alone."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, kv_heads, optional_scale, scaled_embedding, whole_rope
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    after = c.flag("use_post_norm", default=True)
    scale = c.optional_number("attention_multiplier", default=None)
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
            "norm": {
                "kind": "rmsnorm",
                "placement": Read("sandwich" if after.value else "pre", after.keys, after.note),
                "eps": c.number("rms_norm_eps", default=1e-6),
            },
            "residual": {"kind": "plain", "scale": c.number("residual_multiplier", default=1.0)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "scale": LEFT_OUT if scale.value in (None, max(head_dim.value, 1) ** -0.5) else scale,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=11008),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
        "head": {"kind": "lm", "output_scale": optional_scale(c.number("logits_scaling", default=1.0))},
    }


FAMILY = Family(document=document, config_class="HyperCLOVAXConfig", source=TRANSFORMERS, idle=RUNTIME)
