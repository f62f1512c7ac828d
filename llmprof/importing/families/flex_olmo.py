"""FlexOlmo: OLMo 2's norms after each half of a block, with OLMoE's experts."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    eps = c.number("rms_norm_eps", default=1e-6)
    bias = c.flag("attention_bias", default=False)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=100352),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=4096),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=500000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "reordered", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
                "qk_norm_over": "all-heads",
            },
            "ffn": experts(
                c.choice("hidden_act", of=GLUS, default="silu"),
                count=c.size("num_experts", "num_local_experts", default=7),
                top_k=c.size("num_experts_per_tok", default=5),
                width=c.size("intermediate_size", default=11008),
                router={"normalise": c.flag("norm_topk_prob", default=False)},
            ),
        },
    }


FAMILY = Family(document=document, config_class="FlexOlmoConfig", source=TRANSFORMERS, idle=RUNTIME)
