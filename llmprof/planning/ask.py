"""What a plan is asked for, beside the architecture and the devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmprof.planning.demand import Demand, Scenario
from llmprof.planning.memory import PlannedEngine
from llmprof.planning.overheads import Overheads
from llmprof.routing import BALANCED, Routing
from llmprof.workload import Dtypes, LatentForm

Rank = Literal["price", "gpus", "cost", "decode", "prefill", "throughput"]

RANKS: tuple[Rank, ...] = ("price", "gpus", "cost", "decode", "prefill", "throughput")

NODE_GPUS = 8
"""Devices of one node where nobody says otherwise: an assumption that is printed, no figure of a device."""

MAX_GPUS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A demand and how it may be met.

    `fill`: as many requests run as have room, and the demand's concurrency means nothing. `max_gpus` are the devices
    of all replicas together, `node_gpus` those that may share a tensor. `prices` are those of an hour of a device by
    its name. `rank` is by what configurations are ordered.
    """

    demand: Demand
    scenario: Scenario = "prompt+output"
    dtypes: tuple[Dtypes, ...] = (Dtypes(),)
    fill: bool = False
    max_gpus: int = MAX_GPUS
    node_gpus: int = NODE_GPUS
    prices: Mapping[str, float] = field(default_factory=dict)
    rank: Rank = "gpus"
    engine: PlannedEngine = "vllm"
    overheads: Overheads = field(default_factory=Overheads)
    routing: Routing = BALANCED
    latent: LatentForm = "absorbed"
