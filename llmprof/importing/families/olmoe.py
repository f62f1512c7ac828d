"""OLMoE: experts in every layer, and norms over all heads of the queries and of the keys."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2048)
    heads = c.size("num_attention_heads", default=16)
    head_dim = per_head(hidden, heads, c)
    c.must("head_dim", head_dim.value, None, why="the norms over all heads are as wide as the model")
    c.must(
        "clip_qkv",
        None,
        why="the class cuts queries and keys behind their norms, which the spec language does not have",
    )
    c.must("sliding_window", None, why="the class masks no window")
    eps = c.number("rms_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50304),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=4096),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=16),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
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
                count=c.size("num_experts", "num_local_experts", default=64),
                top_k=c.size("num_experts_per_tok", default=8),
                width=c.size("intermediate_size", default=2048),
                router={"normalise": c.flag("norm_topk_prob", default=False)},
            ),
        },
    }


FAMILY = Family(document=document, config_class="OlmoeConfig", source=TRANSFORMERS, idle=RUNTIME)
