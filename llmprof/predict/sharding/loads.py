"""How many rows go to the experts of a rank (docs/reference-sharding.md, section 9)."""

from __future__ import annotations

from collections import Counter

from llmprof.routing import Routing, loads
from llmprof.spec.arch import Moe


def own_loads(routing: Routing, tokens: int, spec: Moe, blocks: int) -> Counter[int]:
    """How many experts of the first of so many blocks have each load, largest first; without those without tokens.

    No other block has more tokens: neither rule that is not random gives a later expert more than an earlier one.
    """
    found = Counter(loads(routing, tokens, spec.top_k, spec.n_experts)[: spec.n_experts // blocks])
    return Counter({load: found[load] for load in sorted(found, reverse=True) if load})


def rows_of_experts(found: Counter[int]) -> int:
    """G: the rows that go to them."""
    return sum(load * times for load, times in found.items())
