"""Rows keyed by module path: the seam between prediction and measurement.

Both halves fill a `Ledger` with the same paths and quantities; `confirm.py` joins them. The names
of quantities live here, so that a misspelt one is an error and not a silent miss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Quantity = Literal[
    "params",
    "weight_bytes",
    "matmul_flops",
    "matmul_flops_causal",
    "hbm_bytes",
    "kv_cache_bytes",
    "recurrent_state_bytes",
    "peak_live_bytes",
    "loss_tokens",
    "logits_bytes",
    "matmul_flops_backward",
    "hbm_bytes_backward",
    "saved_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "optimizer_peak_bytes",
    "hbm_bytes_optimizer",
    "compulsory_bytes",
    "dram_bytes",
    "l2_to_sm_bytes",
    "smem_bytes",
    "matmul_flops_executed",
]
"""What a path can have.

params            trainable values; a tied matrix counts once, at the path that owns it
weight_bytes      bytes of those values as they are stored, scales of quantised formats included
matmul_flops      2 x multiply-accumulates of the contractions, dense
matmul_flops_causal   the same, in the attention cores with the visible (query, key) pairs alone
hbm_bytes         op-level bytes: the inputs and outputs of every kernel launched under the path
kv_cache_bytes    bytes of one cache tensor, which has rows for tokens (paths have ``.cache.`` before their last name)
recurrent_state_bytes   bytes of one tensor of fixed size that is kept between tokens (all other paths)
peak_live_bytes   the largest sum of live tensors other than weights and cache (path "")

Of a training pass alone (docs/objectives.md), which has no cache; its peak is that of forward and backward:

loss_tokens             positions with loss, of the whole batch (path ``loss``)
logits_bytes            bytes of the logits as the head makes them (path ``lm_head``)
matmul_flops_backward   2 x multiply-accumulates of the contractions of the backward pass (path "")
hbm_bytes_backward      op-level bytes of the kernels of the backward pass (path "")
saved_bytes             storage that backward finds saved, at the leaf that saves it first (docs/reference-training.md)
gradient_bytes          bytes of the gradients of the parameters of a path
optimizer_bytes         bytes of what the optimiser keeps for the parameters of a path
optimizer_peak_bytes    the largest sum of live tensors in the optimiser's step beside parameters and states (path "")
hbm_bytes_optimizer     op-level bytes of the optimiser's step (path "")

Of one device (docs/reference-dram.md, docs/reference-tiles.md):

compulsory_bytes        every tensor that comes from memory or stays in it, once
dram_bytes              op-level bytes that miss the last-level cache
l2_to_sm_bytes          what the streaming multiprocessors read from the cache and write to it, tiles again included
smem_bytes              bytes that kernels read from shared memory and write to it
matmul_flops_executed   2 x multiply-accumulates of the whole tiles that a kernel runs
"""


class Basis(Enum):
    """How a value came about."""

    PREDICTED = "predicted"
    """From formulas, without running anything."""
    COUNTED = "counted"
    """From real tensors and really dispatched ops."""
    SENSED = "sensed"
    """Read from an instrument: an allocator, a clock, a counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One quantity of one path. Integers, in base units."""

    path: str
    quantity: Quantity
    value: int
    basis: Basis
    note: str = ""


class Ledger:
    """Entries by (path, quantity). Adding to an existing key adds the values."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[tuple[str, Quantity], Entry] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add `entry`; ValueError where the same key was entered on another basis."""
        key = (entry.path, entry.quantity)
        old = self._entries.get(key)
        if old is not None:
            if old.basis is not entry.basis:
                raise ValueError(f"{key} is {old.basis.value} and {entry.basis.value} at once")
            note = old.note if old.note == entry.note else "; ".join(filter(None, (old.note, entry.note)))
            entry = Entry(
                path=entry.path,
                quantity=entry.quantity,
                value=old.value + entry.value,
                basis=entry.basis,
                note=note,
            )
        self._entries[key] = entry

    def at(self, path: str, quantity: Quantity) -> int | None:
        """The value of `path` itself, or None where there is no entry."""
        entry = self._entries.get((path, quantity))
        return None if entry is None else entry.value

    def subtree(self, path: str) -> Ledger:
        """The entries of `path` and of everything below it; "" is the whole ledger."""
        below = path + "."
        return Ledger(e for e in self if not path or e.path == path or e.path.startswith(below))

    def total(self, quantity: Quantity) -> int:
        """The sum of `quantity` over all paths; a tied matrix stands at one path only."""
        return sum(e.value for e in self if e.quantity == quantity)

    def paths(self) -> list[str]:
        """Every path with an entry, in the order of first entry."""
        return list(dict.fromkeys(e.path for e in self))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


class Verdict(Enum):
    """What a row's two sides say to each other."""

    AGREES = "AGREES"
    DIFFERS = "DIFFERS"
    UNPREDICTED = "UNPREDICTED"
    UNMEASURED = "UNMEASURED"
    BELOW_BOUND = "BELOW_BOUND"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Prediction and measurement of one quantity of one path, side by side.

    Both are integers, but for the quantity ``experts_expected``, which is a mean (path "").
    """

    path: str
    quantity: str
    attention: str
    phase: str
    predicted: int | float | None
    measured: int | float | None
    witness: str
    verdict: Verdict
    note: str = ""
