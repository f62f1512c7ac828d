"""The memory of the fullest device of a deployment (docs/planning.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.device import Device
from llmprof.planning.overheads import Overheads
from llmprof.planning.terms import MemoryBar
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes

PlannedEngine = Literal["vllm", "architecture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """How a model is served. `memory_bytes` is what one device has, where its own figure is not meant."""

    device: Device
    sharding: Sharding = Sharding()
    dtypes: Dtypes = Dtypes()
    engine: PlannedEngine = "vllm"
    overheads: Overheads = Overheads()
    memory_bytes: int | None = None


def memory_bar(arch: ArchSpec, deployment: Deployment, *, sequences: int, tokens: int, chunk_tokens: int) -> MemoryBar:
    """The bar of the fullest device; `sequences` are those of one replica."""
    raise NotImplementedError
