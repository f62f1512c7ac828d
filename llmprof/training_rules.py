"""Which architectures docs/reference-training.md has rules for, and what a training step may ask of the others.

Torch-free, and shared by both halves: which figures have a rule is part of the contract, what they come to is not.
"""

from __future__ import annotations

from llmprof.errors import InputError
from llmprof.spec.arch import (
    ArchSpec,
    Gaussian,
    Glu,
    Gqa,
    LayerSpec,
    Mlp,
    NoAttention,
    NoFfn,
    T5Bias,
)


def without_rule(arch: ArchSpec) -> str | None:
    """Why no rule says what `arch` saves for its backward and what that moves; None where one does (the dense family).

    Contractions have a rule everywhere (docs/objectives.md, section 3).
    """
    for stack in arch.stacks:
        if stack.front is not None:
            return f"{stack.prefix}conv1: a front of sound"
        for index, layer in enumerate(stack.layers):
            reason = _of_layer(layer)
            if reason is not None:
                return f"{stack.prefix}layers.{index}: {reason}"
    return None


def _of_layer(layer: LayerSpec) -> str | None:
    """What of `layer` has no rule yet."""
    if layer.mixer is not None:
        return f"a mixer ({layer.mixer.kind}) beside the attention"
    match layer.attention:
        case Gqa() as attention:
            if isinstance(layer.position, Gaussian):
                return "a gaussian prior"
            if isinstance(layer.position, T5Bias) and layer.position.per_layer:
                return "a table of relative positions in each layer"
            if attention.sinks:
                return "attention sinks"
            if attention.qkv_clip is not None:
                return "queries, keys and values that are clipped"
        case NoAttention():
            pass
        case other:
            return f"attention of kind {other.kind}"
    match layer.ffn:
        case Glu(kind="swiglu-clamped") | Mlp(kind="xielu"):
            return f"a feed-forward of kind {layer.ffn.kind}"
        case Mlp() | Glu() | NoFfn():
            return None
        case feed_forward:
            return f"a feed-forward of kind {feed_forward.kind}"


def unlike_dtypes(weights: str, activations: str) -> str | None:
    """Why no rule is about a pass whose weights and activations have these dtypes; None where one is."""
    whole = ("fp32", "tf32")
    if weights == activations or (weights in whole and activations in whole):
        return None
    return f"weights are {weights} and activations {activations}"


def _lent(arch: ArchSpec) -> str | None:
    """Which layer of `arch` reads keys and values of another, if one does."""
    for stack in arch.stacks:
        for index, layer in enumerate(stack.layers):
            if isinstance(layer.attention, Gqa) and layer.attention.shared_kv:
                return f"{stack.prefix}layers.{index}: keys and values of another layer"
    return None


def check_step(arch: ArchSpec, *, dropout: float, recompute: str, weights: str, activations: str) -> None:
    """Raise InputError where `dropout` is no probability below 1, or where nothing says what it or `recompute` does."""
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout is {dropout:g}; it must be at least 0 and below 1")
    if not dropout and recompute == "none":
        return
    reason = without_rule(arch) or unlike_dtypes(weights, activations)
    if reason is None and recompute == "full":
        reason = _lent(arch)
    if reason is not None:
        asked = f"recompute {recompute}" if recompute != "none" else f"dropout {dropout:g}"
        raise InputError(
            f"{arch.label} cannot be trained with {asked}: {reason}, for which no rule says what is dropped or "
            "computed again; leave it out"
        )
