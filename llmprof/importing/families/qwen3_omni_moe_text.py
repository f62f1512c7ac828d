"""The text tower of Qwen3-Omni's thinker: Qwen3-MoE's layers, rotated by one index where there are no images."""

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
    heads = c.size("num_attention_heads", default=28)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=28)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    c.must("shared_expert_intermediate_size", 0, why="the class has no shared expert")
    c.must("use_qk_norm", True, why="the class always normalises queries and keys")
    n_experts = c.size("num_experts", default=128, least=0)
    c.must("num_local_experts", n_experts.value, None, why="the class reads num_experts")
    moe = experts(
        act,
        count=n_experts,
        top_k=c.size("num_experts_per_tok", default=8),
        width=c.size("moe_intermediate_size", default=768),
        router={"normalise": c.flag("norm_topk_prob", default=True)},
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=18944)}
    layers, _ = layered(
        count,
        (every_so_often(c, count, n_experts), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common=block(c, heads, kv_heads(c, heads, default=4), head_dim),
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=3584),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=1_000_000.0),
        "layers": layers,
    }


FAMILY = Family(document=document, config_class="Qwen3OmniMoeTextConfig", source=TRANSFORMERS, idle=RUNTIME)
