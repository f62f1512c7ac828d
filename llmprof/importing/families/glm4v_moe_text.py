"""The text tower of GLM-4.5V: GLM-4.5's layers with biases of queries, keys and values."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts, joint_width, sigmoid_router
from llmprof.importing.families.glm4_moe import ROUTER
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import first_dense, layered
from llmprof.importing.parts import GLUS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=96)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=46)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("moe_intermediate_size", default=1408)
    c.must("use_qk_norm", False, why="the class normalises no queries and keys")
    moe = experts(
        act,
        count=c.size("n_routed_experts", "num_local_experts", default=128),
        top_k=c.size("num_experts_per_tok", default=8),
        width=width,
        shared=joint_width(width, c.optional_size("n_shared_experts", default=1)),
        router=sigmoid_router(c, ROUTER),
    )
    layers, _ = layered(
        count,
        (
            first_dense(c, count, 1),
            {
                "dense": {"ffn": {"kind": act, "d_ff": c.size("intermediate_size", default=10944)}},
                "sparse": {"ffn": moe},
            },
        ),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qkv_bias": c.flag("attention_bias", default=True),
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151424),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=65536),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0, partial=0.5),
        "layers": layers,
    }


FAMILY = Family(document=document, config_class="Glm4vMoeTextConfig", source=TRANSFORMERS, idle=RUNTIME)
