"""A size that is many numbers at once: what stands for the batch or the context where a whole grid is predicted.

The lowerings compute with sizes and decide by them: whether a window is full, which kernel is the busiest. Arithmetic
is done for every point at once. A decision that all points share is taken; one that they do not share raises
`Undecided` with what each of them says, and the grid (`grid.py`) is split there. So what is launched depends on the
values of no array, and no formula is written twice.

Values are float64, of relative error 1e-12 at most (integers up to 2^53 are exact); integer arrays would overflow
silently. Only this file and `grid.py` import numpy, and no pass of single numbers imports either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

TOLERANCE = 1e-12
"""Relative. Below 10^12 it tells any two integers apart; above, two ways to multiply equal sizes may differ by it."""


class Undecided(Exception):
    """The points of a grid do not share a decision: `answers` are theirs, True and False or numbers."""

    def __init__(self, answers: Mask | Values) -> None:
        super().__init__("a decision that the points of a grid do not share")
        self.answers = answers


class Sizes:
    """As many numbers as a grid has points, or as one of its axes has: arithmetic broadcasts.

    It stands where an `int` is expected. As an index, a name or a number of equal things it must be one number.

    It is kept as a sum of terms, each what depends on the row (the batch) times what depends on the column (the
    context), because nearly every size is one such term: the points themselves are made where they are compared.
    """

    __slots__ = ("_made", "_terms")

    def __init__(self, values: Values) -> None:
        of_rows = values.ndim == 2 and values.shape[1] == 1 and values.shape[0] > 1
        self._terms: tuple[_Term, ...] = ((values, 1.0),) if of_rows else ((None, values),)
        self._made: Values | None = values

    @property
    def values(self) -> Values:
        """The numbers, in a shape that broadcasts to that of the grid."""
        if self._made is None:
            row, column = self._terms[0]
            made = column if row is None else row * column
            for row, column in self._terms[1:]:
                made = made + (column if row is None else row * column)
            self._made = np.asarray(made, dtype=np.float64)
        return self._made

    def __repr__(self) -> str:
        return f"Sizes({self.values.min():g}..{self.values.max():g}, shape {self.values.shape})"

    def __hash__(self) -> int:
        return hash((self.values.shape, self.values.tobytes()))

    # --- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: object) -> Sizes:
        mine = self._terms
        for row, column in other._terms if isinstance(other, Sizes) else ((None, _number(other)),):
            for index, (known, sum_so_far) in enumerate(mine):
                if known is row:
                    mine = (*mine[:index], (row, sum_so_far + column), *mine[index + 1 :])
                    break
            else:
                mine = (*mine, (row, column))
        return _sum(mine)

    def __mul__(self, other: object) -> Sizes:
        if isinstance(other, tuple):  # is repeated as often as __index__ says
            return NotImplemented
        if not isinstance(other, Sizes):
            number = _number(other)
            return _sum(tuple((row, column * number) for row, column in self._terms))
        terms = []
        for row, column in self._terms:
            for by, across in other._terms:
                rows = row if by is None else by if row is None else row * by
                terms.append((rows, column * across))
        return _sum(tuple(terms))

    def __neg__(self) -> Sizes:
        return self * -1

    def __sub__(self, other: object) -> Sizes:
        return self + (-other if isinstance(other, Sizes) else -_number(other))

    def __rsub__(self, other: object) -> Sizes:
        return -self + other

    def __floordiv__(self, other: object) -> Sizes:
        return Sizes(np.floor_divide(self.values, _values(other)))

    def __rfloordiv__(self, other: object) -> Sizes:
        return Sizes(np.floor_divide(_values(other), self.values))

    def __mod__(self, other: object) -> Sizes:
        return Sizes(np.mod(self.values, _values(other)))

    def __rmod__(self, other: object) -> Sizes:
        return Sizes(np.mod(_values(other), self.values))

    def __divmod__(self, other: object) -> tuple[Sizes, Sizes]:
        return self // other, self % other

    __radd__ = __add__
    __rmul__ = __mul__

    # --- decisions ------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sizes | int | float):
            return NotImplemented
        there = _values(other)
        return _decided(np.abs(self.values - there) <= TOLERANCE * np.abs(there))

    def __lt__(self, other: object) -> bool:
        return self._compared(np.less, other, -TOLERANCE)

    def __le__(self, other: object) -> bool:
        return self._compared(np.less_equal, other, TOLERANCE)

    def __gt__(self, other: object) -> bool:
        return self._compared(np.greater, other, TOLERANCE)

    def __ge__(self, other: object) -> bool:
        return self._compared(np.greater_equal, other, -TOLERANCE)

    def __bool__(self) -> bool:
        return _decided(self.values != 0)

    def _compared(self, compare: Callable[[Values, Any], Mask], other: object, slack: float) -> bool:
        there = _values(other)
        return _decided(compare(self.values, there + slack * np.abs(there)))

    # --- one number -----------------------------------------------------------------------------

    def __index__(self) -> int:
        first = self.values.flat[0]
        if self.values.size > 1 and (self.values != first).any():
            raise Undecided(self.values)
        return int(first)

    def __format__(self, spec: str) -> str:
        return format(self.__index__(), spec)


_Term = tuple[Values | None, Any]
"""What depends on the row (None: nothing does), times what depends on the column, or on every point."""


def _sum(terms: tuple[_Term, ...]) -> Sizes:
    made = object.__new__(Sizes)
    made._terms, made._made = terms, None
    return made


def _number(other: object) -> float:
    """A number as numpy takes it: whole ones beyond 2^63 become floats without an error."""
    return float(other)  # type: ignore[arg-type]


def _values(other: object) -> Any:
    return other.values if isinstance(other, Sizes) else _number(other)


def _decided(mask: Mask) -> bool:
    """What all points say. Raises Undecided where they differ."""
    if mask.all():
        return True
    if mask.any():
        raise Undecided(mask)
    return False
