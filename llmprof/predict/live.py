"""What is live at the busiest kernel of a tape (reference-execution.md, section 3). Axis legend: see `tensor.py`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from llmprof.predict.calls import Call
from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Tensor


def busiest(items: Sequence[Op | Call], allocated: Sequence[Tensor]) -> tuple[int, tuple[Tensor, ...]]:
    """The largest sum of live bytes at the end of any kernel, and the tensors that make it up.

    `allocated` own the storages of the tape. While a called segment runs, its own peak is live beside what the caller
    holds; its result is part of that peak, not of the caller's.
    """
    end = len(items)
    change = [0] * (end + 1)
    for owner in allocated:
        storage, size = owner.storage, owner.nbytes
        change[storage.born] += size
        change[storage.last + 1] -= size
    totals = list(accumulate(change[:-1]))
    for index, item in enumerate(items):
        if isinstance(item, Call):
            totals[index] += item.segment.peak_bytes - sum(made.nbytes for made in _made_by(item))
    at = max(range(end), key=totals.__getitem__)
    live = [t for t in allocated if t.storage.born <= at <= t.storage.last]
    chosen = items[at]
    if isinstance(chosen, Call):
        made = _made_by(chosen)
        live = [t for t in live if t not in made] + list(chosen.segment.live)
    return totals[at], tuple(live)


def _made_by(call: Call) -> tuple[Tensor, ...]:
    """What comes to life in a call and outlives it: part of its segment's peak, where that is."""
    return (call.gives, *(tensor for tensor in call.lends if tensor.home is Home.ACTIVATION))
