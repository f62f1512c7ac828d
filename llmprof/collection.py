"""Python's search for unreachable cycles, which costs a quarter of the time of what makes many small objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Within the block nothing is looked for: for code that leaves hardly any cycles, whose objects go when unused.

    What was made in it is old behind it, so that it is not looked through at once.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.freeze()
            gc.enable()
            gc.unfreeze()
