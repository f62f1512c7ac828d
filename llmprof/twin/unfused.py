"""Which cores a named unfused reference has an op list for (docs/reference-unfused.md, section 1)."""

from __future__ import annotations

from llmprof.errors import DeviceError, InputError
from llmprof.spec import arch
from llmprof.twin.core import CorePlan, NoFusedKernel
from llmprof.twin.masks import MaskKind
from llmprof.workload import Execution, UnfusedReference, Workload

_WITHOUT_SCORES = (
    *(arch.Linear, arch.Performer, arch.Mamba1, arch.Mamba2, arch.GatedDeltaNet, arch.RgLru, arch.Rwkv4),
    *(arch.ShortConv, arch.NoAttention),
)
"""Kinds that keep the op lists of their own pages under every reference."""


class NoReference(NoFusedKernel):
    """The named reference has no op list for this attention. `path` is the core's, `reason` says what it lacks."""

    def __init__(self, path: str, reference: UnfusedReference, reason: str) -> None:
        self.path = path
        self.reason = f"{reference} has no op list for {reason}"
        DeviceError.__init__(self, f"{path}: {self.reason}; use lean-eager")


def check_reference(model: arch.ArchSpec, workload: Workload, execution: Execution) -> None:
    """Raise where `execution` names a reference that `model` cannot run.

    NoReference: an attention of a kind that it has no op list for. InputError: a training pass.
    """
    if execution.attention == "fused" or execution.reference == "lean-eager":
        return
    if workload.phase == "train":
        raise InputError(f"a training pass runs lean-eager unfused, but the reference is {execution.reference}")
    layers = [(f"{stack.prefix}layers.{i}", layer) for stack in model.stacks for i, layer in enumerate(stack.layers)]
    if workload.mtp and model.mtp is not None:
        layers.append(("mtp.layers.0", model.mtp.layer))
    plain = 0
    for path, layer in layers:
        if isinstance(layer.attention, arch.Gqa):
            plain += 1
        elif not isinstance(layer.attention, _WITHOUT_SCORES):
            raise NoReference(f"{path}.attn", execution.reference, f"attention of kind {layer.attention.kind}")
        plain += layer.cross_attention is not None
    if not plain:
        raise NoReference("layers", execution.reference, f"{model.label}, which has no attention of kind gqa")


def plan_unfused(
    path: str,
    *,
    kind: MaskKind,
    square: bool,
    execution: Execution,
    softcap: float | None,
    sinks: bool,
    own_bias: str | None,
) -> CorePlan:
    """How the core of a plain attention at `path` runs unfused.

    `square`: there are as many keys as rows. `own_bias` names a bias that is no mere mask. NoReference: the reference
    has no op list for one of the options.
    """
    match execution.reference:
        case "lean-eager":
            return CorePlan(kernel="lean-eager", causal_flag=False)
        case "hf-eager":
            if own_bias is not None:
                raise NoReference(path, "hf-eager", own_bias)
            return CorePlan(kernel="hf-eager", causal_flag=False)
        case "sdpa-math":
            if softcap is not None:
                raise NoReference(path, "sdpa-math", f"scores that are capped at {softcap:g}")
            if sinks:
                raise NoReference(path, "sdpa-math", "attention sinks")
            return CorePlan(kernel="sdpa-math", causal_flag=kind == "causal" and square and own_bias is None)
