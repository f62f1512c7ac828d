"""The figures of one device of those that a pass is spread over, and what they are made of."""

from __future__ import annotations

from collections import Counter
from functools import cached_property

from llmprof.check.ledgers import Parts
from llmprof.check.quantities import TOTAL_PER_RANK
from llmprof.check.verdict import Number
from llmprof.ledger import Quantity
from llmprof.predict.sharding.api import RankTotals, ShardedPrediction
from llmprof.predict.sharding.record import FIGURES, unconfirmed

PEAK = "activation_peak_bytes_fused_per_rank"

OF_LEDGER: dict[str, Quantity] = {
    "parameters_per_rank": "params",
    "weight_bytes_per_rank": "weight_bytes",
    "kv_cache_bytes_per_rank": "kv_cache_bytes",
    "matmul_flops_dense_per_rank": "matmul_flops",
    "matmul_flops_causal_per_rank": "matmul_flops_causal",
    "hbm_bytes_fused_per_rank": "hbm_bytes",
}
"""Figure -> what its parts are in the account of a stage."""

OF_CALLS = {
    "collective_calls": "count",
    "collective_bytes_per_rank": "bytes",
    "collective_wire_bytes_per_rank": "wire_bytes",
}
"""Figure -> the member of each call that it adds up."""

KEPT: tuple[Quantity, ...] = ("weight_bytes", "kv_cache_bytes", "recurrent_state_bytes")


class RankFigures:
    """What `count` says of the device that keeps the most, and the most that any device needs in all."""

    def __init__(self, made: ShardedPrediction) -> None:
        self._made = made

    def value(self, quantity: str) -> Number:
        """One figure."""
        if quantity == TOTAL_PER_RANK:
            return _needed(self._neediest)
        found: int = getattr(self._made.fullest, FIGURES[quantity])
        return found

    def parts(self, quantity: str) -> Parts:
        """What the modules that the device has contribute, or its calls; nothing for a peak."""
        rank = self._neediest if quantity == TOTAL_PER_RANK else self._made.fullest
        account = self._made.stages[rank.stage]
        if quantity in OF_CALLS:
            said: Counter[str] = Counter()
            for call in account.collectives:
                said[call.path] += getattr(call, OF_CALLS[quantity])
            return said
        wanted = KEPT if quantity == TOTAL_PER_RANK else (OF_LEDGER[quantity],) if quantity in OF_LEDGER else ()
        found: Counter[str] = Counter()
        for entry in account.ledger:
            if entry.quantity in wanted:
                found[entry.path] += entry.value
        return {**found, PEAK: rank.peak_live_bytes} if quantity == TOTAL_PER_RANK else found

    def unconfirmed(self, quantity: str) -> str:
        """Why nothing confirms a figure; empty where something does."""
        if quantity == TOTAL_PER_RANK:
            return unconfirmed(self._made, self._neediest).get(PEAK, "")
        return unconfirmed(self._made, self._made.fullest).get(quantity, "")

    @cached_property
    def _neediest(self) -> RankTotals:
        """The rank that needs the most memory; the first of several."""
        return max(self._made.ranks, key=_needed)


def _needed(rank: RankTotals) -> int:
    """What a rank keeps, and the most that is live beside it."""
    return rank.held_bytes + rank.peak_live_bytes
