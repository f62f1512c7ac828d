"""Whole numbers that never decrease in another one: computed at few places, and searched by halving."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable


class Steps:
    """`compute(x)`, remembered, and not asked again between two places where it is the same.

    That holds because `compute` never decreases, in any of its parts: what is equal at both ends is equal between.
    """

    def __init__(self, compute: Callable[[int], tuple[int, ...]]) -> None:
        self._compute = compute
        self._at: list[int] = []
        self._values: dict[int, tuple[int, ...]] = {}

    def __call__(self, x: int) -> tuple[int, ...]:
        """The value at `x`."""
        found = self._values.get(x)
        if found is not None:
            return found
        place = bisect_left(self._at, x)
        if 0 < place < len(self._at):
            below, above = self._values[self._at[place - 1]], self._values[self._at[place]]
            if below == above:
                return below
        made = self._compute(x)
        self._at.insert(place, x)
        self._values[x] = made
        return made


GALLOP_FROM = 4096


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` that fits, where all below it do too; 0 where 1 does not.

    Far from the end it is sought by doubling first: what is asked of huge numbers can cost more.
    """
    if most < 1 or not fits(1):
        return 0
    if fits(most):
        return most
    below, above = 1, most
    reach = GALLOP_FROM
    while reach < above:
        if fits(reach):
            below, reach = reach, 2 * reach
        else:
            above = reach
    while above - below > 1:
        middle = (below + above) // 2
        if fits(middle):
            below = middle
        else:
            above = middle
    return below
