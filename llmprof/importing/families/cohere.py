"""Command R: one LayerNorm without a bias before both halves of a block, which run in parallel; scaled logits."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=8192)
    heads = c.size("num_attention_heads", default=64)
    head_dim = per_head(hidden, heads, c, "head_dim")
    eps = c.number("layer_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    context = c.size("max_position_embeddings", default=8192)
    if c.raw("model_max_length") not in (None, context.value):
        c.leave_out("model_max_length", "the class reads max_position_embeddings")
    normed = c.flag("use_qk_norm", default=False).value
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=500000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=40),
            "block": "parallel",
            "norm": {"kind": "layernorm", "placement": "pre", "bias": False, "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "layernorm", "bias": False, "eps": eps} if normed else LEFT_OUT,
                "qk_norm_over": "each-head" if normed else LEFT_OUT,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=22528),
            },
        },
        "head": {"kind": "lm", "output_scale": c.number("logit_scale", default=0.0625)},
    }


FAMILY = Family(document=document, config_class="CohereConfig", source=TRANSFORMERS, idle=RUNTIME)
