"""Qwen3-30B-A3B, 235B-A22B, Coder-480B: Qwen3's layers with experts and none that all tokens share."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, one_window, whole_rope
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import every_so_often, layered
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2048)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    context = c.size("max_position_embeddings", default=32768)
    count = count_of_layers(c, default=24)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    # Qwen3-Coder says these beside what the class reads.
    c.must("qkv_bias", False, why="the class reads attention_bias")
    c.must("use_qk_norm", True, why="the class always normalises queries and keys")
    c.must("shared_expert_intermediate_size", 0, why="the class has no shared expert")
    n_experts = c.size("num_experts", "num_local_experts", default=128, least=0)
    moe = experts(
        act,
        count=n_experts,
        top_k=c.size("num_experts_per_tok", default=8),
        width=c.size("moe_intermediate_size", default=768),
        router={"normalise": c.flag("norm_topk_prob", default=False)},
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=6144)}
    eps = c.number("rms_norm_eps", default=1e-6)
    bias = c.flag("attention_bias", default=False)
    layers, _ = layered(
        count,
        (every_so_often(c, count, n_experts), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=4),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
                "window": _window(c, context),
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151936),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": layers,
    }


def _window(c: Config, context: Read[int]) -> Read[int] | Read[Left]:
    """``sliding_window`` of all layers, where it is used; the class does not read ``max_window_layers``."""
    if not c.flag("use_sliding_window", default=False).value:
        c.ignore("sliding_window", "max_window_layers")
        return Read(LEFT_OUT)
    c.must("max_window_layers", None, why="the class gives all layers the window, whatever this says")
    return one_window(c, context, default=4096)


FAMILY = Family(document=document, config_class="Qwen3MoeConfig", source=TRANSFORMERS, idle=RUNTIME)
