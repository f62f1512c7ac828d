"""Mamba in transformers' schema (state-spaces/mamba-*-hf): layers of a selective state space alone."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import IDLE, NOWHERE, dt_rank, fp32_residual, silu_alone


def stack_of_mamba_1(c: Config, *, inner_norm: Doc | None) -> Doc:
    """The table of Mamba and of Falcon Mamba, which normalises the step sizes, B and C besides."""
    hidden = c.size("hidden_size", default=768)
    expand = c.size("expand", default=2)
    # The class multiplies, then takes a width that the file states: Falcon-Mamba-7B says expand 16 and 8192.
    inner = c.size(
        "intermediate_size",
        default=inferred(
            expand.value * hidden.value, f"{expand.value} (expand) x {hidden.value:,} (hidden size)", expand, hidden
        ),
    )
    count = c.size("num_hidden_layers", default=32)
    for key, read in (("d_model", hidden), ("d_inner", inner), ("n_layer", count)):
        c.must(key, read.value, None, why="the class does not read this name of the original schema")
    silu_alone(c, "hidden_act")
    fp32_residual(c, default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50280),
        "d_model": hidden,
        "max_context": None,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": NOWHERE,
        "layers": {
            "count": count,
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-5)},
            "attention": {
                "kind": "mamba-1",
                "d_inner": inner,
                "d_state": c.size("state_size", default=16),
                "dt_rank": dt_rank(c, "time_step_rank", hidden),
                "d_conv": c.size("conv_kernel", default=4),
                "conv_bias": c.flag("use_conv_bias", default=True),
                "bias": c.flag("use_bias", default=False),
                "inner_norm": inner_norm or Read(LEFT_OUT),
            },
            "ffn": NOWHERE,
        },
    }


def document(c: Config) -> Doc:
    """The table. Converted releases keep fields of the original schema beside it, which must say the same."""
    c.must("ssm_cfg", {}, why="options of the original code that the class does not read")
    c.must("rms_norm", True, why="the class has RMSNorm alone")
    padded = c.size("pad_vocab_size_multiple", default=Read(1))
    made = stack_of_mamba_1(c, inner_norm=None)
    rows = made["vocab_size"].value
    if rows % padded.value:
        c.refuse("pad_vocab_size_multiple", f"a divisor of vocab_size = {rows:,}, which the class does not pad")
    return made


FAMILY = Family(
    document=document,
    config_class="MambaConfig",
    source=TRANSFORMERS,
    idle=IDLE | {"fused_add_norm"},
)
