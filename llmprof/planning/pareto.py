"""The Pareto front: of points with a cost and a latency those that no other point is as good as in both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import TypeVar

T = TypeVar("T")


def front(points: Iterable[T], *, cost: Callable[[T], float], latency: Callable[[T], float]) -> list[T]:
    """The front, cheapest first. Of points that are equal in both the first stays."""
    kept: list[T] = []
    for point in sorted(points, key=lambda each: (cost(each), latency(each))):
        if not kept or latency(point) < latency(kept[-1]):
            kept.append(point)
    return kept


def front_of_bounds(
    points: Iterable[T],
    *,
    cost: Callable[[T], float],
    bounds: Sequence[Callable[[T], float]],
    latency: Callable[[T], float | None],
) -> list[T]:
    """The same front where a latency is dear to find: asked only of points whose bounds could put them on it.

    None of `bounds` is ever above the latency of a point; the cheapest to ask comes first, and gives the order in which
    points of one cost are asked. `latency` is None for a point that does not count.
    """
    first = bounds[0]
    kept: list[tuple[T, float]] = []
    best = inf
    for point in sorted(points, key=lambda each: (cost(each), first(each))):
        if any(bound(point) >= best for bound in bounds):
            continue
        took = latency(point)
        if took is not None:
            kept.append((point, took))
            best = min(best, took)
    return [point for point, _ in front(kept, cost=lambda each: cost(each[0]), latency=lambda each: each[1])]
