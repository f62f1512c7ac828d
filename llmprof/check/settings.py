"""What is run, as a budget file says it: the workload keys, and the matrix that their lists make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, cast, get_args

from llmprof.check import degrees
from llmprof.check.degrees import DEGREES, ROWS
from llmprof.errors import InputError
from llmprof.lengths import LARGEST, Lengths
from llmprof.sharding import Sharding, check_sharding
from llmprof.spec.arch import ArchSpec
from llmprof.spec.nodes import Map, Node, Scalar, Seq, short
from llmprof.spec.problems import Report
from llmprof.spec.validate import unknown_key
from llmprof.spec.words import alternatives, did_you_mean
from llmprof.units import parse_count
from llmprof.workload import (
    COMPUTE_DTYPES,
    PHASES,
    QUANTISED,
    ComputeDtype,
    Dtypes,
    Logits,
    Phase,
    StorageDtype,
    Workload,
)

LENGTHS = {"batch": 1, "context": 1, "new_tokens": 1, "source_tokens": 1, "prefix_tokens": 0}
"""The lengths and the smallest value of each; all of them may be lists."""

WORDS: dict[str, tuple[str, ...]] = {
    "phase": PHASES,
    "logits": get_args(Logits),
    "dtype": COMPUTE_DTYPES,
    "weight_dtype": (*COMPUTE_DTYPES, *QUANTISED),
    "kv_dtype": (*COMPUTE_DTYPES, *QUANTISED),
}
"""The words and what each may be; of these `phase` may be a list."""

KEYS = ("phase", *LENGTHS, "logits", "dtype", "weight_dtype", "kv_dtype", "group_size", *degrees.KEYS)
MATRIX = ("phase", *LENGTHS, *DEGREES)

_ELSEWHERE = {
    **degrees.NAMES,
    **{f"{key}s": f"did you mean {key!r}? It may be a list" for key in ("phase", "context", "spec")},
    **dict.fromkeys(("batches", "batch_size", "batch_sizes"), "did you mean 'batch'? It may be a list"),
    **dict.fromkeys(("seq_len", "max_len", "context_length", "length"), "did you mean 'context'?"),
    "variant": "write spec: NAME:VARIANT",
    "model": "did you mean 'spec'?",
    "specs": "did you mean 'spec'? It may be a list",
    "limit": "did you mean 'limits'?",
    "quantities": "did you mean 'limits'?",
    "activation_dtype": "did you mean 'dtype'?",
    "default": "did you mean 'use'?",
    "defaults": "did you mean 'use'?",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """The values of one key, and where they stand."""

    values: tuple[Any, ...]
    node: Node


Settings = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One combination: what is asked of every spec of an entry. None leaves a length to its default for each."""

    phase: Phase
    batch: int = 1
    context: int | None = None
    new_tokens: int | None = None
    source_tokens: int | None = None
    prefix_tokens: int | None = None
    logits: Logits | None = None
    dtypes: Dtypes
    sharding: Sharding | None = None

    def workload(self, arch: ArchSpec) -> Workload:
        """The workload that this means for `arch`, which can be spread as it is asked.

        Raises InputError where the numbers contradict each other or the architecture, where the architecture has no
        such phase, or cannot be spread so: what cannot be evaluated must not pass.
        """
        if self.source_tokens is not None and arch.structure != "encoder-decoder":
            raise InputError(f"source_tokens is of an encoder-decoder; {arch.label} is none ({arch.structure})")
        if self.logits in ("all", "last") and arch.head.kind == "none":
            raise InputError(f"logits {self.logits}: {arch.label} has no output head; leave it out, or say none")
        found, skipped = Lengths(
            phases=(self.phase,),
            batches=(self.batch,),
            contexts=_one(self.context),
            new_tokens=_one(self.new_tokens),
            source_tokens=_one(self.source_tokens),
            prefix_tokens=self.prefix_tokens,
            logits=self.logits,
            dtypes=self.dtypes,
        ).workloads(arch)
        if not found:
            raise InputError(skipped[0])
        from llmprof.predict.record import heeds_kv_dtype

        if not heeds_kv_dtype(arch, found[0]):
            raise InputError(
                f"kv_dtype {self.dtypes.kv_cache} has no effect: {arch.label} keeps no keys and values in it; "
                "leave it out"
            )
        if self.sharding is not None:
            check_sharding(arch, found[0], self.sharding)
        return found[0]


def _one(value: int | None) -> tuple[int, ...] | None:
    return None if value is None else (value,)


def read(owner: Map, report: Report, *, also: tuple[str, ...]) -> dict[str, Setting]:
    """The workload keys of a mapping; every other key but those of `also` is reported."""
    found: dict[str, Setting] = {}
    for key, node in owner.items.items():
        if key in KEYS:
            values = _values(key, node, report)
            if values:
                found[key] = Setting(values, node)
        elif key not in also:
            _unknown(owner, key, (*also, *KEYS), report)
    return found


def _unknown(owner: Map, key: str, known: tuple[str, ...], report: Report) -> None:
    hint = did_you_mean(key, known, _ELSEWHERE)
    if hint is None:
        unknown_key(report, owner, key, known)
    else:
        report.key(owner, key, f"unknown key {short(key)!r}", f"one of {', '.join(known)}", hint)


