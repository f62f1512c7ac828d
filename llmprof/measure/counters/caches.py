"""The state of a GPU's last-level cache around a pass that is counted.

A cache of which every line was read, and none written, from a buffer that is no part of the pass: nothing of the pass
is in it, and nothing of anything else waits to be written while the pass runs. (The evictor of `eviction.py` writes
its buffer, as timing does not mind: here those lines would be counted as the pass's.)
"""

from __future__ import annotations

import torch

from llmprof.errors import DeviceError
from llmprof.measure.device import free_bytes
from llmprof.measure.eviction import last_level_cache_bytes
from llmprof.units import format_bytes

CACHES = 3
"""The buffer is so many caches large: replacement is not in the order of use, and may spare old lines for a while."""


class Sweep:
    """A buffer that, when it is read, drives everything else out of the cache."""

    def __init__(self, device: torch.device) -> None:
        """DeviceError where the size of the cache is not known or the buffer does not fit the free memory."""
        cache = last_level_cache_bytes(device)
        if cache is None:
            raise DeviceError(f"torch does not know how large the last-level cache of {device} is")
        self.nbytes, free = CACHES * cache, free_bytes(device)
        if free is not None and self.nbytes > free:
            raise DeviceError(f"a buffer of {format_bytes(self.nbytes)} does not fit the {format_bytes(free)} free")
        self._buffer = torch.ones(self.nbytes // 4, dtype=torch.int32, device=device)
        self.read()

    def read(self) -> None:
        """Read the buffer, twice; what was dirty in the cache is in memory after that."""
        for _ in range(2):
            self._buffer.max()
