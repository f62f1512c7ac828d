"""DeepSeekMoE-16B: LLaMA's block with many small experts beside shared ones, by the published code of the release."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width
from llmprof.importing.family import Family
from llmprof.importing.layers import layered
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table. Transformers has no class of it, so that a config must state its sizes."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    count = count_of_layers(c)
    act = c.choice("hidden_act", of=GLUS)
    width = c.size("moe_intermediate_size")
    bias = c.flag("attention_bias", default=False)
    c.must("scoring_func", "softmax", why="the published code makes scores of logits by a softmax over all experts")
    moe = experts(
        act,
        count=c.size("n_routed_experts"),
        top_k=c.size("num_experts_per_tok"),
        width=width,
        shared=joint_width(width, c.optional_size("n_shared_experts")),
        router={"normalise": c.flag("norm_topk_prob")},
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size")}
    layers, _ = layered(
        count,
        (_placed(c, count), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=None),
        "layers": layers,
    }


def _placed(c: Config, count: Read[int]) -> tuple[str, ...]:
    """Experts stand in every ``moe_layer_freq``-th layer, counted from 0, from ``first_k_dense_replace`` on."""
    first, step = c.size("first_k_dense_replace", least=0), c.size("moe_layer_freq")
    return tuple(
        "sparse" if layer >= first.value and layer % step.value == 0 else "dense" for layer in range(count.value)
    )


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://huggingface.co/deepseek-ai/deepseek-moe-16b-base/blob/main/modeling_deepseek.py, recalled",
    idle=TRAINED_AND_RUN,
)
