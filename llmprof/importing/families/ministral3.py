"""Ministral 3: Mistral's block, whose queries are scaled by a factor of their position."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, one_window, stated_head_dim, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = stated_head_dim(c, hidden, heads, default=128)
    context = c.size("max_position_embeddings", default=262144)
    c.remark(
        "queries are scaled by a factor of their position (llama_4_scaling_beta), which is left out: it changes no "
        "size and no contraction"
    )
    # The class has a theta of its own only where the file says nothing of the rotation.
    theta = None if c.has("rope_parameters") else 1000000.0
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=131072),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=theta),
        "layers": {
            "count": c.size("num_hidden_layers", default=34),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "window": one_window(c, context, default=None),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=14336),
            },
        },
    }


FAMILY = Family(document=document, config_class="Ministral3Config", source=TRANSFORMERS, idle=RUNTIME)
