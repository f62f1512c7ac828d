"""What a plan is asked for, beside the architecture and the devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmprof.planning.demand import Demand, Scenario
from llmprof.planning.memory import PlannedEngine
from llmprof.planning.overheads import Overheads
from llmprof.routing import BALANCED, Routing
from llmprof.spec.arch import ArchSpec
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
    its name, `watts` what somebody states that it draws. `rank` is by what configurations are ordered.
    """

    demand: Demand
    scenario: Scenario = "prompt+output"
    dtypes: tuple[Dtypes, ...] = (Dtypes(),)
    fill: bool = False
    max_gpus: int = MAX_GPUS
    node_gpus: int = NODE_GPUS
    prices: Mapping[str, float] = field(default_factory=dict)
    watts: Mapping[str, float] = field(default_factory=dict)
    rank: Rank = "gpus"
    engine: PlannedEngine = "vllm"
    overheads: Overheads = field(default_factory=Overheads)
    routing: Routing = BALANCED
    latent: LatentForm = "absorbed"

    def tokens(self, arch: ArchSpec, scenario: Scenario | None = None) -> int:
        """Tokens that the decoder keeps of one request, in `scenario` or the one that is asked for.

        The prompt of an encoder-decoder is its source, which it keeps apart; its answer begins at one token. An encoder
        keeps nothing: what counts is how long its prompt is. InputError as `tokens_kept` has it.
        """
        kept = scenario or self.scenario
        if arch.structure == "encoder-decoder" and kept != "full-context":
            return 1 if kept == "prompt" else max(1, self.demand.output_tokens)
        return self.demand.tokens_kept(arch, kept)

    def source_tokens(self, arch: ArchSpec) -> int | None:
        """Tokens of the source of an encoder-decoder; None where there is none."""
        return self.demand.prompt_tokens if arch.structure == "encoder-decoder" else None
