"""How far a counter may lie from its prediction, and why: the one place where these tolerances stand.

Everything that is counted exactly is equal or wrong (confirm.py). A hardware counter sees more than a model of whole
tensors and whole tiles can know, so it has a band, as a share of the prediction, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_BYTES = 10**6
"""Below this a module's bytes have no verdict."""

LEAST_REASON = (
    "less than 1 MB: parameters and instructions of the kernels, and whoever else uses the memory, are as much as that"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A tolerance: the share of the prediction by which a measurement may differ. None: there is no verdict."""

    share: float | None
    reason: str


_LINES = (
    "a cache holds lines, not tensors, its replacement is not in the order of use, and it is shared with whoever else "
    "uses the GPU"
)
_DRAM = Band(share=0.05, reason=_LINES)
_DRAM_FUSED = Band(share=0.10, reason=f"{_LINES}; a fused pass moves so little that this weighs twice as much")
_TILES = Band(
    share=0.05,
    reason="a kernel also exchanges row statistics and its epilogue through shared memory, and skips parts of tiles",
)
_TENSOR = Band(share=0.05, reason="a kernel may skip parts of the tiles on the border of its mask")
_CACHE = Band(
    share=None,
    reason="the counter holds requests of every client of the L2, those between its halves too; no record has shown "
    "yet how far that is from what the SMs ask",
)


def band(quantity: str, phase: str, attention: str) -> Band:
    """The band of a quantity of a pass. KeyError for a quantity that no counter measures."""
    if quantity == "dram_bytes":
        return _DRAM_FUSED if (phase, attention) == ("prefill", "fused") else _DRAM
    return {"smem_bytes": _TILES, "matmul_flops_executed": _TENSOR, "l2_to_sm_bytes": _CACHE}[quantity]
