"""Whole numbers that never decrease in another one: computed at few places, and searched by guesses."""

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


def largest(left: Callable[[int], int], most: int) -> int:
    """The largest number from 1 to `most` of which something is left, 0 or more; 0 where of 1 nothing is.

    `left` never grows. What is asked of huge numbers can cost more, so that they are approached by doubling. Then the
    place is guessed as if `left` fell evenly, which most of it does, and halved in every third step, as it need not.
    """
    if most < 1 or (room := left(1)) < 0:
        return 0
    if (lack := left(most)) >= 0:
        return most
    below, above = 1, most
    reach = GALLOP_FROM
    while reach < above:
        found = left(reach)
        if found < 0:
            above, lack = reach, found
        else:
            below, room, reach = reach, found, 2 * reach
    step = 0
    while above - below > 1:
        step += 1
        share = (1, 2) if step % 3 == 0 else (room, room - lack)
        middle = below + max(1, min(above - below - 1, (above - below) * share[0] // share[1]))
        found = left(middle)
        if found < 0:
            above, lack = middle, found
        else:
            below, room = middle, found
    return below
