"""Which cores an unfused reference has an op list for (docs/reference-unfused.md, section 1)."""

from __future__ import annotations

from collections.abc import Iterator

from llmprof.errors import InputError
from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    Attention,
    GatedDeltaNet,
    Gaussian,
    Gqa,
    LayerPosition,
    Linear,
    Mamba1,
    Mamba2,
    NoAttention,
    NoPosition,
    Performer,
    RgLru,
    Rwkv4,
    ShortConv,
    T5Bias,
)
from llmprof.workload import Execution, Workload

WITHOUT_SCORES = (
    Linear,
    Performer,
    Mamba1,
    Mamba2,
    GatedDeltaNet,
    RgLru,
    Rwkv4,
    ShortConv,
    NoAttention,
)
"""Kinds without scores: they have op lists of their own, whatever the reference."""


class NoReference(InputError):
    """The unfused reference has no op list for a core."""

    def __init__(self, path: str, reference: str, what: str) -> None:
        super().__init__(
            f"{path}: {reference} has no op list for {what} (docs/reference-unfused.md, section 1); "
            "use the unfused reference lean-eager"
        )


def check_reference(arch: ArchSpec, workload: Workload, execution: Execution) -> None:
    """Raise NoReference where `execution` runs a core that its reference does not define, InputError in training."""
    reference = execution.reference
    if reference == "lean-eager":
        return
    if workload.phase == "train":
        raise InputError(f"a training pass is defined for the unfused reference lean-eager, not for {reference}")
    if execution.attention == "fused":
        return
    plain = 0
    for path, attention, position in _cores(arch, workload):
        if isinstance(attention, WITHOUT_SCORES):
            continue
        if not isinstance(attention, Gqa):
            raise NoReference(path, reference, f"attention of kind {attention.kind}")
        lacking = _lacking(reference, attention, position)
        if lacking is not None:
            raise NoReference(path, reference, lacking)
        plain += 1
    if not plain:
        raise NoReference("layers", reference, f"{arch.label}, which has no plain attention (kind gqa)")


def _cores(arch: ArchSpec, workload: Workload) -> Iterator[tuple[str, Attention, LayerPosition]]:
    """Every attention with its path, and the position that its layer gives it."""
    for stack in arch.stacks:
        for index, layer in enumerate(stack.layers):
            path = f"{stack.prefix}layers.{index}"
            yield f"{path}.attn", layer.attention, layer.position
            if layer.cross_attention is not None:
                yield f"{path}.cross_attn", layer.cross_attention, NoPosition()
    if workload.mtp and arch.mtp is not None:
        yield "mtp.layers.0.attn", arch.mtp.layer.attention, arch.mtp.layer.position


def _lacking(reference: str, attention: Gqa, position: LayerPosition) -> str | None:
    """The option of plain attention that `reference` does not know; None where it knows all."""
    if reference == "hf-eager":
        names = {Alibi: "ALiBi", T5Bias: "a T5 bias", Gaussian: "a Gaussian prior"}
        return names.get(type(position))
    if attention.softcap is not None:
        return "a soft cap (softcap)"
    return "sinks" if attention.sinks else None
