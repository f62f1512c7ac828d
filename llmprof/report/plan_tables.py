"""A plan as tables for people: the ranking, the best configuration in detail, what fits how often, what was rejected.

Times are lower bounds and rates upper bounds wherever they stand, and headings say so.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmprof.planning.ask import Ask
from llmprof.planning.configuration import Configuration
from llmprof.planning.constraint import of_batch, of_time
from llmprof.planning.degrees import words
from llmprof.planning.deploy.line import CommandLine
from llmprof.planning.fewest import Fewest
from llmprof.planning.rank import IN_WORDS
from llmprof.planning.search import Plan
from llmprof.planning.times import Bound
from llmprof.report.plan_memory import memory_table, requests, scenario_table
from llmprof.report.tables import Table
from llmprof.spec.arch import Moe
from llmprof.units import format_count, number_of
from llmprof.workload import Dtypes

BOUNDS_NOTE = (
    "{times}; tokens/s <=: an upper bound with all requests in flight{money}. They rest on the dense peaks and "
    "bandwidths of the catalogue alone: no engine is as quick, and nothing measured confirms them (docs/planning.md). "
    "bound by: reading weights or caches, with their part of what is read, compute, or links."
)
PROMPTS = "first >=: a lower bound of the time that a prompt takes that is alone"
STEPS = (
    "first >=, step >=: lower bounds of the time to the first token of a prompt that is alone, and of a mean step "
    "of decoding"
)
LINKS_NOTE = (
    "+ nothing is known of the links between these devices, or of those between nodes: collectives are left out."
)
_PLUS = "+"


def duration(seconds: float) -> str:
    """A time to three digits or more: ``84.2 ms``."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            value = seconds / scale
            return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.{2 if value < 100 else 1}f} {unit}"
    return f"{seconds / 1e-9:.2f} ns"


def ranking_table(plan: Plan, shown: Sequence[Configuration], behind: int) -> Table:
    """The configurations that are shown, best first; of as good ones of other numbers, `behind` are not."""
    ask = plan.ask
    others = len(plan.configurations) - len(shown) - behind
    priced = any(c.price is not None for c in shown)
    several = len({c.deployment.dtypes for c in shown}) > 1
    decodes = any(c.decode is not None for c in shown)
    marks = any(c.unlinked for c in shown)
    columns = (
        "",
        "devices",
        "spread",
        *(("weights",) if several else ()),
        "free",
        "room",
        "first >=",
        *(("step >=",) if decodes else ()),
        "tokens/s <=",
        *(("per hour", "per M >=") if priced else ()),
        "bound by",
    )
    rows = [
        (
            f"{number}",
            f"{c.gpus} x {c.deployment.device.name}",
            words(c.deployment.sharding),
            *((c.deployment.dtypes.weights,) if several else ()),
            gib(c.bar.free_bytes),
            count(c.largest_batch),
            _marked(c.prefill, c, marks),
            *((_marked(c.decode, c, marks),) if decodes else ()),
            rate(c.tokens_per_s),
            *((money(c.price_per_hour), money(c.cost_per_million)) if priced else ()),
            _limit(c),
        )
        for number, c in enumerate(shown, 1)
    ]
    notes = [
        *settings(plan),
        f"Ranked by {IN_WORDS[ask.rank]} (--rank). Each number of a device stands once, spread as ranks best"
        f"{f'; {others:,} other ways to spread them have room' if others else ''}"
        f"{f'; {behind:,} more numbers with --top all' if behind else ''}. free: of the fullest device; room: for so "
        "many requests at once.",
        BOUNDS_NOTE.format(
            times=STEPS if decodes else PROMPTS,
            money="; per M >=: what a million of them costs at least" if priced else "",
        ),
    ]
    if marks:
        notes.append(LINKS_NOTE)
    cached = dict.fromkeys(c.deployment.device.name for c in shown if c.in_cache)
    if cached:
        notes.append(
            f"Weights fit into the last-level cache of {', '.join(cached)}: where they stay there, steps may be "
            "quicker than these bounds, which read them from memory."
        )
    return Table(title=heading(plan), columns=columns, rows=tuple(rows), left=3 + several, notes=tuple(notes))


def heading(plan: Plan) -> str:
    """What is asked of the model."""
    ask, demand = plan.ask, plan.ask.demand
    answer = "" if plan.arch.structure == "encoder" else f", answers of {demand.output_tokens:,}"
    often = "as many at once as have room" if ask.fill else f"{demand.concurrency:,} at once"
    return f"{plan.arch.label}: prompts of {demand.prompt_tokens:,} tokens{answer}, {often}; {_formats(ask.dtypes)}"


def settings(plan: Plan) -> list[str]:
    """What decides the figures beside that, defaults included."""
    ask = plan.ask
    kept = f"kept of a request: {ask.scenario}, {plan.tokens:,} tokens (--scenario); "
    if plan.arch.structure == "encoder":
        kept = "nothing is kept of a request; "
    elif plan.arch.structure == "encoder-decoder":
        kept = f"kept of a request: {ask.scenario}, {plan.tokens:,} tokens beside those of its source (--scenario); "
    most = number_of(ask.max_gpus, "device")
    chunk = number_of(ask.demand.chunk_tokens, "token")
    made = [
        f"{kept[0].upper()}{kept[1:]}passes of {chunk} at most (--chunk-tokens); at most {most} (--max-gpus), "
        f"{ask.node_gpus:,} to a node (--node-size)."
    ]
    if plan.without_engine is not None:
        made.append(f"Memory is what the architecture needs, not what an engine takes: {plan.without_engine}.")
    if any(isinstance(layer.ffn, Moe) for stack in plan.arch.stacks for layer in stack.layers):
        made.append(
            f"Experts: tokens go to them by the rule {ask.routing} (--routing); where a router prefers some, fewer are "
            "read, and a step may be quicker than its bound."
        )
    return made


