"""What `llmprof specs list` says of each architecture, and by what it can be narrowed.

The names of attentions are those of the language, with the usual words where it has one kind for several: ``mha``,
``gqa`` and ``mqa`` by the number of key-value heads, ``windowed`` and ``chunked`` for a bound on what a query sees,
``indexed`` for latent attention to chosen keys, and ``recurrent`` for any mixer with a state of fixed size.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from llmprof.catalog import Entry
from llmprof.cli import options
from llmprof.errors import InputError
from llmprof.predict.api import parameters, predict
from llmprof.predict.record import kv_bytes_per_token
from llmprof.spec.arch import ArchSpec, Gqa, LayerSpec, Mla
from llmprof.spec.attention import Attention, NoAttention
from llmprof.spec.kinds import all_kinds
from llmprof.spec.load import SpecFile
from llmprof.spec.mixers import Mixer
from llmprof.workload import Execution, Workload

HEADS = ("mha", "gqa", "mqa")
"""What a `gqa` of the language is called, by its key-value heads."""

RECURRENT = all_kinds(Mixer)

ATTENTIONS: tuple[str, ...] = (
    *HEADS,
    "windowed",
    "chunked",
    "mla",
    "indexed",
    *(kind for kind in all_kinds(Attention) if kind not in ("gqa", "mla", "none", *RECURRENT)),
    "recurrent",
    *RECURRENT,
)
"""Every name that `--attention` knows."""

_SCALES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_SIZE = re.compile(r"([0-9][0-9_]{0,20}(?:\.[0-9]{1,20})?)([kKMGBT]?)\Z")
_EXAMPLE = "a range of parameters such as 1B..10B, ..7B or 70B.."


@dataclass(frozen=True, slots=True)
class Row:
    """One architecture of the list with its file's entry and spec."""

    entry: Entry
    spec: SpecFile
    arch: ArchSpec


def rows(entries: Iterable[Entry], *, variants: bool) -> Iterator[Row]:
    """The base of every file, or its base and its variants."""
    for entry in entries:
        spec = entry.load()
        for arch in spec.archs() if variants else (spec.base,):
            yield Row(entry, spec, arch)


# --- narrowing ------------------------------------------------------------------------------------

Test = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """One wish as it was typed, and whether a row fulfils it."""

    typed: str
    test: Test


def by_size(text: str) -> Filter:
    """Total parameters in a range whose ends belong to it; an end that is left out bounds nothing.

    Raises InputError for what is no range: it says what was found and what a range looks like.
    """
    lower, dots, upper = (part.strip() for part in text.partition(".."))
    if not dots or not (lower or upper):
        raise InputError(f"--size: found {text!r}; expected {_EXAMPLE}")
    least, most = _parameters(lower, text), _parameters(upper, text)
    if least is not None and most is not None and least > most:
        raise InputError(f"--size: found {text!r}, whose lower end is above its upper end; expected {_EXAMPLE}")

    def test(row: Row) -> bool:
        total = parameters(row.arch).total
        return (least is None or total >= least) and (most is None or total <= most)

    return Filter(f"--size {text}", test)


def _parameters(end: str, text: str) -> Fraction | None:
    if not end:
        return None
    match = _SIZE.match(end)
    if match is None:
        raise InputError(f"--size: found {text!r}; expected {_EXAMPLE}, with k, M, B (or G) or T")
    return Fraction(match[1].replace("_", "")) * _SCALES[match[2]]


def by_attention(text: str) -> Filter:
    """Some layer has that attention; of a comma list, some layer has each. Raises InputError for an unknown name."""
    wanted = set(options.choices(text, ATTENTIONS, option="--attention"))
    return Filter(f"--attention {text}", lambda row: wanted <= kinds(row.arch))


def by_text(text: str) -> Filter:
    """The name, or one of the aliases, has that text in it, in either case. Raises InputError for an empty text."""
    wanted = text.lower()
    if not wanted.strip():
        raise InputError(f"TEXT: found {text!r}; expected a part of a name or of an alias, such as llama-3")
    return Filter(repr(text), lambda row: any(wanted in word.lower() for word in (row.arch.label, *row.spec.aliases)))


