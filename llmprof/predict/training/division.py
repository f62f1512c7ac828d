"""Which axis of an activation tensor parallelism divides, and which sequence parallelism does (docs/training.md).

Between a column-parallel matrix and the row-parallel one behind it (`predict/division.py`), everything has a part of
the heads or of the width. Around them rows are whole on every device, and with sequence parallelism a part of the
tokens. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd

from llmprof.errors import InputError
from llmprof.predict.division import DIVIDED, divisors
from llmprof.predict.tensor import Axes
from llmprof.spec.arch import ArchSpec, Glu, Gqa, LayerSpec, Mlp, NoAttention, NoFfn, Stack
from llmprof.training_rules import without_rule

TOKENS = ("t", "m")
"""Axes that sequence parallelism divides where none of the others is: new tokens, source tokens."""

COLUMN_PARALLEL = ("q_proj", "k_proj", "v_proj", "up", "gate", "lm_head")
"""Leaves whose input is divided by tokens, and gathered where it is used."""


def activation_axis(path: str, axes: Axes, *, sequence: bool) -> str | None:
    """The axis of an activation kept at the leaf `path` that is divided; None where every device has all of it."""
    axis = next((name for name in DIVIDED if name in axes), None)
    if axis is not None or not sequence or _between(path):
        return axis
    return next((name for name in TOKENS if name in axes), None)


def _between(path: str) -> bool:
    """Whether a leaf stands between column-parallel matrices and the row-parallel one behind them: tokens are whole."""
    *above, leaf = path.split(".")
    inside = bool(above) and above[-1] in ("attn", "cross_attn", "ffn")
    return (inside and leaf not in COLUMN_PARALLEL) or leaf == "loss"


def check_division(arch: ArchSpec, devices: int, *, sequence: bool, tokens: Mapping[str, int]) -> None:
    """Raise InputError where `devices` cannot divide `arch`, naming what they do not divide and what works.

    `tokens`: the tokens of each stack by what they are called, which sequence parallelism divides too.
    """
    if devices == 1:
        if sequence:
            raise InputError(
                "--sequence-parallel divides tokens among the devices of --tensor-parallel; give 2 or more"
            )
        return
    reason = without_rule(arch)
    if reason is not None:
        raise InputError(
            f"--tensor-parallel {devices}: nothing says how {arch.label} is divided ({reason}); leave it out"
        )
    sizes = list(dict.fromkeys([*_divided_sizes(arch), *(tokens.items() if sequence else ())]))
    odd = [f"{what} ({size})" for what, size in sizes if size % devices]
    if odd:
        works = divisors(gcd(*(size for _, size in sizes)))
        raise InputError(
            f"--tensor-parallel {devices} does not divide {' and '.join(odd)} of {arch.label}; use one of {works}"
        )


def _divided_sizes(arch: ArchSpec) -> Iterator[tuple[str, int]]:
    """What tensor parallelism divides, by what it is called in a message. The vocabulary is padded instead."""
    for stack in arch.stacks:
        for layer in dict.fromkeys(stack.layers):
            yield from _sizes_of_layer(arch, stack, layer)


def _sizes_of_layer(arch: ArchSpec, stack: Stack, layer: LayerSpec) -> Iterator[tuple[str, int]]:
    for attention in (layer.attention, layer.cross_attention):
        match attention:
            case Gqa() as heads:
                if heads.qk_norm is not None and heads.qk_norm_over == "all-heads":
                    raise InputError(
                        f"--tensor-parallel: {arch.label} normalises the queries of all heads at once, which no device "
                        "has; nothing says what each keeps, so leave it out"
                    )
                yield f"{stack.prefix}n_heads", heads.n_heads
                yield f"{stack.prefix}n_kv_heads", heads.n_kv_heads
            case NoAttention() | None:
                pass
            case other:
                raise AssertionError(f"{other.kind} has no rule, and was let through")
    match layer.ffn:
        case Mlp() | Glu() as feed_forward:
            yield f"{stack.prefix}d_ff", feed_forward.d_ff
        case NoFfn():
            pass
        case feed_forward:
            raise AssertionError(f"{feed_forward.kind} has no rule, and was let through")
