"""The options that every command shares, and how they become workloads.

Lengths are integers or ``4Ki``; comma lists give one row each. All options are texts, parsed here, so that every error
names its option, what was found and what was expected. What would be ignored is an error: no option goes silently
without effect.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, cast, get_args

import typer

from llmprof.cli.messages import say
from llmprof.errors import InputError
from llmprof.lengths import LARGEST, Lengths
from llmprof.routing import BALANCED, Routing
from llmprof.spec.arch import ArchSpec
from llmprof.units import parse_bytes, parse_count
from llmprof.workload import (
    COMPUTE_DTYPES,
    PHASES,
    QUANTISED,
    ComputeDtype,
    Dtypes,
    LatentForm,
    Logits,
    Phase,
    StorageDtype,
    Workload,
)

DEFAULT_GROUP_SIZE = 128

Specs = Annotated[
    list[str],
    typer.Argument(
        metavar="SPEC",
        help="Names or aliases of the catalogue, paths of YAML files or of what `llmprof import` reads, or - for "
        "stdin; NAME:VARIANT picks a variant.",
    ),
]
Variant = Annotated[
    str | None,
    typer.Option("--variant", metavar="NAMES", help="Variants of each spec, as a comma list; base is the base."),
]
AllVariants = Annotated[bool, typer.Option("--all-variants", help="The base and all variants of each spec.")]
PhaseOption = Annotated[str, typer.Option("--phase", metavar="LIST", help="prefill, decode, or both.")]
Batch = Annotated[str, typer.Option("--batch", metavar="LIST", help="Sequences at once.")]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="LIST",
        help="Positions attended to, new tokens included. Default: 2048, or the model's own limit if that is less.",
    ),
]
NewTokens = Annotated[
    str | None,
    typer.Option(
        "--new-tokens", metavar="LIST", help="Tokens that go through the model in prefill. Default: the context."
    ),
]
SourceTokens = Annotated[
    str | None,
    typer.Option("--source-tokens", metavar="LIST", help="Encoder length of an encoder-decoder. Default: the context."),
]
PrefixTokens = Annotated[
    str | None,
    typer.Option(
        "--prefix-tokens",
        metavar="N",
        help="Leading positions that a prefix decoder sees from everywhere. Default: the whole prompt.",
    ),
]
TrainedPrefixTokens = Annotated[
    str | None,
    typer.Option(
        "--prefix-tokens",
        metavar="N",
        help="Leading positions that a prefix decoder sees from everywhere. Default: the whole prompt, or half of the "
        "text of prefix-lm.",
    ),
]
"""The same of a command that has --objective."""
LogitsOption = Annotated[
    str | None,
    typer.Option(
        "--logits",
        metavar="WHICH",
        help="Positions that get logits: all, last or none. Default: all, or none without an output head.",
    ),
]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="TYPE", help="Weights, activations and KV cache: fp32, tf32, bf16 or fp16.")
]
WeightDtype = Annotated[
    str | None, typer.Option("--weight-dtype", metavar="TYPE", help="Weights alone: also fp8, int8 or int4.")
]
KvDtype = Annotated[
    str | None, typer.Option("--kv-dtype", metavar="TYPE", help="KV cache alone: also fp8, int8 or int4.")
]
GroupSize = Annotated[
    str | None,
    typer.Option("--group-size", metavar="N", help="Weights of a row that share a scale in int4. Default: 128."),
]
MtpOption = Annotated[
    bool, typer.Option("--mtp", help="Also the layers that predict further tokens, in a model that has some.")
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="A training pass instead, over a text of --context tokens: causal-lm, prefix-lm, span-corruption, "
        "blank-infilling, masked-lm, or auto for the structure's own.",
    ),
]
FormatOption = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, json, csv or markdown.")]
OutputOption = Annotated[
    str | None, typer.Option("--output", metavar="FILE", help="Write there, atomically, instead of to stdout.")
]


def choice(value: str, allowed: Iterable[str], *, option: str) -> str:
    """`value` if it is one of `allowed`; InputError naming the option and its choices otherwise."""
    names = list(allowed)
    if value not in names:
        raise InputError(f"{option}: found {value!r}; expected {', '.join(names[:-1])} or {names[-1]}")
    return value


def choices(text: str, allowed: Iterable[str], *, option: str) -> list[str]:
    """The parts of a comma list, each one of `allowed`, without repeats."""
    names = list(allowed)
    return list(dict.fromkeys(choice(part.strip(), names, option=option) for part in text.split(",")))


def length(text: str, *, option: str, least: int = 1) -> int:
    """One length; InputError where it is not a whole number from `least` to `LARGEST`."""
    value = parse_count(_bounded(text, option), what=option)
    if not least <= value <= LARGEST:
        bound = f"at least {least}" if value < least else f"at most {LARGEST:,}"
        raise InputError(f"{option}: found {text.strip()}; expected {bound}")
    return value


def lengths(text: str, *, option: str) -> list[int]:
    """The lengths of a comma list, without repeats; InputError where one is wrong."""
    return list(dict.fromkeys(length(part, option=option) for part in text.split(",")))


def size(text: str, *, option: str) -> int:
    """A size in bytes such as ``80GiB``; InputError where it is none."""
    return parse_bytes(_bounded(text, option), what=option)


def seed(text: str) -> int:
    """A seed of a random generator; InputError where torch would not take it."""
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or int(text) >= 2**63:
        raise InputError(f"--seed: found {_bounded(text, '--seed')!r}; expected a whole number from 0 to 2**63 - 1")
    return int(text)


def seconds(text: str, *, option: str = "--seconds") -> float:
    """A time budget in seconds; InputError where it is no time."""
    try:
        value = float(text) if re.fullmatch(r"[0-9.]{1,12}", text, re.ASCII) else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise InputError(f"{option}: found {_bounded(text, option)!r}; expected seconds such as 10 or 0.5")
    return value


def _bounded(text: str, option: str) -> str:
    """`text`, if it is short enough to be a number of anything and to be repeated in a message."""
    if len(text) > 64:
        raise InputError(f"{option}: found a text of {len(text):,} characters; expected a number such as 4096")
    return text


def architectures(refs: list[str], variant: str | None, all_variants: bool) -> list[ArchSpec]:
    """The architectures that SPEC, --variant and --all-variants name together, each once.

    Raises InputError for unknown names or where both options are given, SpecError for a file that is wrong.
    """
    from llmprof import catalog
    from llmprof.cli.messages import say

    if variant is not None and all_variants:
        raise InputError("--variant and --all-variants exclude each other")
    names = None if variant is None else [name.strip() for name in variant.split(",")]
    return list(dict.fromkeys(catalog.resolve(refs, variant=names, all_variants=all_variants, tell=say)))


def parse_dtypes(dtype: str, weight_dtype: str | None, kv_dtype: str | None, group_size: str | None) -> Dtypes:
    """The dtypes of a run; InputError where one is unknown, or a group size has nothing to group."""
    activations = cast(ComputeDtype, choice(dtype, COMPUTE_DTYPES, option="--dtype"))
    storage = (*COMPUTE_DTYPES, *QUANTISED)
    weights = cast(
        StorageDtype, dtype if weight_dtype is None else choice(weight_dtype, storage, option="--weight-dtype")
    )
    kv_cache = cast(StorageDtype, dtype if kv_dtype is None else choice(kv_dtype, storage, option="--kv-dtype"))
    grouped = DEFAULT_GROUP_SIZE if group_size is None else length(group_size, option="--group-size")
    if group_size is not None and weights != "int4":
        raise InputError(f"--group-size is of int4 weights, but the weights are {weights}; add --weight-dtype int4")
    return Dtypes(weights=weights, activations=activations, kv_cache=kv_cache, group_size=grouped)


def parse_lengths(
    *,
    phase: str,
    batch: str,
    context: str | None,
    new_tokens: str | None,
    source_tokens: str | None,
    prefix_tokens: str | None,
    logits: str | None,
    dtypes: Dtypes,
    routing: Routing = BALANCED,
    latent: LatentForm = "absorbed",
    mtp: bool = False,
) -> Lengths:
    """The shared options as `Lengths`; InputError naming the option that is wrong."""

    def some(text: str | None, option: str) -> tuple[int, ...] | None:
        return None if text is None else tuple(lengths(text, option=option))

    return Lengths(
        phases=cast("tuple[Phase, ...]", tuple(choices(phase, PHASES, option="--phase"))),
        batches=tuple(lengths(batch, option="--batch")),
        contexts=some(context, "--context"),
        new_tokens=some(new_tokens, "--new-tokens"),
        source_tokens=some(source_tokens, "--source-tokens"),
        prefix_tokens=None if prefix_tokens is None else length(prefix_tokens, option="--prefix-tokens", least=0),
        logits=None if logits is None else cast(Logits, choice(logits, get_args(Logits), option="--logits")),
        dtypes=dtypes,
        routing=routing,
        latent=latent,
        mtp=mtp,
    )


def refuse_what_has_no_effect(asked: Lengths, archs: Sequence[ArchSpec]) -> None:
    """InputError where an option was given that one of the architectures, or the phase, cannot heed."""
    if asked.new_tokens is not None and "prefill" not in asked.phases:
        raise InputError("--new-tokens is of prefill; a decode step makes one token")
    for arch in archs:
        if asked.source_tokens is not None and arch.structure != "encoder-decoder":
            raise InputError(f"--source-tokens is of an encoder-decoder; {arch.label} is none ({arch.structure})")
        if asked.logits in ("all", "last") and arch.head.kind == "none":
            raise InputError(f"--logits {asked.logits}: {arch.label} has no output head; leave it out, or say none")


def refuse_idle_kv_dtype(runs: Sequence[tuple[ArchSpec, Workload]]) -> None:
    """InputError where a dtype of the KV cache was asked for, and none of the architectures keeps anything in it."""
    from llmprof.predict.record import heeds_kv_dtype

    # What is kept depends on no length, so that one pass of each is enough.
    firsts = {arch: w for arch, w in reversed(runs) if w.dtypes.kv_cache != w.dtypes.activations}
    if not firsts or any(heeds_kv_dtype(arch, w) for arch, w in firsts.items()):
        return
    arch, workload = next(reversed(firsts.items()))
    others = f", nor do the other {len(firsts) - 1}" if len(firsts) > 1 else ""
    raise InputError(
        f"--kv-dtype {workload.dtypes.kv_cache} has no effect: {arch.label} keeps no keys and values in it{others}; "
        "leave it out"
    )


def warn_beyond_limits(runs: Sequence[tuple[ArchSpec, Workload]]) -> None:
    """Say where the context is longer than a model was made for, once for each spec."""
    longest: dict[str, tuple[int, int]] = {}
    for arch, workload in runs:
        if arch.max_context is not None and workload.context > arch.max_context:
            known = longest.get(arch.name, (0, 0))
            longest[arch.name] = max(known, (workload.context, arch.max_context))
    for name, (context, limit) in longest.items():
        say(f"warning: context {context:,} is beyond what {name} was made for ({limit:,})")


def as_typed(refs: Sequence[str], options: Mapping[str, str | bool | None], defaults: Mapping[str, str]) -> str:
    """The words of a command line that ask the same again: the specs, and each option that is not its default."""
    words = [shlex.quote(ref) for ref in refs]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, str) and value != defaults.get(name):
            words += [option, shlex.quote(value)]
    return " ".join(words)