def best_tables(c: Configuration, ask: Ask) -> list[Table]:
    """The memory of the best configuration, what it has room for, and what bounds its times."""
    return [memory_table(c), *((scenario_table(c, ask),) if c.keeps else ()), bounds_table(c)]


def bounds_table(c: Configuration) -> Table:
    """What a device spends at least on arithmetic, memory and links, in each phase."""
    named = [("first token", c.prefill), ("decode step", c.decode), ("one request", c.request)]
    rows = tuple(
        (
            name,
            duration(bound.seconds),
            duration(bound.compute_seconds),
            duration(bound.memory_seconds),
            duration(bound.weight_seconds),
            duration(bound.link_seconds) if bound.link_seconds else "-",
            duration(bound.op_level_seconds),
            bound.resource,
        )
        for name, bound in named
        if bound is not None
    )
    contexts = c.decode_contexts
    notes = ["The slowest of the three resources decides, as all may work at once: lower bounds, all of them."]
    if contexts is not None:
        span = f"{contexts[0]:,}" if contexts[0] == contexts[1] else f"{contexts[0]:,} to {contexts[1]:,}"
        notes.append(
            f"decode step: the mean over contexts of {span} tokens, of {requests(c.batch)} to a replica; one request: "
            f"what a replica spends on each, with {c.batch:,} in flight."
        )
    notes.append(
        "op-level: if every tensor between kernels went through memory as well, which fusion and caches avoid. More "
        f"requests at once are limited by {of_batch(c)}."
    )
    return Table(
        title=f"What bounds {place(c)}",
        columns=("", "at least", "arithmetic", "memory", "of it weights", "links", "op-level", "bound by"),
        rows=rows,
        notes=tuple(notes),
    )


def fewest_table(found: Sequence[Fewest], max_gpus: int) -> Table:
    """The fewest of each device, a column for each format of weights."""
    formats = list(dict.fromkeys(each.dtypes for each in found))
    by_device: dict[str, dict[Dtypes, str]] = {}
    for each in found:
        text = "-" if each.gpus is None else f"{each.gpus}"
        by_device.setdefault(each.device.name, {})[each.dtypes] = text
    rows = tuple((name, *(row.get(dtypes, "") for dtypes in formats)) for name, row in by_device.items())
    return Table(
        title="Fewest devices that have room, by the format of weights",
        columns=("device", *(dtypes.weights for dtypes in formats)),
        rows=rows,
        notes=(f"- more than {max_gpus:,}, or no way to spread the model over so many.",),
    )


def command_table(c: Configuration, lines: Sequence[CommandLine]) -> Table:
    """How each engine would be started, a line to be copied under each name."""
    notes = []
    for line in lines:
        notes.append(f"{line.engine} {line.version}:" if line.refused is None else f"{line.refused}.")
        if line.text:
            notes.append(f"  {line.text}")
        notes += list(line.notes)
    return Table(title=f"To serve it so on {place(c)}", columns=(), rows=(), notes=tuple(notes))


def gib(nbytes: int) -> str:
    """In GiB, whatever the size: a column of them is comparable."""
    return f"{nbytes / 2**30:,.1f} GiB"


def count(value: int | None) -> str:
    """Requests; any number of those that keep nothing."""
    return "any" if value is None else f"{value:,}"


def rate(value: float) -> str:
    """Tokens in a second."""
    if value < 100:
        return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
    return f"{value:,.0f}" if value < 1e6 else format_count(value)


def place(c: Configuration) -> str:
    """``4 x h200 (TP4)``."""
    spread = words(c.deployment.sharding)
    return f"{c.gpus} x {c.deployment.device.name}" + ("" if spread == "-" else f" ({spread})")


def _marked(bound: Bound | None, c: Configuration, marks: bool) -> str:
    """The least time; with a mark where something is left out of it, and as much room where others have one."""
    text = "-" if bound is None else duration(bound.seconds)
    return text + (_PLUS if c.unlinked else " ") if marks else text


def _limit(c: Configuration) -> str:
    """``weights 76%``, ``compute``: what decides the time of a step, or of a prompt where nothing is decoded."""
    found = of_time(c)
    if found.weights_share is None:
        return "links" if found.resource == "interconnect" else found.resource
    weights = round(100 * found.weights_share)
    return f"weights {weights}%" if weights >= 50 else f"cache {100 - weights}%"


def money(value: float | None) -> str:
    """An amount of whatever currency, with two digits or more."""
    if value is None:
        return "-"
    if value >= 0.1:
        return f"{value:,.2f}"
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"


def _formats(dtypes: Sequence[Dtypes]) -> str:
    first = dtypes[0]
    weights = " or ".join(each.weights for each in dtypes)
    if weights == first.activations == first.kv_cache:
        return f"all in {weights}"
    return f"weights {weights}, activations {first.activations}, KV cache {first.kv_cache}"
