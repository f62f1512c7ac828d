"""Where reuse in the L2 cache stops, and what matrix products read again."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmprof.measure.gpu_experiments.experiment import Experiment, Finding, Gpu, Operation, Step, ratios
from llmprof.measure.lru import LruCache, Touch

_BYTES = 2  # of an element of bf16
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
"""Bytes of both tensors of a copy over those of the cache."""

_REUSED = 0.1
"""A copy that moves less than this share of its bytes has found the others in the cache."""


def _elements(nbytes: float) -> int:
    return max(int(nbytes) // _BYTES // 1024 * 1024, 1024)


def copy_again(elements: int, capacity: int) -> int:
    """Bytes to and from memory of a second copy of the same tensor to the same place, by docs/reference-dram.md."""
    size = elements * _BYTES
    source = Touch("source", size, size, 0, size, False, False)
    target = Touch("target", size, 0, size, 0, False, False)
    cache = LruCache(capacity)
    cache.run("first", (source, target))
    before = cache.moved.total()
    cache.run("second", (source, target))
    return cache.moved.total() - before


def _copies(gpu: Gpu) -> Sequence[Step]:
    def step(share: float) -> Step:
        elements = _elements(share * gpu.l2 / 2)

        def build(device: torch.device) -> Operation:
            source = torch.randn(elements, dtype=torch.bfloat16, device=device)
            target = torch.empty_like(source)
            return lambda: target.copy_(source)

        return Step(
            label=f"{share:g} L2", build=build, predicted={"dram_bytes": copy_again(elements, gpu.l2)}, again=True
        )

    return [step(share) for share in SHARES]


def _where_reuse_stops(findings: Sequence[Finding]) -> str:
    moved = [(each, SHARES[number]) for number, each in enumerate(findings) if each.measured is not None]
    if not moved:
        return "not measured"
    whole = {share: moving.measured or 0 for moving, share in moved}
    last = max(whole)
    full = whole[last] / last
    within = [share for share, measured in whole.items() if measured < _REUSED * full * share]
    beyond = [share for share, measured in whole.items() if measured > (1 - _REUSED) * full * share]
    return (
        f"a copy is found in the cache up to {max(within, default=0):g} of its size, and moves all its bytes from "
        f"{min(beyond, default=0):g} on"
    )


COPIES = Experiment(
    name="l2-reuse",
    settles="a tensor is found in the L2 as long as what was touched since fits its whole size (least recently used)",
    steps=_copies,
    answer=_where_reuse_stops,
)


def _products(gpu: Gpu) -> Sequence[Step]:
    def step(label: str, m: int, n: int, k: int) -> Step:
        def build(device: torch.device) -> Operation:
            left = torch.randn(m, k, dtype=torch.bfloat16, device=device)
            right = torch.randn(k, n, dtype=torch.bfloat16, device=device)
            out = torch.empty(m, n, dtype=torch.bfloat16, device=device)
            return lambda: torch.mm(left, right, out=out)

        return Step(label=label, build=build, predicted={"dram_bytes": (m * k + k * n + m * n) * _BYTES})

    return [
        step("bound by memory: 16 x 8192 x 8192", 16, 8192, 8192),
        step("bound by arithmetic: 4096 x 4096 x 4096", 4096, 4096, 4096),
        step("bound by arithmetic: 8192 x 8192 x 8192", 8192, 8192, 8192),
        step("bound by arithmetic: 16384 x 8192 x 8192", 16384, 8192, 8192),
    ]


PRODUCTS = Experiment(
    name="matrix-products",
    settles="memory sees the operands of a product once where it is bound by memory, and 2 to 7 times where it is "
    "bound by arithmetic",
    steps=_products,
    answer=ratios,
)
