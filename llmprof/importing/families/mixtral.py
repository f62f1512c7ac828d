"""Mixtral 8x7B and 8x22B: Mistral's layers with experts in place of each feed-forward."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, one_window, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    context = c.size("max_position_embeddings", default=131072)
    c.must("moe_frequency", 1, None, why="the class has experts in every layer")  # as AWS trains it
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32000),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=1000000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "window": one_window(c, context, default=None),
            },
            "ffn": experts(
                c.choice("hidden_act", of=GLUS, default="silu"),
                count=c.size("num_local_experts", "num_experts", default=8),
                top_k=c.size("num_experts_per_tok", default=2),
                width=c.size("intermediate_size", default=14336),
                router={"normalise": True},
            ),
        },
    }


FAMILY = Family(
    document=document, config_class="MixtralConfig", source=TRANSFORMERS, idle=RUNTIME | {"router_jitter_noise"}
)
