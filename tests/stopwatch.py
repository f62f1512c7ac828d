"""How long a call takes, as a bound that does not fail for what else the process or the machine does."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def cpu_seconds(call: Callable[[], object], *, tries: int = 3) -> float:
    """The CPU seconds of the quickest of `tries` calls.

    The collector rests meanwhile: where thousands of tests have left their objects, one collection takes longer than
    what is timed. The quickest counts, because everything else on the machine only ever makes a call slower.
    """
    return min(_once(call) for _ in range(tries))


def _once(call: Callable[[], object]) -> float:
    collects = gc.isenabled()
    gc.disable()
    try:
        began = time.process_time()
        call()
        return time.process_time() - began
    finally:
        if collects:
            gc.enable()
