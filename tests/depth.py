"""Gradients by depth of the study norm-depth, right after initialisation: what docs/norms.md prints and a test repeats.

`python -m tests.depth` prints the tables of the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch

from llmprof.catalog import resolve
from llmprof.measure.training import measure_training
from llmprof.objectives import training_workload
from llmprof.predict.api import predict
from llmprof.spec.arch import ArchSpec, Residual
from llmprof.twin.build import build
from llmprof.twin.linear import Linear
from llmprof.twin.model import Twin
from llmprof.workload import Dtypes, Execution

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
TEXT, BATCH = 64, 4
SEEDS = (0, 1, 2)
DEEP, SHALLOW = 32, 8
SHOWN = (0, 8, 16, 24, 31)
"""The layers that the page prints, of the deep stack."""

FUSED = Execution(attention="fused", kernels="cpu")
START = 0.02
"""The deviation with which the twin is built (docs/reference-execution.md, section 11)."""


def studied(depth: int = DEEP) -> dict[str, ArchSpec]:
    """The variants of norm-depth by name, `depth` layers deep; DeepNorm's constants are those of that depth."""
    return {arch.variant or "base": _of_depth(arch, depth) for arch in resolve(["norm-depth"], all_variants=True)}


def _of_depth(arch: ArchSpec, depth: int) -> ArchSpec:
    (stack,) = arch.stacks
    layer = stack.layers[0]
    if layer.residual != Residual():
        # DeepNet's constants of a decoder alone.
        layer = replace(layer, residual=Residual(alpha=(2 * depth) ** 0.25, beta=(8 * depth) ** -0.25))
    return replace(arch, stacks=(replace(stack, layers=(layer,) * depth),))


def gradients(variant: str, *, depth: int = DEEP, xavier: bool = True) -> tuple[float, ...]:
    """The norm of each layer's gradient of causal-lm, the mean over `SEEDS`."""
    found = by_seed(variant, depth=depth, xavier=xavier)
    return tuple(sum(norms) / len(SEEDS) for norms in zip(*found, strict=True))


@cache
def by_seed(variant: str, *, depth: int, xavier: bool) -> tuple[tuple[float, ...], ...]:
    """The same for each seed."""
    arch = studied(depth)[variant]
    workload = training_workload(arch, "causal-lm", text=TEXT, batch=BATCH, prefix_tokens=None, dtypes=FP32)
    found: list[tuple[float, ...]] = []
    for seed in SEEDS:
        twin = build(arch, dtypes=FP32, device="cpu", seed=seed)
        if xavier:
            start_from_xavier(twin)
        measured = measure_training(twin, workload, FUSED, text=TEXT, seed=seed)
        norms = [gradient.norm for gradient in measured.gradients]
        found.append(tuple(norm for norm in norms if norm is not None))
    return tuple(found)


def start_from_xavier(twin: Twin) -> None:
    """Give every matrix the deviation sqrt(2 / (d_in + d_out)), times beta where DeepNorm has it so."""
    with torch.no_grad():
        for _, leaf in twin.leaves:
            if isinstance(leaf, Linear):
                leaf.weight.mul_(math.sqrt(2 / sum(leaf.weight.shape)) / START)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a variant costs: its values, the dense FLOPs of a forward pass, and what its norms move in it."""

    params: int
    flops: int
    norm_bytes: int


def cost(arch: ArchSpec) -> Cost:
    """Predicted, for the forward pass of the same batch."""
    workload = training_workload(arch, "causal-lm", text=TEXT, batch=BATCH, prefix_tokens=None, dtypes=FP32)
    ledger = predict(arch, workload, FUSED).ledger
    return Cost(
        params=ledger.total("params"),
        flops=ledger.total("matmul_flops"),
        norm_bytes=sum(e.value for e in ledger if e.quantity == "hbm_bytes" and e.path.endswith("norm")),
    )


def cost_rows() -> Iterator[tuple[str, ...]]:
    """The table of costs."""
    for name, arch in studied().items():
        found = cost(arch)
        yield name, f"{found.params:,}", f"{found.flops:,}", f"{found.norm_bytes:,}"


def gradient_rows(*, xavier: bool) -> Iterator[tuple[str, ...]]:
    """The table of gradients: some layers of the deep stack, first / last, and the last layer of the shallow one."""
    for name in studied():
        deep, shallow = gradients(name, xavier=xavier), gradients(name, depth=SHALLOW, xavier=xavier)
        yield (
            name,
            *(f"{deep[i]:.3g}" for i in SHOWN),
            f"{deep[0] / deep[-1]:.2f}",
            f"{shallow[-1]:.3g}",
        )


if __name__ == "__main__":
    for rows in (cost_rows(), gradient_rows(xavier=False), gradient_rows(xavier=True)):
        print()
        for row in rows:
            print("| " + " | ".join(row) + " |")
