"""Keys and values in pages: a block table says where each page lies (section 7 of the page).

Pages lie shuffled, with others between them that hold NaN, so that a wrong address gives a wrong answer.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from llmprof.measure.tiles.memory import Array, Global
from llmprof.measure.tiles.problem import Problem, Values, ceil_div

ENTRY_BYTES = 4
"""An entry of a block table is an int32."""


class PagedMemory:
    """The pages of all sequences and their block table."""

    def __init__(
        self, memory: Global, problem: Problem, values: Values | None, page_tokens: int, seed: int = 0
    ) -> None:
        if page_tokens < 1:
            raise ValueError(f"a page holds at least 1 token, not {page_tokens}")
        p = self._problem = problem
        self.memory = memory
        self.page_tokens = page_tokens
        per_sequence = ceil_div(p.keys, page_tokens)
        places = list(range(2 * p.batch * per_sequence))
        random.Random(seed).shuffle(places)
        self._table = [places[i * per_sequence : (i + 1) * per_sequence] for i in range(p.batch)]
        self.keys = self._pool(len(places), p.head_dim, None if values is None else values.keys)
        self.values = self._pool(len(places), p.value_dim, None if values is None else values.values)

    def _pool(self, pages: int, width: int, values: Tensor | None) -> Array:
        p, size = self._problem, self.page_tokens
        shape = (pages, p.kv_heads, size, width)
        if values is None:
            return Array(self.memory, shape, p.element_bytes)
        pool = torch.full(shape, torch.nan, dtype=torch.float64)
        for sequence, places in enumerate(self._table):
            for page, place in enumerate(places):
                rows = values[sequence, :, page * size : (page + 1) * size]
                pool[place, :, : rows.shape[1]] = rows
        return Array(self.memory, shape, p.element_bytes, pool)

    def place(self, sequence: int, page: int) -> int:
        """Read one entry of the block table."""
        self.memory.loads += ENTRY_BYTES
        return self._table[sequence][page]

    def reader(self, sequence: int, kv_head: int) -> PageReader:
        """How one CTA reads its keys and values."""
        return PageReader(self, sequence, kv_head, self._problem.keys)


class PageReader:
    """Reads the rows of one sequence and KV head page by page, and each entry of the block table once."""

    def __init__(self, paged: PagedMemory, sequence: int, kv_head: int, tokens: int) -> None:
        self._paged = paged
        self._sequence = sequence
        self._kv_head = kv_head
        self._tokens = tokens
        self._known: dict[int, int] = {}

    def load_keys(self, start: int, stop: int) -> Tensor | None:
        """The keys that exist between `start` and `stop`."""
        return self._load(self._paged.keys, start, stop)

    def load_values(self, start: int, stop: int) -> Tensor | None:
        """The values that exist between `start` and `stop`."""
        return self._load(self._paged.values, start, stop)

    def _load(self, pool: Array, start: int, stop: int) -> Tensor | None:
        size, stop = self._paged.page_tokens, min(stop, self._tokens)
        parts = []
        for page in range(start // size, ceil_div(stop, size)):
            if page not in self._known:
                self._known[page] = self._paged.place(self._sequence, page)
            first, last = max(start, page * size), min(stop, (page + 1) * size)
            part = pool.load((self._known[page], self._kv_head), first - page * size, last - page * size)
            if part is not None:
                parts.append(part)
        return torch.cat(parts) if parts else None