def _values(key: str, node: Node, report: Report) -> tuple[Any, ...]:
    """The values of a key, each once; empty where one is wrong."""
    if isinstance(node, Seq) and key in MATRIX:
        if not node.items:
            report.value(node, "at least one value")
        items = node.items
    else:
        items = [node]
    read_one: Callable[[str, Node, Report], Any] = _word if key in WORDS else _rows if key == ROWS else _length
    values = [read_one(key, item, report) for item in items]
    return () if None in values else tuple(dict.fromkeys(values))


def _word(key: str, node: Node, report: Report) -> str | None:
    words = WORDS[key]
    if isinstance(node, Scalar) and node.value in words:
        return str(node.value)
    many = " or a list of them" if key in MATRIX and not isinstance(node, Seq) else ""
    report.value(node, alternatives(words) + many, did_you_mean(node.text, words) if isinstance(node, Scalar) else None)
    return None


def _rows(key: str, node: Node, report: Report) -> bool | None:
    return degrees.shares_rows(node, report)


def _length(key: str, node: Node, report: Report) -> int | None:
    least = LENGTHS.get(key, 1)
    value = _whole(node)
    if value is None or not least <= value <= LARGEST:
        high = f" and at most {LARGEST:,}" if value is not None and value > LARGEST else ""
        example = "4" if key in DEGREES else "4096 or 4Ki"
        report.value(node, f"a whole number of at least {least}{high}, such as {example}")
        return None
    return value


def _whole(node: Node) -> int | None:
    if not isinstance(node, Scalar) or isinstance(node.value, bool | float) or node.value is None:
        return None
    if isinstance(node.value, int):
        return node.value
    try:
        return parse_count(node.value, what="") if len(node.value) <= 40 else None
    except InputError:
        return None


# --- the matrix -------------------------------------------------------------------------------


def combinations(settings: Settings) -> int:
    """How many questions the lists of an entry come to, without making them."""
    return prod(len(settings[key].values) for key in MATRIX if key in settings)


def questions(settings: Settings) -> list[Question]:
    """Every combination of the lists of an entry, in the order of the keys of the language."""
    dtypes = _dtypes(settings)
    logits = cast("Logits | None", _single(settings, "logits"))
    lists = [settings[key].values if key in settings else (None,) for key in MATRIX]
    made = (
        Question(
            phase=phase,
            batch=1 if batch is None else batch,
            context=context,
            new_tokens=new_tokens if phase == "prefill" else None,  # a decode step makes one token
            source_tokens=source_tokens,
            prefix_tokens=prefix_tokens,
            logits=logits,
            dtypes=dtypes,
            sharding=degrees.sharding_of({**dict(zip(DEGREES, spread, strict=True)), ROWS: _single(settings, ROWS)}),
        )
        for phase, batch, context, new_tokens, source_tokens, prefix_tokens, *spread in itertools.product(*lists)
    )
    return list(dict.fromkeys(made))


def check_together(settings: Settings, owner: Map, report: Report) -> None:
    """Reports what an entry must say, and what it says without effect."""
    if "phase" not in settings:
        report.missing(owner, "phase", "prefill, decode or [prefill, decode], here or in the set it uses")
    elif "new_tokens" in settings and "prefill" not in settings["phase"].values:
        report.value(settings["new_tokens"].node, "no new_tokens: they are of prefill, and a decode step makes one")
    if "group_size" in settings and _single(settings, "weight_dtype") != "int4":
        report.value(settings["group_size"].node, "weight_dtype: int4 with a group_size, which int4 weights alone have")


def _single(settings: Settings, key: str) -> Any:
    return settings[key].values[0] if key in settings else None


def _dtypes(settings: Settings) -> Dtypes:
    activations = cast(ComputeDtype, _single(settings, "dtype") or Dtypes().activations)
    return Dtypes(
        weights=cast(StorageDtype, _single(settings, "weight_dtype") or activations),
        activations=activations,
        kv_cache=cast(StorageDtype, _single(settings, "kv_dtype") or activations),
        group_size=_single(settings, "group_size") or Dtypes().group_size,
    )


def as_text(workload: Workload, settings: Settings, sharding: Sharding | None = None) -> dict[str, str]:
    """The settings of a combination as reports say them: phase, batch and context always, the rest where stated."""
    dtypes = workload.dtypes
    every = {
        "phase": workload.phase,
        "batch": f"{workload.batch}",
        "context": f"{workload.context}",
        "new_tokens": f"{workload.new_tokens}",
        "source_tokens": f"{workload.source_tokens}",
        "prefix_tokens": f"{workload.prefix_tokens}",
        "logits": workload.logits,
        "dtype": dtypes.activations,
        "weight_dtype": dtypes.weights,
        "kv_dtype": dtypes.kv_cache,
        "group_size": f"{dtypes.group_size}",
    }
    if sharding is not None:
        every |= {key: f"{getattr(sharding, key)}".lower() for key in degrees.KEYS}
    return {key: value for key, value in every.items() if key in settings or key in ("phase", "batch", "context")}
