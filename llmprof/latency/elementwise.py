"""Kernels that only move memory, and what starting kernels costs the host: by constants that were measured here.

No device of the catalogue has any (`estimate` says what stands in for them); `llmprof calibrate` fits them on a GPU.
Times in seconds; docs/latency.md, "Calibrating a GPU".
"""

from __future__ import annotations

from llmprof.latency.common import US, Constants, kept
from llmprof.latency.figures import Figures
from llmprof.latency.op import Elementwise, Launch


def seconds(op: Elementwise, figures: Figures, c: Constants) -> float:
    """A start for each kernel, and the bytes at the rate of the memory or of the cache that still holds them."""
    h = kept(op.bytes / (c["hot"] * figures.cache))
    slow, fast = c["e_b"] * figures.bandwidth, c["r_l2"] * figures.bandwidth
    return op.kernels * c["t0"] * US + op.bytes * ((1 - h) / slow + h / fast)


def launch_seconds(op: Launch, c: Constants) -> float:
    """`t_launch` for each kernel by itself; `t_replay` for a graph, however many are in it."""
    return (c["t_replay"] if op.graph else op.kernels * c["t_launch"]) * US
