"""How often one long head reads its keys and values from memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmprof.measure.gpu_experiments.experiment import Experiment, Finding, Gpu, Operation, Step

HEAD_DIM = 128
_BYTES = 2
_ROWS, _KEYS = 128, 64
"""The tile of FlashAttention 2 at head_dim 128 on sm80 and sm90 (docs/reference-tiles.md, section 3)."""
_FOOTPRINT = (_ROWS + 2 * _KEYS) * HEAD_DIM * _BYTES
_CACHES = 1.5
"""Keys and values are so many L2 caches large."""


def length(gpu: Gpu) -> int:
    """Positions of the head: whole row tiles, whose keys and values do not fit the cache."""
    return -(-int(_CACHES * gpu.l2) // (2 * HEAD_DIM * _BYTES) // _ROWS) * _ROWS


def loads(gpu: Gpu) -> int:
    """How often K and V come from memory (docs/reference-dram.md, section 4): once for all row tiles in flight."""
    in_flight = gpu.multiprocessors * max(1, gpu.shared_per_multiprocessor // _FOOTPRINT)
    return -(-(length(gpu) // _ROWS) // in_flight)


def _head(gpu: Gpu) -> Sequence[Step]:
    positions = length(gpu)

    def build(device: torch.device) -> Operation:
        q, k, v = (torch.randn(1, 1, positions, HEAD_DIM, dtype=torch.bfloat16, device=device) for _ in range(3))

        def run() -> object:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                return functional.scaled_dot_product_attention(q, k, v)

        return run

    tensor = positions * HEAD_DIM * _BYTES
    known = gpu.capability in ((8, 0), (9, 0))
    predicted = {"dram_bytes": 2 * tensor + 2 * tensor * loads(gpu) + 4 * positions} if known else {}
    return [Step(label=f"{positions:,} positions", build=build, predicted=predicted)]


def _answer(findings: Sequence[Finding]) -> str:
    for finding in findings:
        if finding.quantity == "dram_bytes" and finding.measured is not None:
            positions = int(finding.label.split()[0].replace(",", ""))
            tensor = positions * HEAD_DIM * _BYTES
            factor = (finding.measured - 2 * tensor - 4 * positions) / (2 * tensor)
            return f"keys and values come from memory {factor:.2f} times; predicted and measured differ by " + (
                "nothing that is predicted here" if finding.ratio is None else f"{finding.ratio - 1:+.1%}"
            )
    return "not measured"


LONG_HEAD = Experiment(
    name="long-head",
    settles="one head whose keys and values exceed the L2 reads them once for every wave of row tiles in flight",
    steps=_head,
    answer=_answer,
)
