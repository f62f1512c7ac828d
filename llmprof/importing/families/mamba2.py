"""Mamba-2 in transformers' schema (Codestral Mamba): layers of a state space with one decay per head alone."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import IDLE, NOWHERE, fp32_residual, silu_alone, step_limit


def document(c: Config) -> Doc:
    """The table. The gated norm runs over as many parts as there are groups (``group_size`` in the class)."""
    hidden = c.size("hidden_size", default=4096)
    heads, head_dim = c.size("num_heads", default=128), c.size("head_dim", default=64)
    expand, groups = c.size("expand", default=2), c.size("n_groups", default=8)
    channels = heads.value * head_dim.value
    if channels != expand.value * hidden.value:
        at = next((key for key in ("num_heads", "head_dim", "expand", "hidden_size") if c.has(key)), "num_heads")
        c.wrong(at, "num_heads x head_dim equal to expand x hidden_size")
    c.must("intermediate_size", channels, None, why="the class has num_heads x head_dim channels")
    c.must("rms_norm", True, why="the class has the gated norm in any case")
    silu_alone(c, "hidden_act")
    fp32_residual(c, default=True)
    step_limit(c)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32768),
        "d_model": hidden,
        "max_context": None,
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": NOWHERE,
        "layers": {
            "count": c.size("num_hidden_layers", default=64),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-5)},
            "attention": {
                "kind": "mamba-2",
                "n_heads": heads,
                "head_dim": head_dim,
                "d_state": c.size("state_size", default=128),
                "n_groups": groups,
                "d_conv": c.size("conv_kernel", default=4),
                "conv_bias": c.flag("use_conv_bias", default=True),
                "chunk": c.size("chunk_size", default=256),
                "norm_groups": groups,
                "bias": c.flag("use_bias", default=False),
            },
            "ffn": NOWHERE,
        },
    }


FAMILY = Family(
    document=document,
    config_class="Mamba2Config",
    source=TRANSFORMERS,
    # norm_before_gate is read by no line of the class, which applies the gate first; time_step_rank is Mamba's.
    idle=IDLE | {"norm_before_gate", "time_step_rank"},
)
