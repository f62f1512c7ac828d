"""Falcon-H1: attention and Mamba-2 side by side in every layer, and multipliers on nearly every output."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, kv_heads, optional_scale, whole_rope
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import IDLE, inner, mamba_2, silu_alone
from llmprof.importing.parts import GLUS, per_head

ELSEWHERE = (
    "attention_in_multiplier",
    "attention_out_multiplier",
    "mlp_multipliers",
    "ssm_in_multiplier",
    "ssm_multipliers",
    "ssm_out_multiplier",
)
"""Factors that the spec language has no place for: they change no size and no contraction."""


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    for key in ELSEWHERE:
        if c.raw(key) not in (None, 1.0, [1.0, 1.0], [1.0] * 5):
            c.leave_out(key, "a factor, which changes no size and no contraction")
    c.must("mamba_use_mlp", True, why="layers without a feed-forward")
    c.must("attn_layer_indices", None, why="the class has both mixers in every layer")
    silu_alone(c, "hidden_act")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=128000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": {"scale": optional_scale(c.number("embedding_multiplier", default=1.0))},
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "scale": _scale(c, head_dim),
            },
            "mixer": _mixer(c, hidden),
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=14336),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
        "head": {"kind": "lm", "output_scale": optional_scale(c.number("lm_head_multiplier", default=1.0))},
    }


def _scale(c: Config, head_dim: Read[int]) -> Read[float] | Read[Left]:
    """Keys are multiplied: part of the scale of the scores."""
    keys = c.number("key_multiplier", default=1.0)
    if keys.value == 1.0:
        return Read(LEFT_OUT, keys.keys)
    scale = keys.value * head_dim.value**-0.5
    return inferred(scale, f"keys are multiplied by {keys.value:g} (key_multiplier): that times head_dim ** -0.5", keys)


def _mixer(c: Config, hidden: Read[int]) -> Doc:
    """`mamba_d_ssm` is the width of the state space, and null stands for a multiple of the hidden size."""
    stated = c.optional_size("mamba_d_ssm", default=1024)
    channels = stated if isinstance(stated.value, int) else inner(c, "mamba_expand", hidden, default=2)
    normed = c.flag("mamba_rms_norm", default=False)
    if normed.value and c.flag("mamba_norm_before_gate", default=True).value:
        c.remark("the mixer's norm stands before its gate, which is left out: the same two steps in the other order")
    made = mamba_2(c, channels, normed=normed)
    if c.flag("projectors_bias", default=False).value != made["bias"].value:
        c.refuse("projectors_bias", "as mamba_proj_bias: the language has one flag for the projections in and out")
    return made


FAMILY = Family(
    document=document,
    config_class="FalconH1Config",
    source=TRANSFORMERS,
    idle=IDLE | RUNTIME | {"mamba_expand", "mamba_norm_before_gate", "mlp_expansion_factor"},
)
