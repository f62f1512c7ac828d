"""Sums of floors in O(log): they make visited tiles a closed form where Br and Bc do not divide each other."""

from __future__ import annotations

from math import gcd


def floor_sum(count: int, start: int, step: int, width: int) -> int:
    """Sum over i = 0 .. count - 1 of floor((start + i step) / width); width > 0, the others any integer, count >= 0.

    The lattice points under a line, counted by turns of the Euclidean algorithm: whole parts of the slope and of the
    start are arithmetic sums; of what is left, points are counted by columns in place of rows, and slope and width
    change places. (R. Graham, D. Knuth, O. Patashnik, Concrete Mathematics, 2nd edition, section 3.5, the sum 3.32;
    recalled.)
    """
    total = 0
    while count > 0:
        whole, step = divmod(step, width)
        total += whole * (count * (count - 1) // 2)
        whole, start = divmod(start, width)
        total += whole * count
        top = start + step * count
        if top < width:
            break
        # floor(top / width) columns, each as long as the rows that reach it.
        count, start = divmod(top, width)
        step, width = width, step
    return total


def clamped_sum(count: int, start: int, step: int, width: int, low: int, high: int) -> int:
    """The same of floors kept between `low` and `high` (low <= high); step > 0, so the floors rise."""
    from_low = reaching(low, count, start, step, width)
    from_high = reaching(high, count, start, step, width)
    between = floor_sum(from_high - from_low, start + from_low * step, step, width)
    return low * from_low + between + high * (count - from_high)


def reaching(value: int, count: int, start: int, step: int, width: int) -> int:
    """The first i of 0 .. count with floor((start + i step) / width) >= value; `count` where none does."""
    return min(count, max(0, ceil_div(value * width - start, step)))


def nested_floor_sum(count: int, start: int, step: int, width: int, page: int, over: int) -> int:
    """Sum over i of floor((width floor((start + i step) / width) + over) / page); 0 <= over < width.

    The inner floor is v = q m + u with m = page / gcd(width, page) and 0 <= u < m. q pages' worth is width / gcd whole
    pages; u adds one for each page end that u width + over has passed. Of those there are less than width / gcd, and
    each is a difference of two plain sums.
    """
    common = gcd(width, page)
    m, whole = page // common, width // common
    coarse = floor_sum(count, start, step, width * m)
    total = whole * coarse
    for passed in range(1, whole):
        least = ceil_div(passed * page - over, width)  # u from here on has passed this page end
        total += floor_sum(count, start + (m - least) * width, step, width * m) - coarse
    return total


def ceil_div(a: int, b: int) -> int:
    """The least integer not below a / b; b > 0."""
    return -(-a // b)
