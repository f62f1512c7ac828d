"""Collectives within a node: the faster of a kernel for few bytes and one for many, each a start and a rate.

docs/latency.md, "Collectives". Rates are bytes of the tensor per second, not bytes on the wire.
"""

from __future__ import annotations

from math import log2

from llmprof.latency.common import US, Constants
from llmprof.latency.figures import Figures
from llmprof.latency.op import Collective, CollectiveKind

TRAFFIC: dict[CollectiveKind, float] = {
    "allreduce": 1.0,
    "allgather": 0.5,
    "reducescatter": 0.5,
    "alltoall": 0.5,
    "p2p": 0.5,
}
"""What crosses a link, by what an all-reduce of the same tensor sends over it: a ring reduces and gathers, which are
(n-1)/n of the tensor each; a send of the tensor to one neighbour is taken for as much as one of the two."""

FITTED = (2, 4, 8)

START, EFFICIENCY = 10.0, 0.8
"""Of a collective that was not fitted: microseconds to start, and the part of a link's bandwidth that it reaches."""


GIGA = 1e9


def seconds(op: Collective, figures: Figures, c: Constants) -> float:
    """The time with constants a1_n, c1_n, a2_n, c2_n for n of 2, 4, 8; between them by log2 n, above them as for 8.

    On a device whose links are faster or slower than the `link` of the constants (GB/s), rates are so too.
    """
    if op.devices < 2:
        return 0.0
    fitted = [n for n in FITTED if f"a1_{n}" in c]
    below = max((n for n in fitted if n <= op.devices), default=fitted[0])
    above = min((n for n in fitted if n >= op.devices), default=fitted[-1])
    faster = figures.link / (c["link"] * GIGA) if figures.link is not None else 1.0
    one, other = (_among(n, op.bytes * TRAFFIC[op.kind], c, faster) for n in (below, above))
    part = log2(op.devices / below) / log2(above / below) if above > below else 0.0
    return float(one ** (1 - part) * other**part) * US


def _among(n: int, moved: float, c: Constants, faster: float) -> float:
    few = c[f"a1_{n}"] + moved / (c[f"c1_{n}"] * faster)
    many = c[f"a2_{n}"] + moved / (c[f"c2_{n}"] * faster)
    return min(few, many)


def linked(op: Collective, figures: Figures) -> float | None:
    """Of a ring over the links alone, with their stated bandwidth; None where nobody stated it."""
    if op.devices < 2:
        return 0.0
    if figures.link is None:
        return None
    sent = 2 * op.bytes * TRAFFIC[op.kind] * (op.devices - 1) / op.devices
    return START * US + sent / (EFFICIENCY * figures.link)
