"""The text tower of Qwen3-VL-MoE: Qwen3-VL's layers with experts, whose weights are divided by their sum."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.families.qwen3_vl_text import block
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import every_so_often, layered
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2048)
    heads = c.size("num_attention_heads", default=16)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=24)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    c.must("norm_topk_prob", True, why="the class divides the chosen weights by their sum")
    n_experts = c.size("num_experts", "num_local_experts", default=60, least=0)
    moe = experts(
        act,
        count=n_experts,
        top_k=c.size("num_experts_per_tok", default=4),
        width=c.size("moe_intermediate_size", default=1408),
        router={"normalise": True},
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=5632)}
    layers, _ = layered(
        count,
        (every_so_often(c, count, n_experts), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common=block(c, heads, kv_heads(c, heads, default=16), head_dim),
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151936),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=128_000),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=500_000.0),
        "layers": layers,
    }


FAMILY = Family(
    document=document, config_class="Qwen3VLMoeTextConfig", source=TRANSFORMERS, idle=RUNTIME | {"sliding_window"}
)
