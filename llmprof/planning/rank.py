"""The order of configurations: what is best first, and what decides where that is equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import assert_never

from llmprof.planning.ask import Rank
from llmprof.planning.configuration import Configuration

IN_WORDS: dict[Rank, str] = {
    "price": "lowest price per hour",
    "gpus": "fewest devices",
    "cost": "lowest cost per million tokens",
    "decode": "shortest decode step",
    "prefill": "shortest prefill",
    "throughput": "most tokens per second",
}
"""What is best of each; equal ones are ordered by fewest devices, then by the shortest step, then by prefill."""

Key = tuple[float | str, ...]


def ranked(configurations: Iterable[Configuration], rank: Rank) -> list[Configuration]:
    """Best first."""
    key = _key(rank)
    return sorted(configurations, key=lambda c: (*key(c), c.gpus, *_times(c), c.deployment.device.name))


def best_of_each(configurations: Iterable[Configuration]) -> list[Configuration]:
    """Of ranked ones, the first of every number of a device in every choice of dtypes: the best way to spread them."""
    found: dict[object, Configuration] = {}
    for each in configurations:
        found.setdefault((each.deployment.device.name, each.gpus, each.deployment.dtypes), each)
    return list(found.values())


def _key(rank: Rank) -> Callable[[Configuration], tuple[float, ...]]:
    match rank:
        case "gpus":
            return lambda c: (c.gpus,)
        case "price":
            return lambda c: (_or_last(c.price_per_hour),)
        case "cost":
            return lambda c: (_or_last(c.cost_per_million),)
        case "decode":
            return lambda c: _times(c)[:1]
        case "prefill":
            return lambda c: (c.prefill.seconds,)
        case "throughput":
            return lambda c: (-c.tokens_per_s,)
    assert_never(rank)


def _or_last(price: float | None) -> float:
    """What has no price comes last."""
    return inf if price is None else price


def _times(c: Configuration) -> tuple[float, float]:
    return (c.prefill if c.decode is None else c.decode).seconds, c.prefill.seconds
