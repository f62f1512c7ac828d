"""Jamba: Mamba with inner norms in most layers, attention without positions in a few, experts in every second."""

from __future__ import annotations

from collections.abc import Callable

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers, kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import IDLE, NOWHERE, dt_rank, inner, silu_alone
from llmprof.importing.parts import GLUS, per_head, stack


def document(c: Config) -> Doc:
    """The table. Attention stands in layer i where i mod period is the offset, and experts likewise."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    count = count_of_layers(c, default=32)
    eps = c.number("rms_norm_eps", default=1e-6)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=14336)}
    experts = c.size("num_experts", "num_local_experts", default=16)
    silu_alone(c, "hidden_act")
    c.must("mamba_inner_layernorms", True, why="the class has norms of the step sizes, B and C in any case")
    attends = _every(c, "attn_layer", period=8, offset=4)
    chooses = _every(c, "expert_layer", period=2, offset=1)
    mixers: dict[str, Doc] = {
        "mamba": {
            "kind": "mamba-1",
            "d_inner": inner(c, "mamba_expand", hidden, default=2),
            "d_state": c.size("mamba_d_state", default=16),
            "dt_rank": dt_rank(c, "mamba_dt_rank", hidden),
            "d_conv": c.size("mamba_d_conv", default=4),
            "conv_bias": c.flag("mamba_conv_bias", default=True),
            "bias": c.flag("mamba_proj_bias", default=False),
            "inner_norm": {"kind": "rmsnorm", "eps": eps},
        },
        "softmax": {
            "kind": "gqa",
            "n_heads": heads,
            "n_kv_heads": kv_heads(c, heads, default=8),
            "head_dim": per_head(hidden, heads, c, "head_dim"),
        },
    }
    ffns: dict[str, Doc] = {
        "": dense,
        "-moe": {
            "kind": "moe",
            "n_experts": experts,
            "top_k": c.size("num_experts_per_tok", default=2),
            "expert": dense,
        },
    }
    names = [
        ("softmax" if attends(i) else "mamba") + ("-moe" if chooses(i) and experts.value > 1 else "")
        for i in range(count.value)
    ]
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=65536),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", "n_ctx", default=262144),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": NOWHERE,
        "layers": stack(
            count,
            names,
            {one + two: {"attention": mixers[one], "ffn": ffns[two]} for one in mixers for two in ffns},
            {"norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps}},
        ),
    }


def _every(c: Config, key: str, *, period: int, offset: int) -> Callable[[int], bool]:
    """Whether a layer is one of those that come once in a period."""
    length = c.size(f"{key}_period", default=period)
    first = c.size(f"{key}_offset", default=offset, least=0)
    if first.value >= length.value:
        c.wrong(f"{key}_offset" if c.has(f"{key}_offset") else f"{key}_period", "an offset below the period")
    return lambda i: i % length.value == first.value


FAMILY = Family(
    document=document,
    config_class="JambaConfig",
    source=TRANSFORMERS,
    # How many experts a token has says nothing where there is one.
    idle=IDLE | {"num_experts_per_tok"},
)
