"""The machine contract of `plan --format json` (docs/machine-contract.md): what was asked, found and not found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from llmprof.planning.configuration import Configuration
from llmprof.planning.constraint import binding, of_batch
from llmprof.planning.demand import SCENARIOS, Scenario
from llmprof.planning.deploy.line import CommandLine
from llmprof.planning.fewest import Fewest
from llmprof.planning.memory import Deployment
from llmprof.planning.nearest import Nearest
from llmprof.planning.rejections import rejections
from llmprof.planning.scenarios import Held
from llmprof.planning.search import Plan
from llmprof.planning.times import Bound
from llmprof.sharding_stages import text_of
from llmprof.spec.arch import ArchSpec

Record = dict[str, Any]

NANOSECONDS = 1e9
DATASHEET = (
    "a bound: it rests on the peaks and bandwidths of the catalogue, and nothing has been run; no engine is as quick"
)
BOUNDS = (
    *(
        f"{phase}_{key}"
        for phase in ("prefill", "decode")
        for key in ("ns_lower_bound", "ns_op_level", "weights_share", "compute_share", "memory_share", "link_share")
    ),
    "tokens_per_s_upper_bound",
    "requests_per_s_upper_bound",
    "cost_per_million_tokens_lower_bound",
)
"""Keys of a configuration that no measurement confirms."""

ROOM = ("with_room", "scenarios", "fewest", "nearest", "rejections")
"""Keys of a plan that say what has room."""
COUNTED = "it rests on memory with terms that nothing confirms (`memory` of each configuration)"
NOTHING: Mapping[str, str] = {}


def plan_record(
    plan: Plan, shown: Sequence[Record], *, unconfirmed: Mapping[str, str] = NOTHING, **found: object
) -> Record:
    """What was asked and what came of it; `shown` are the records of the configurations that are listed.

    `unconfirmed` says of which keys of `found` nothing confirms the figures, and why.
    """
    ask, demand, arch = plan.ask, plan.ask.demand, plan.arch
    encoder = arch.structure == "encoder"
    return {
        "name": arch.name,
        "variant": arch.variant,
        "prompt_tokens": demand.prompt_tokens,
        "output_tokens": 0 if encoder else demand.output_tokens,
        "concurrency": None if ask.fill else demand.concurrency,
        "scenario": ask.scenario,
        "tokens_kept": plan.tokens,
        "chunk_tokens": demand.chunk_tokens,
        "max_gpus": ask.max_gpus,
        "node_gpus": ask.node_gpus,
        "engine": plan.engine,
        "without_engine": plan.without_engine,
        "rank": ask.rank,
        "routing": str(ask.routing),
        "fits": bool(plan.configurations),
        "considered": plan.considered,
        "with_room": len(plan.configurations),
        "configurations": list(shown),
        **found,
        "rejections": [
            {"reason": each.reason, "count": each.count, "nearest": each.nearest} for each in rejections(plan)
        ],
        "refused_degrees": [{"degrees": each.what, "reason": each.why} for each in plan.refused],
        "unplanned_devices": [{"device": device.name, "reason": why} for device, why in plan.unplanned],
        "unconfirmed": {**dict.fromkeys(ROOM if _doubtful(plan) else (), COUNTED), **unconfirmed},
    }


def _doubtful(plan: Plan) -> bool:
    """Whether what has room rests on terms of memory that nothing confirms; taken so where nothing has room."""
    terms = [term for c in plan.configurations for term in c.bar.terms if term.bytes]
    return not terms or any(term.basis == "unconfirmed" for term in terms)


def configuration_record(c: Configuration, number: int) -> Record:
    """One configuration, flat but for its memory; times in nanoseconds, rounded to the safe side of their bound."""
    sharding, dtypes = c.deployment.sharding, c.deployment.dtypes
    return {
        "rank": number,
        **deployment_record(c.deployment),
        "pipeline_layers": text_of(sharding.stage_depths(c.arch.n_layers)),
        "weight_dtype": dtypes.weights,
        "activation_dtype": dtypes.activations,
        "kv_dtype": dtypes.kv_cache,
        "concurrency": c.concurrency,
        "batch_per_replica": c.batch,
        "replicas": sharding.data_parallel,
        "tokens_kept": c.tokens,
        "capacity_bytes": c.bar.capacity_bytes,
        "used_bytes": c.bar.used_bytes,
        "free_bytes": c.bar.free_bytes,
        "memory": [
            {"name": term.name, "bytes": term.bytes, "basis": term.basis, "note": term.note} for term in c.bar.terms
        ],
        "largest_concurrency": c.largest_batch,
        "largest_context": c.largest_context,
        "batch_bound_by": of_batch(c),
        **_bound("prefill", c.prefill),
        **_bound("decode", c.decode),
        "decode_context_first": None if c.decode_contexts is None else c.decode_contexts[0],
        "decode_context_last": None if c.decode_contexts is None else c.decode_contexts[1],
        "tokens_per_s_upper_bound": c.tokens_per_s,
        "requests_per_s_upper_bound": c.requests_per_s,
        "price_per_hour": c.price_per_hour,
        "cost_per_million_tokens_lower_bound": c.cost_per_million,
        "collectives_left_out": c.unlinked,
        "weights_fit_last_level_cache": c.in_cache,
        "unconfirmed": {**dict.fromkeys(BOUNDS, DATASHEET), **_unconfirmed_memory(c)},
    }


def deployment_record(deployment: Deployment) -> Record:
    """The devices and how a model is spread over them."""
    sharding = deployment.sharding
    return {
        "device": deployment.device.name,
        "gpus": sharding.ranks,
        "tensor_parallel": sharding.tensor_parallel,
        "pipeline_parallel": sharding.pipeline_parallel,
        "expert_parallel": sharding.expert_parallel,
        "data_parallel": sharding.data_parallel,
    }


def scenario_records(held: dict[Scenario, Held]) -> list[Record]:
    """What the best configuration has room for in each scenario; null where the model states no context."""
    return [
        {
            "scenario": name,
            "tokens_kept": each.tokens if each else None,
            "largest_concurrency": each.largest_batch if each else None,
            "maximum_concurrency": each.maximum_concurrency if each else None,
        }
        for name in SCENARIOS
        for each in (held.get(name),)
    ]


def fewest_records(found: Sequence[Fewest]) -> list[Record]:
    """The fewest of each device in each dtype of weights; null where not even the most that are allowed do."""
    return [
        {
            "device": each.device.name,
            "weight_dtype": each.dtypes.weights,
            "gpus": None if each.deployment is None else each.deployment.sharding.ranks,
        }
        for each in found
    ]


def nearest_records(found: Sequence[Nearest]) -> list[Record]:
    """What would have room, by one change each."""
    return [{"change": each.change, "value": each.value, **deployment_record(each.deployment)} for each in found]


def command_records(lines: Sequence[CommandLine]) -> list[Record]:
    """The command lines of engines."""
    return [
        {
            "engine": line.engine,
            "version": line.version,
            "command": line.text or None,
            "notes": list(line.notes),
            "refused": line.refused,
        }
        for line in lines
    ]


def flat(arch: ArchSpec, record: Record) -> Record:
    """A configuration as one line of CSV: terms of memory are columns."""
    terms = {f"{term['name'].replace(' ', '_')}_bytes": term["bytes"] for term in record["memory"]}
    head = {"name": arch.name, "variant": arch.variant}
    return {**head, **{key: value for key, value in record.items() if key not in ("memory", "commands")}, **terms}


def _bound(phase: str, bound: Bound | None) -> Record:
    if bound is None:
        parts = ("ns_lower_bound", "ns_op_level", "bound_by", "weights_share", "compute_share", "memory_share")
        return {f"{phase}_{key}": None for key in (*parts, "link_share")}
    decides = binding(bound)
    return {
        f"{phase}_ns_lower_bound": floor(bound.seconds * NANOSECONDS),
        f"{phase}_ns_op_level": floor(bound.op_level_seconds * NANOSECONDS),
        f"{phase}_bound_by": decides.resource,
        f"{phase}_weights_share": decides.weights_share,
        f"{phase}_compute_share": bound.share("compute"),
        f"{phase}_memory_share": bound.share("memory bandwidth"),
        f"{phase}_link_share": bound.share("interconnect"),
    }


def _unconfirmed_memory(c: Configuration) -> dict[str, str]:
    """Why what is used, and what is left of it, is not confirmed: one of its terms is not."""
    doubtful = [term.name for term in c.bar.terms if term.basis == "unconfirmed" and term.bytes]
    if not doubtful:
        return {}
    why = f"it has terms that nothing confirms: {', '.join(doubtful)}"
    return dict.fromkeys(("used_bytes", "free_bytes", "largest_concurrency", "largest_context"), why)
