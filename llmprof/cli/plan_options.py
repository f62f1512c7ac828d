"""The options of `plan`, as texts, and the question that they make up. Every error names its option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

import typer

from llmprof.cli import options, per_device
from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.planning.ask import Ask, Rank
    from llmprof.planning.demand import Demand, Scenario
    from llmprof.planning.memory import PlannedEngine
    from llmprof.planning.overheads import Overheads
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Dtypes

DEFAULT_OUTPUT = 256
"""Tokens of an answer where nobody says."""

DEFAULT_SCENARIO = "prompt+output"

FILL = "max"
"""`--concurrency max`: as many requests as have room."""

OVERHEADS = ("context", "modules", "workspace", "graphs", "communication", "kept-free")

MOST_GPUS = 1024
"""The most devices that a search goes through."""

DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="NAMES",
        help="Devices of the catalogue, as a comma list or repeated. Default: all whose figures suffice.",
    ),
]
PromptOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="N",
        help="Tokens of a prompt; those of the answer come on top. Default: 2048, or what the model's limit leaves.",
    ),
]
OutputTokensOption = Annotated[
    str | None, typer.Option("--output-tokens", metavar="N", help="Tokens of an answer. Default: 256.")
]
ConcurrencyOption = Annotated[
    str | None,
    typer.Option(
        "--concurrency",
        metavar="N",
        help="Requests at once, or max: as many as have room. Default: 1, with --request-rate max.",
    ),
]
ScenarioOption = Annotated[
    str,
    typer.Option(
        "--scenario", metavar="NAME", help="What is kept of each request: prompt, prompt+output or full-context."
    ),
]
ChunkOption = Annotated[
    str | None, typer.Option("--chunk-tokens", metavar="N", help="Tokens of one pass at most. Default: 8192.")
]
WeightDtypes = Annotated[
    str | None,
    typer.Option("--weight-dtype", metavar="LIST", help="Weights alone, each tried: also fp8, int8 or int4."),
]
MaxGpusOption = Annotated[
    str, typer.Option("--max-gpus", metavar="N", help="Devices of all replicas together, at most.")
]
NodeOption = Annotated[
    str, typer.Option("--node-size", metavar="N", help="Devices of one node: those that may share a tensor.")
]
PriceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        metavar="PRICES",
        help="What an hour of a device costs: one number, or h100-sxm=2.5,l40s=1.0 (also repeated), in any currency.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", metavar="NAME", help="Whose memory is meant: vllm, or architecture for what the model itself needs."
    ),
]
OverheadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--overhead",
        metavar="SIZES",
        help="What was measured of a device, such as graphs=0B,context=480MiB: also modules, workspace, communication "
        "and kept-free. Default: the assumptions of docs/planning.md.",
    ),
]
RankOption = Annotated[
    str | None,
    typer.Option(
        "--rank",
        metavar="BY",
        help="price, gpus, cost, decode, prefill or throughput. Default: price where one is given, else gpus.",
    ),
]
TopOption = Annotated[str, typer.Option("--top", metavar="N", help="Configurations to list, or all.")]


def parse_devices(given: Sequence[str] | None) -> list[Device] | None:
    """The devices that are named, each once; None where none is. InputError for a name that is not known."""
    if not given:
        return None
    named = (per_device.named(name, "--device") for text in given for name in text.split(","))
    return list({device.name: device for device in named}.values())


def default_concurrency(request_rate: str | None) -> str:
    """`--concurrency` where nobody says: requests that arrive as they like take all the room that there is."""
    return "1" if request_rate is None else FILL


def parse_ask(
    *,
    output_tokens: str | None,
    concurrency: str,
    scenario: str,
    chunk_tokens: str | None,
    dtypes: tuple[Dtypes, ...],
    max_gpus: str,
    node_size: str,
    price: Sequence[str] | None,
    rank: str | None,
    engine: str,
    overhead: Sequence[str] | None,
    devices: Sequence[Device],
) -> Ask:
    """What is asked, of prompts whose length is still to be said for each model."""
    from llmprof.planning.ask import RANKS, Ask
    from llmprof.planning.demand import SCENARIOS, Demand
    from llmprof.planning.overheads import Overheads

    fill = concurrency.strip() == FILL
    demand = Demand(
        prompt_tokens=1,
        output_tokens=DEFAULT_OUTPUT
        if output_tokens is None
        else options.length(output_tokens, option="--output-tokens", least=0),
        concurrency=1 if fill else _length_or(FILL, concurrency, option="--concurrency"),
    )
    if chunk_tokens is not None:
        demand = replace(demand, chunk_tokens=options.length(chunk_tokens, option="--chunk-tokens"))
    prices = parse_prices(",".join(price), devices) if price else {}
    if rank is None:
        rank = "price" if price else "gpus"
    options.choice(rank, RANKS, option="--rank")
    if rank in ("price", "cost") and not price:
        raise InputError(f"--rank {rank} needs to know what devices cost; add --price")
    return Ask(
        demand=demand,
        scenario=cast("Scenario", options.choice(scenario, SCENARIOS, option="--scenario")),
        dtypes=dtypes,
        fill=fill,
        max_gpus=_gpus(max_gpus, "--max-gpus"),
        node_gpus=_gpus(node_size, "--node-size"),
        prices=prices,
        rank=cast("Rank", rank),
        engine=cast("PlannedEngine", options.choice(engine, ("vllm", "architecture"), option="--engine")),
        overheads=parse_overheads(",".join(overhead)) if overhead else Overheads(),
    )


def parse_weights(text: str | None, dtype: str, kv_dtype: str | None, group_size: str | None) -> tuple[Dtypes, ...]:
    """One choice of dtypes for each dtype of weights that is asked for."""
    if text is None:
        return (options.parse_dtypes(dtype, None, kv_dtype, group_size),)
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if group_size is not None and "int4" not in names:
        options.parse_dtypes(dtype, names[0], kv_dtype, group_size)
    return tuple(options.parse_dtypes(dtype, name, kv_dtype, group_size if name == "int4" else None) for name in names)


def parse_prices(text: str, devices: Sequence[Device]) -> dict[str, float]:
    """What an hour of each device costs, by its name. InputError as `per_device.parse` has it."""
    return per_device.parse(
        text, devices, option="--price", what="price", meaning="what an hour of a device costs", example="2.5"
    )


def parse_overheads(text: str) -> Overheads:
    """Bytes of the terms that no model decides. InputError for a name that is none of them, one that has
    two sizes, or what is no size.
    """
    from llmprof.planning.overheads import Overheads

    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        key = options.choice(name.strip(), OVERHEADS, option="--overhead")
        term = f"{key.replace('-', '_').removesuffix('s')}_bytes"
        if term in found:
            raise InputError(f"--overhead: {key} has two sizes; leave one out")
        found[term] = options.size(size, option=f"--overhead {key}")
    return Overheads(**found)


def top(text: str) -> int | None:
    """How many are listed; None for all."""
    return None if text.strip() == "all" else _length_or("all", text, option="--top")


def of_model(ask: Ask, arch: ArchSpec, *, context: str | None, output_tokens: str | None, scenario: str) -> Ask:
    """The question with its lengths for one model.

    InputError where an answer, or a part of a request that is kept, is asked of an encoder, which has neither.
    """
    demand: Demand = ask.demand
    if arch.structure == "encoder":
        if output_tokens is not None:
            raise InputError(f"--output-tokens has no effect: {arch.label} is an encoder, which answers nothing")
        if ask.fill:
            raise InputError(
                f"--concurrency {FILL}: {arch.label} is an encoder, of which any number of requests has room"
            )
        if scenario != DEFAULT_SCENARIO:
            raise InputError(f"--scenario has no effect: {arch.label} is an encoder, which keeps nothing of a request")
        demand = replace(demand, output_tokens=0)
    return replace(ask, demand=replace(demand, prompt_tokens=_prompt(arch, context, demand.output_tokens)))


def _prompt(arch: ArchSpec, context: str | None, output_tokens: int) -> int:
    from llmprof.lengths import DEFAULT_CONTEXT, default_source

    if context is not None:
        return options.length(context, option="--context")
    if arch.structure == "encoder-decoder":
        return default_source(arch, min(DEFAULT_CONTEXT, arch.max_context or DEFAULT_CONTEXT))
    left = DEFAULT_CONTEXT if arch.max_context is None else arch.max_context - output_tokens
    return min(DEFAULT_CONTEXT, left) if left > 0 else 1


def _length_or(word: str, text: str, *, option: str) -> int:
    """A length where `word` would have done as well."""
    try:
        return options.length(text, option=option)
    except InputError as error:
        raise InputError(f"{error}, or {word}") from None


def _gpus(text: str, option: str) -> int:
    value = options.length(text, option=option)
    if value > MOST_GPUS:
        raise InputError(f"{option}: found {value:,}; expected at most {MOST_GPUS:,}")
    return value
