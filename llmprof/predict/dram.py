"""Which bytes of a pass reach memory, below a last-level cache (docs/reference-dram.md).

    reused = memory(program)
    reused.moved(capacity)      bytes by leaf path below a cache of so many bytes
    reused.moved(None)          the compulsory ones: a boundless cache

What a fused kernel reads again within itself comes on top: `device_core.py`.
"""

from __future__ import annotations

from llmprof.predict.model import Program
from llmprof.predict.reuse import Reuse, reuse
from llmprof.predict.touches import laid_out


def memory(program: Program) -> Reuse:
    """Every access of a pass of inference, by how much a cache must hold to save it. AssertionError for training."""
    assert program.setting.workload.phase != "train", "a training pass has a backward, which is not in the program"
    return reuse(laid_out(program))
