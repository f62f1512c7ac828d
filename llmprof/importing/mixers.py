"""What tables of models with recurrent mixers have in common: state spaces, step sizes, kinds of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import Doc

NOWHERE: Doc = {"kind": "none"}
"""No attention, no feed-forward, no position."""

IDLE = frozenset(
    {
        "num_logits_to_keep",  # a workload says how many logits are made
        "calc_logits_for_entire_prompt",
        "rescale_prenorm_residual",
        "time_step_floor",
        "time_step_init_scheme",
        "time_step_max",
        "time_step_min",
        "time_step_scale",
        "use_associative_scan",  # which of several implementations of one scan is run
        "use_mamba_kernels",
        "use_mambapy",
    }
)
"""Fields about the first values of parameters and about which implementation runs."""

ATTENTION_OR_MIXER: Mapping[str, str] = {
    "full_attention": "softmax",
    "attention": "softmax",
    "linear_attention": "mamba",
    "mamba": "mamba",
}
"""Kinds of layers as classes and released configs call them -> group."""


def silu_alone(c: Config, *keys: str) -> None:
    """The activation of a mixer's convolution and gate, which the language has as SiLU alone."""
    for key in keys:
        c.must(key, "silu", "swish", why="the convolution and the gate of the mixer have another activation")


def step_limit(c: Config, key: str = "time_step_limit") -> None:
    """The bounds of the step sizes: a clamp more or less, no size and no contraction. Said where there is one."""
    value = c.raw(key)
    if value is None:
        return
    if not (isinstance(value, list) and len(value) == 2 and all(_bound(item) is not None for item in value)):
        c.wrong(key, "a list of two numbers")
    elif (_bound(value[0]), _bound(value[1])) != (0.0, math.inf):
        c.leave_out(key, "step sizes are clamped, which changes no size and no contraction")


def _bound(item: Any) -> float | None:
    """A number, in the way that transformers 5 writes infinity too; None where it is none."""
    if isinstance(item, dict) and item == {"__float__": "Infinity"}:
        return math.inf
    return float(item) if type(item) in (int, float) else None


def fp32_residual(c: Config, *, default: bool) -> None:
    """Whether the sum over the layers is kept in fp32: a matter of how it is run, said where it is."""
    if c.flag("residual_in_fp32", default=default).value:
        c.remark("the residual stream is kept in fp32, which is left out: it changes no parameter, FLOP or state")


def dt_rank(c: Config, key: str, hidden: Read[int]) -> Read[int]:
    """The width of the step sizes' bottleneck: a number, or a sixteenth of the hidden size."""
    how = f"{key} is auto: a sixteenth of {hidden.value:,}, rounded up, as the class has it"
    automatic = inferred(-(-hidden.value // 16), how, hidden)
    return automatic if c.raw(key) == "auto" else c.size(key, default=automatic)


def inner(c: Config, key: str, hidden: Read[int], *, default: int) -> Read[int]:
    """Channels of a state space: a multiple of the hidden size."""
    expand = c.size(key, default=default)
    return inferred(
        expand.value * hidden.value, f"{expand.value} (expand) x {hidden.value:,} (hidden size)", expand, hidden
    )


def mamba_2(c: Config, channels: Read[int], *, normed: Read[bool] | None = None) -> Doc:
    """A Mamba-2 mixer in the fields ``mamba_*`` of Bamba, Granite 4 and Falcon-H1, whose defaults agree.

    The gated norm runs over as many parts as there are groups, unless `normed` says that there is none.
    """
    heads = c.size("mamba_n_heads", default=128)
    head_dim = inferred(
        channels.value // heads.value, f"{channels.value:,} channels over {heads.value} heads", channels, heads
    )
    if c.raw("mamba_d_head") not in (None, "auto"):
        head_dim = c.size("mamba_d_head", default=head_dim)
    if heads.value * head_dim.value != channels.value:
        c.wrong(
            "mamba_d_head" if c.has("mamba_d_head") else "mamba_n_heads", f"heads of {channels.value:,} channels in all"
        )
    step_limit(c)
    groups = c.size("mamba_n_groups", default=1)
    parts = groups if normed is None or normed.value else Read(0, normed.keys, normed.note)
    return {
        "kind": "mamba-2",
        "n_heads": heads,
        "head_dim": head_dim,
        "d_state": c.size("mamba_d_state", default=256),
        "n_groups": groups,
        "d_conv": c.size("mamba_d_conv", default=4),
        "conv_bias": c.flag("mamba_conv_bias", default=True),
        "chunk": c.size("mamba_chunk_size", default=256),
        "norm_groups": parts,
        "bias": c.flag("mamba_proj_bias", default=False),
    }


def layer_kinds(c: Config, count: Read[int], *keys: str, of: Mapping[str, str], default: Sequence[str]) -> list[str]:
    """The group of each layer: a list of words under one of `keys`, else `default`; as long as the stack."""
    words: Read[Any] = c.words(*keys, of=of, default=Read(tuple(default), (), "as the class places them"))
    if len(words.value) != count.value:
        key = next((key for key in keys if c.has(key)), keys[0])
        c.stop(key, f"one word for each of {count.value:,} layers")
    return [of[word] for word in words.value]
