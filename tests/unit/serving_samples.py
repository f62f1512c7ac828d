"""Passes and kernels of known times, for tests of what is composed of them."""

from __future__ import annotations

from collections import Counter

from llmprof import catalog
from llmprof.latency.compose import Chunk, Composer, Layout, Pass
from llmprof.latency.estimate import Basis, Estimate
from llmprof.latency.op import Launch, Op

STEP = Pass(decode_sequences=8, decode_context=1000)
PROMPT = Pass(chunks=(Chunk(tokens=512, prefix=256, sequences=2),))
BOTH = Pass(decode_sequences=8, decode_context=1000, chunks=(Chunk(tokens=512),))


class Fixed:
    """Every op takes as long as its kind says; bounds are not asked for."""

    def __init__(self, launch: float = 0.0, basis: Basis = "calibrated", **seconds: float) -> None:
        self.launch, self.basis, self.seconds = launch, basis, seconds

    def time(self, op: Op) -> Estimate:
        if isinstance(op, Launch):
            seconds = self.launch if op.graph else self.launch * op.kernels
            return Estimate(seconds=seconds, low=seconds, high=seconds, basis="datasheet")
        seconds = self.seconds.get(type(op).__name__, 0.0)
        return Estimate(seconds=seconds, low=seconds / 2, high=seconds * 3, basis=self.basis)

    def floors(self, op: Op) -> tuple[float, float]:
        return 0.0, self.seconds.get(type(op).__name__, 0.0) / 2


def composer(name: str, layout: Layout | None = None, **options: object) -> Composer:
    options = {"kernels": Fixed(), **options}
    return Composer(catalog.find(name).arch(), layout=layout or Layout(), **options)  # type: ignore[arg-type]


def ops(name: str, asked: Pass, layout: Layout | None = None, **options: object) -> Counter[Op]:
    found: Counter[Op] = Counter()
    for each in composer(name, layout, **options).ops(asked):
        found[each.op] += each.times
    return found
