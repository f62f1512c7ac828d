"""Where nothing has room: what would, by one change. Each answer has been checked like the plan itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from llmprof.device import entries
from llmprof.errors import InputError
from llmprof.planning.configuration import longest
from llmprof.planning.memory import Deployment
from llmprof.planning.search import Search
from llmprof.predict.formats import cache_format, matrix_format
from llmprof.workload import Dtypes, StorageDtype

MOST_GPUS = 1024
"""Devices that are tried where the number that was allowed does not do."""

NARROWER: tuple[StorageDtype, ...] = ("fp8", "int8", "int4")
"""Formats that are tried for weights and caches, widest first; of equally wide ones the one without scales of rows."""

Change = Literal["device", "devices", "weight_dtype", "kv_dtype", "prompt_tokens", "concurrency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """A change of what was asked after which `deployment` has room; `value` is the new number or dtype."""

    change: Change
    value: int | str
    deployment: Deployment


def nearest(search: Search) -> tuple[Nearest, ...]:
    """What would have room by one change each: other or more devices, narrower formats, fewer or shorter requests."""
    questions: tuple[Callable[[Search], Nearest | None], ...] = (
        another_device,
        more_devices,
        narrower_weights,
        narrower_cache,
        fewer_requests,
        shorter_prompts,
    )
    return tuple(found for ask in questions if (found := ask(search)) is not None)


def another_device(search: Search) -> Nearest | None:
    """The fewest of a device of the catalogue that is none of those that were named."""
    named = {device.name for device in search.devices} | {device.name for device, _ in search.unplanned}
    others = Search(search.arch, [device for device in entries() if device.name not in named], search.ask)
    found = [each for dtypes in search.ask.dtypes if (each := others.fewest(dtypes, others.devices)) is not None]
    if not found:
        return None
    best = min(found, key=lambda each: each.sharding.ranks)
    return Nearest(change="device", value=best.device.name, deployment=best)


def more_devices(search: Search) -> Nearest | None:
    """The fewest devices that have room, beyond those that were allowed."""
    limit = search.ask.max_gpus
    while limit < MOST_GPUS:
        limit = min(2 * limit, MOST_GPUS)
        for dtypes in search.ask.dtypes:
            found = search.fewest(dtypes, search.devices, limit)
            if found is not None:
                return Nearest(change="devices", value=found.sharding.ranks, deployment=found)
    return None


def narrower_weights(search: Search) -> Nearest | None:
    """The widest format of weights that has room."""
    narrowest = min(search.ask.dtypes, key=lambda each: matrix_format(each).bits)
    for weights in NARROWER:
        made = replace(narrowest, weights=weights)
        if matrix_format(made).bits < matrix_format(narrowest).bits:
            found = _in(search, made)
            if found is not None:
                return Nearest(change="weight_dtype", value=weights, deployment=found)
    return None


def narrower_cache(search: Search) -> Nearest | None:
    """The widest format of the cache that has room."""
    for dtypes in search.ask.dtypes:
        for kept in NARROWER:
            if cache_format(kept).bits < cache_format(dtypes.kv_cache).bits:
                found = _in(search, replace(dtypes, kv_cache=kept))
                if found is not None:
                    return Nearest(change="kv_dtype", value=kept, deployment=found)
    return None


def fewer_requests(search: Search) -> Nearest | None:
    """The most requests at once for which there is room."""
    if search.ask.fill or search.arch.structure == "encoder":
        return None
    best: tuple[int, Deployment] | None = None
    for deployment in _all(search):
        held = search.room(deployment) * deployment.sharding.data_parallel
        if held and (best is None or held > best[0]):
            best = held, deployment
    if best is None:
        return None
    return Nearest(change="concurrency", value=best[0], deployment=best[1])


def shorter_prompts(search: Search) -> Nearest | None:
    """The longest prompts for which there is room with as many requests and answers as long."""
    ask = search.ask
    if ask.scenario == "full-context" or not search.arch.structure.endswith("-decoder") or search.source_tokens:
        return None
    behind = ask.demand.output_tokens if ask.scenario == "prompt+output" else 0
    best: tuple[int, Deployment] | None = None
    for deployment in _all(search):
        batch = 1 if ask.fill else search.batch_of(deployment.sharding)
        tokens = longest(
            search.arch,
            deployment,
            batch,
            chunk_tokens=ask.demand.chunk_tokens,
            source_tokens=search.source_tokens,
        )
        if tokens is None:
            continue
        prompt = min(tokens - behind, ask.demand.prompt_tokens - 1)
        if prompt > 0 and (best is None or prompt > best[0]):
            best = prompt, deployment
    if best is None:
        return None
    shorter = search.asking(replace(ask, demand=replace(ask.demand, prompt_tokens=best[0])))
    return Nearest(change="prompt_tokens", value=best[0], deployment=best[1]) if shorter.has_room(best[1]) else None


def _all(search: Search) -> Iterator[Deployment]:
    for dtypes in search.ask.dtypes:
        yield from search.deployments(search.ways(dtypes).shardings, dtypes)


def _in(search: Search, dtypes: Dtypes) -> Deployment | None:
    """The fewest devices that have room in other dtypes; None where none have, or the dtypes cannot be."""
    try:
        asking = search.asking(replace(search.ask, dtypes=(dtypes,)))
    except InputError:  # rows that the groups of a format do not divide
        return None
    # Where the engine that is planned keeps no such cache, that is a change of the engine as well.
    return asking.fewest(dtypes, search.devices) if asking.engine == search.engine else None