def narrowed(found: Sequence[Row], filters: Sequence[Filter]) -> list[Row]:
    """The rows that fulfil every wish. Raises InputError where none does, with how many fulfil each wish alone."""
    kept = [row for row in found if all(wish.test(row) for wish in filters)]
    if not kept:
        alone = "; ".join(f"{wish.typed} alone: {sum(map(wish.test, found)):,}" for wish in filters)
        raise InputError(f"none of {len(found):,} specs is left by {' and '.join(w.typed for w in filters)} ({alone})")
    return kept


# --- what is said ---------------------------------------------------------------------------------


def kinds(arch: ArchSpec) -> set[str]:
    """The names of all attentions that some layer has, cross-attention and mixers beside one among them."""
    found: set[str] = set()
    for stack in arch.stacks:
        for layer in stack.layers:
            for part in (layer.attention, layer.cross_attention, layer.mixer):
                if part is not None:
                    found |= _kinds(part)
    return found


def _kinds(part: Attention) -> set[str]:
    if isinstance(part, NoAttention):
        return set()
    if isinstance(part, Gqa):
        bounds = {"windowed": part.window, "chunked": part.chunk}
        return {_heads(part), *(name for name, bound in bounds.items() if bound is not None)}
    if isinstance(part, Mla):
        return {"mla"} if part.indexer is None else {"mla", "indexed"}
    return {part.kind, "recurrent"} if isinstance(part, Mixer) else {part.kind}


def _heads(part: Gqa) -> str:
    if part.n_kv_heads == part.n_heads:
        return "mha"
    return "mqa" if part.n_kv_heads == 1 else "gqa"


def words(arch: ArchSpec) -> str:
    """The self-attention of all layers: ``gqa 32:8``, or with counts ``26 gqa 8:4 windowed, 5 gqa 8:4``.

    Figures behind a name are query heads, and key-value heads where there are fewer. Layers without any are not named.
    """
    said = Counter(_layer(layer) for stack in arch.stacks for layer in stack.layers)
    del said[""]
    if len(said) == 1 and said.total() == arch.n_layers:
        return next(iter(said))
    return ", ".join(f"{count} {text}" for text, count in said.most_common()) or "none"


def _layer(layer: LayerSpec) -> str:
    beside = "" if layer.mixer is None else f" + {layer.mixer.kind}"
    return _part(layer.attention) + beside


def _part(part: Attention) -> str:
    if isinstance(part, NoAttention):
        return ""
    if isinstance(part, Gqa):
        name = _heads(part)
        heads = f"{part.n_heads}:{part.n_kv_heads}" if name == "gqa" else f"{part.n_heads}"
        bounds = [kind for kind in ("windowed", "chunked") if kind in _kinds(part)]
        return " ".join([name, heads, *bounds])
    if isinstance(part, Mla):
        return f"mla {part.n_heads}" + ("" if part.indexer is None else " indexed")
    return part.kind if isinstance(part, Mixer) else f"{part.kind} {part.n_heads}"


def record(row: Row) -> dict[str, Any]:
    """The figures of one row, exact; `kv_cache_bytes_per_token` is in bf16 and while no window is full."""
    arch, count = row.arch, parameters(row.arch)
    return {
        "name": arch.name,
        "variant": arch.variant,
        "family": row.entry.family,
        "structure": arch.structure,
        "n_layers": arch.n_layers,
        "params_total": count.total,
        "params_non_embedding": count.non_embedding,
        "params_active": count.active,
        "kv_cache_bytes_per_token": _kv_bytes_per_token(arch),
        "attention": words(arch),
        "attention_kinds": sorted(kinds(arch), key=ATTENTIONS.index),
        "max_context": arch.max_context,
        "variants": list(row.spec.variants),
        "aliases": list(row.spec.aliases),
    }


def _kv_bytes_per_token(arch: ArchSpec) -> int | float:
    """What the caches of self-attention grow by; an encoder has none. The pass of one token is enough to see it."""
    if arch.structure == "encoder":
        return 0
    source = 1 if arch.structure == "encoder-decoder" else 0
    work = Workload(phase="prefill", batch=1, new_tokens=1, context=1, source_tokens=source, logits="none")
    return kv_bytes_per_token(predict(arch, work, Execution(attention="unfused")).program)
