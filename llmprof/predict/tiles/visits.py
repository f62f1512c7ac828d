"""Which key tiles the row tiles visit, summed in closed form (reference-tiles.md, section 4).

Of row tile i the visits are lo(i) .. hi(i) - 1. Both bounds are floors of a line in i, kept between two limits, so
their sums are floor sums (`floors.py`). hi is taken at the whole tile's last row, (i + 1) Br - 1: the last row sees the
last key, and both readings give C there. lo > 0 implies hi > lo, and hi >= 0, so no difference is negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from llmprof.predict.tiles.floors import ceil_div, clamped_sum, nested_floor_sum, reaching
from llmprof.predict.tiles.shape import Mask


@dataclass(frozen=True, slots=True)
class Visits:
    """The visits of one sequence and head: T `queries`, S `keys`, Br `rows` and `width` = Bc keys of a tile."""

    queries: int
    keys: int
    mask: Mask
    rows: int
    width: int

    @property
    def row_tiles(self) -> int:
        """R."""
        return ceil_div(self.queries, self.rows)

    @property
    def key_tiles(self) -> int:
        """C."""
        return ceil_div(self.keys, self.width)

    @property
    def total(self) -> int:
        """Visits of all row tiles: the sum of hi - lo."""
        return self._ends() - self._begins()

    @property
    def key_loads(self) -> int:
        """Keys that exist in the visited tiles, each as often as its tile is visited."""
        missing = self.key_tiles * self.width - self.keys
        return self.width * self.total - missing * (self.row_tiles - self._reach(self.key_tiles))

    @property
    def row_loads(self) -> int:
        """Rows that exist in the row tiles, each as often as its tile visits."""
        missing = self.row_tiles * self.rows - self.queries
        return self.rows * self.total - missing * (self.key_tiles - self._begin(self.row_tiles - 1))

    @property
    def active_row_tiles(self) -> int:
        """A: row tiles that visit something; the first ones may see nothing where there are fewer keys than rows."""
        return self.row_tiles - self._reach(1)

    @property
    def active_rows(self) -> int:
        """T_A: the rows in them."""
        return self.queries - self._reach(1) * self.rows

    @property
    def visited_keys(self) -> int:
        """Keys that exist in the tiles that some row tile visits: all from the first that the first row tile sees."""
        return self.keys - self.width * self._begin(0)

    def in_ranges(self, tiles: int) -> Visits:
        """The same with ranges of `tiles` key tiles for tiles: how many ranges each row tile visits."""
        return Visits(self.queries, self.keys, self.mask, self.rows, self.width * tiles)

    def pages(self, page: int, tiles: int) -> int:
        """Pages of `page` tokens that CTAs find their keys in, each with a range of `tiles` key tiles of a row tile.

        A row tile without ranges finds them from floor(lo Bc / P) to that of its last key. A range that begins within a
        page makes two CTAs find it: the ranges that are visited, less one, less those that begin with a page.
        """
        ranges = self.in_ranges(tiles)
        with_pages = self.in_ranges(lcm(self.width * tiles, page) // self.width)
        return self._pages_of_whole_row_tiles(page) + ranges.total - with_pages.total

    def _pages_of_whole_row_tiles(self, page: int) -> int:
        # Three runs: row tiles that end with the low limit (or visit nothing), those between, those that end at C.
        lowest = self._low_limit
        last = self._reach(self.key_tiles)
        first = min(last, self._reach(lowest + 1))
        ends = first * ((lowest * self.width - 1) // page) if lowest else 0
        between = self._high + first * self.rows
        ends += nested_floor_sum(last - first, between, self.rows, self.width, page, self.width - 1)
        ends += (self.row_tiles - last) * ((self.keys - 1) // page)
        return ends - self._first_pages(page) + self.active_row_tiles

    def _first_pages(self, page: int) -> int:
        """Sum of floor(lo Bc / P)."""
        if self.mask.before is None:
            return 0
        start = reaching(1, self.row_tiles, self._low, self.rows, self.width)
        low = self._low + start * self.rows
        return nested_floor_sum(self.row_tiles - start, low, self.rows, self.width, page, 0)

    @property
    def _low_limit(self) -> int:
        """The least hi: all of it with a full mask, the prefix's tiles with a prefix."""
        if self.mask.after is None:
            return self.key_tiles
        prefix = self.mask.extent if self.mask.kind == "prefix" else 0
        return min(self.key_tiles, ceil_div(prefix, self.width))

    @property
    def _high(self) -> int:
        """The last key that the last row of row tile 0 sees."""
        return self.keys - self.queries + (self.mask.after or 0) + self.rows - 1

    @property
    def _low(self) -> int:
        """The first key that row 0 sees; below 0 where it sees all before it."""
        return self.keys - self.queries - (self.mask.before or 0)

    def _begin(self, row_tile: int) -> int:
        """lo."""
        return 0 if self.mask.before is None else max(0, (self._low + row_tile * self.rows) // self.width)

    def _begins(self) -> int:
        if self.mask.before is None:
            return 0
        return clamped_sum(self.row_tiles, self._low, self.rows, self.width, 0, self.key_tiles)

    def _ends(self) -> int:
        """Sum of hi: one more than the last key tile that is visited."""
        low, high = self._low_limit - 1, self.key_tiles - 1
        return self.row_tiles + clamped_sum(self.row_tiles, self._high, self.rows, self.width, low, high)

    def _reach(self, tiles: int) -> int:
        """The first row tile with hi >= `tiles`, for tiles >= 1; the last row tile has C."""
        if self._low_limit >= tiles:
            return 0
        return reaching(tiles - 1, self.row_tiles, self._high, self.rows, self.width)
