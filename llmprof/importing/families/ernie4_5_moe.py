"""ERNIE 4.5's models of experts: softmax scores that a buffer corrects for the choice, shared experts as one."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import layered, told, unknown_further_tokens
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2560)
    heads = c.size("num_attention_heads", default=20)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=28)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    bias = c.flag("use_bias", default=False)
    eps = c.number("rms_norm_eps", default=1e-5)
    moe = _experts(c, act, bias)
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=12288), "bias": bias}
    unknown_further_tokens(c)
    layers, _ = layered(
        count,
        (_sparse(c, count), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=4),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=103424),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=500000.0),
        "head": {"kind": "lm", "bias": bias},
        "layers": layers,
    }


def _sparse(c: Config, count: Read[int]) -> tuple[str, ...]:
    """Which layers have experts: every so many between a first and a last, -1 for the last of all."""
    first = c.size("moe_layer_start_index", default=1, least=0)
    last = c.size("moe_layer_end_index", default=-1, least=-1)
    step = c.size("moe_layer_interval", default=1)
    for read in (first, last, step):
        told(c, read)
    end = count.value - 1 if last.value == -1 else last.value
    return tuple(
        "sparse" if first.value <= layer <= end and (layer + 1) % step.value == 0 else "dense"
        for layer in range(count.value)
    )


def _experts(c: Config, act: Read[str], bias: Read[bool]) -> Doc:
    width = c.size("moe_intermediate_size", default=1536)
    c.ignore("moe_norm_min")  # the least that weights are divided by
    c.must("moe_gate", "topk", "top2_fused", why="the class chooses the experts of the highest scores")
    c.must("moe_use_aux_free", True, why="the class corrects the choice in any case")
    made = experts(
        act,
        count=c.size("moe_num_experts", "num_experts", default=64),
        top_k=c.size("moe_k", "num_experts_per_tok", default=6),
        width=width,
        shared=joint_width(width, c.optional_size("moe_num_shared_experts", default=2, least=0)),
        router={"normalise": True, "correction_bias": True},
    )
    if "shared" in made:
        made["shared"]["bias"] = bias
    return made


FAMILY = Family(
    document=document,
    config_class="Ernie4_5_MoeConfig",
    source=TRANSFORMERS,
    idle=TRAINED_AND_RUN,
)
