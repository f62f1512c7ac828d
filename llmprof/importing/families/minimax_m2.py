"""MiniMax-M2, M2.5, M2.7: norms over all heads, half of each head rotated, experts by corrected sigmoid scores."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.heads import stated_head_dim
from llmprof.importing.parts import GLUS, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=3072)
    heads = c.size("num_attention_heads", default=48)
    head_dim = stated_head_dim(c, hidden, heads, 128)
    eps = c.number("rms_norm_eps", default=1e-6)
    _what_the_class_has(c)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=200064),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=196608),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": _position(c, head_dim),
        "layers": {
            "count": c.size("num_hidden_layers", default=62),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
                "qk_norm_over": "all-heads",
            },
            "ffn": experts(
                c.choice("hidden_act", of=GLUS, default="silu"),
                count=c.size("num_local_experts", "num_experts", default=256),
                top_k=c.size("num_experts_per_tok", default=8),
                width=c.size("intermediate_size", default=1536),
                router={"scores": "sigmoid", "normalise": True, "correction_bias": True},
            ),
        },
    }


def _position(c: Config, head_dim: Read[int]) -> Doc:
    """``rotary_dim`` values of a head are rotated, unless a ``partial_rotary_factor`` says so, or all."""
    turned = rope(c, head_dim, theta=5000000.0)
    if not c.has("rotary_dim"):
        return turned
    said = c.size("rotary_dim")
    if any(one.has("partial_rotary_factor") for one in (c, c.below("rope_parameters"), c.below("rope_scaling"))):
        made = turned.get("rotary_dim", head_dim)
        if made.value != said.value:
            c.wrong("rotary_dim", f"{made.value}, as partial_rotary_factor says: both name one thing")
    elif said.value != head_dim.value:
        turned["rotary_dim"] = said
    return turned


def _what_the_class_has(c: Config) -> None:
    """What configs say beside what the class reads. Its layers that predict further tokens are not in the releases."""
    c.must("use_qk_norm", True, why="the class always normalises queries and keys")
    c.must("qk_norm_type", "per_layer", why="the class normalises over all heads of a layer")
    c.must("scoring_func", "sigmoid", why="the class makes scores of logits by a sigmoid of each")
    c.must("use_routing_bias", True, why="the class corrects scores for the choice")
    c.must("shared_intermediate_size", 0, why="the class has no shared expert")
    c.must("sliding_window", None, why="the class masks no window")
    kinds = c.sizes(
        "attn_type_list", default=inferred((), "softmax attention in every layer, as the class has it")
    ).value
    if set(kinds) - {1}:
        c.refuse("attn_type_list", "1 for every layer: another number is another attention")
    if c.raw("use_mtp") or c.raw("num_mtp_modules"):
        c.remark(
            "layers that predict further tokens (num_mtp_modules) are left out: the released files do not hold them"
        )


FAMILY = Family(
    document=document,
    config_class="MiniMaxM2Config",
    source=TRANSFORMERS,
    idle=RUNTIME | {"mtp_transformer_layers", "num_mtp_modules", "router_jitter_noise", "use_mtp"},
)
