"""Cohere's experts: parallel blocks under one norm, windows and rotations in all but every fourth layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import FULL, RUNTIME, SLIDING, count_of_layers, every, kv_heads, optional_scale, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts, joint_width
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.heads import stated_head_dim
from llmprof.importing.layers import dense_first, each_layer, layered, told
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=8192)
    heads = c.size("num_attention_heads", default=64)
    head_dim = stated_head_dim(c, hidden, heads, 128)
    count = count_of_layers(c, default=40)
    first = c.size("first_k_dense_replace", default=0, least=0)
    kinds = each_layer(c, "mlp_layer_types", ("dense", "sparse"), dense_first(count.value, first.value))
    bias = c.flag("attention_bias", default=False)
    layers, _ = layered(
        count,
        (kinds, _ffns(c)),
        _seen(c, count, first, kinds),
        common={
            "block": "parallel",
            "norm": {**_norm(c), "placement": "pre"},
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
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": layers,
        "head": {"kind": "lm", "output_scale": optional_scale(c.number("logit_scale", default=0.0625))},
    }


def _ffns(c: Config) -> Mapping[str, Doc]:
    """A dense layer is ``prefix_dense_intermediate_size`` wide, or as wide as an expert."""
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("intermediate_size", default=22528)
    number = c.size("num_shared_experts", default=0, least=0)
    if number.value:
        c.must(
            "shared_expert_combination_strategy", "sum", why="a mean of experts and shared ones is not in the language"
        )
        if not c.has("shared_expert_combination_strategy"):
            c.refuse(
                "shared_expert_combination_strategy", "sum: the class's own is a mean, which is not in the language"
            )
    c.ignore("shared_expert_combination_strategy")
    router: Doc = {"scores": c.choice("expert_selection_fn", of=_SCORES, default="softmax")}
    normalised = c.flag("norm_topk_prob", default=True)
    if router["scores"].value == "sigmoid":
        router["normalise"] = normalised
    dense = c.optional_size("prefix_dense_intermediate_size", default=None)
    moe = experts(
        act,
        count=c.size("num_experts", default=8),
        top_k=c.size("num_experts_per_tok", default=2),
        width=width,
        shared=joint_width(width, number),
        router=router,
    )
    return {"dense": {"ffn": {"kind": act, "d_ff": dense if dense.value else width}}, "sparse": {"ffn": moe}}


_SCORES = {"softmax": "softmax-chosen", "sigmoid": "sigmoid"}
"""How the logits of the chosen experts become weights."""


def _norm(c: Config) -> Doc:
    """LayerNorm without a bias, unless ``rms_norm_eps`` is stated."""
    eps = c.number("layer_norm_eps", default=1e-5)
    if c.has("rms_norm_eps"):
        return {"kind": "rmsnorm", "eps": c.number("rms_norm_eps")}
    return {"kind": "layernorm", "bias": False, "eps": eps}


def _seen(
    c: Config, count: Read[int], first: Read[int], kinds: Sequence[str]
) -> tuple[Sequence[str], Mapping[str, Doc]]:
    """Layers with a window rotate; so do dense ones whose own pattern is 1, without a window."""
    prefix = c.size("prefix_dense_sliding_window_pattern", default=1)
    rest = c.size("sliding_window_pattern", default=4)
    window = c.optional_size("sliding_window", default=4096)
    before = min(first.value, count.value)
    default = (
        *every(Read(before), prefix.value),
        *every(Read(count.value - before), rest.value),
    )
    if not c.has("layer_types"):
        told(c, prefix if before else Read(0))
        told(c, rest)
    seen = each_layer(c, "layer_types", (FULL, SLIDING), default)
    if SLIDING in seen and window.value is None:
        c.stop("sliding_window", f"a window, for the layers of {SLIDING}")
    forced = [kind == "dense" and prefix.value == 1 for kind in kinds]
    names = tuple(
        "local" if sees == SLIDING else "global" if rotates else "nope"
        for sees, rotates in zip(seen, forced, strict=True)
    )
    meaning: dict[str, Doc] = {
        "local": {"attention": {"window": window}},
        "global": {},
        "nope": {"position": {"kind": "none"}},
    }
    return names, meaning


FAMILY = Family(document=document, config_class="Cohere2MoeConfig", source=TRANSFORMERS, idle=RUNTIME)
