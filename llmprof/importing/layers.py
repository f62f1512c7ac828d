"""Stacks whose layers differ in more than one way: which have experts, and which see all tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import Doc
from llmprof.importing.parts import stack

FIRST = "first_k_dense_replace"


def each_layer(c: Config, key: str, of: Iterable[str], default: Sequence[str]) -> tuple[str, ...]:
    """A word for each layer, from a list that may be left out or null; `default` is what the class then has."""
    found = c.words(key, of=of, default=inferred(tuple(default), "one for each layer, as the class has it"))
    if len(found.value) != len(default):
        c.wrong(key, f"{len(default)} words, one for each layer")
        return tuple(default)
    return tuple(found.value)


def told(c: Config, read: Read[Any]) -> None:
    """Says in a remark what was taken for granted, where no value of the spec has it for its own."""
    if read.note is not None:
        c.remark(read.note)


def first_dense(c: Config, count: Read[int], first: int) -> tuple[str, ...]:
    """Layers with experts after ``first_k_dense_replace`` without; `first` is how many the class has."""
    dense = c.size(FIRST, default=first, least=0)
    told(c, dense)
    return dense_first(count.value, dense.value)


def dense_or_sparse(c: Config, count: Read[int], first: int, *, field: bool = True) -> tuple[str, ...]:
    """Which layers have experts: ``mlp_layer_types``, else all but the first ``first_k_dense_replace``.

    `first` is how many dense ones the class has; where it has no such `field`, another number is not understood. A list
    and a number that contradict each other are an error.
    """
    if not field:
        c.must(FIRST, first, why="the class has so many layers without experts")
    listed = c.has("mlp_layer_types")
    by_number = (
        dense_first(count.value, c.size(FIRST, default=first, least=0).value)
        if listed
        else first_dense(c, count, first)
    )
    found = each_layer(c, "mlp_layer_types", ("dense", "sparse"), by_number)
    if c.has(FIRST) and found != by_number:
        c.wrong(FIRST, "what mlp_layer_types says: the layers without experts, which come first")
    return found


def every_so_often(c: Config, count: Read[int], n_experts: Read[int]) -> tuple[str, ...]:
    """Qwen's rule: every ``decoder_sparse_step``-th layer has experts, but not those of ``mlp_only_layers``."""
    step = c.size("decoder_sparse_step", default=1)
    told(c, step)
    without = set(c.sizes("mlp_only_layers", default=inferred((), "null: none")).value)
    return tuple(
        "sparse" if n_experts.value and layer not in without and (layer + 1) % step.value == 0 else "dense"
        for layer in range(count.value)
    )


def dense_first(count: int, first: int) -> tuple[str, ...]:
    """The names of a stack whose first layers have no experts."""
    return tuple("dense" if layer < first else "sparse" for layer in range(count))


def layered(
    count: Read[int], *ways: tuple[Sequence[str], Mapping[str, Doc]], common: Doc
) -> tuple[Doc, tuple[str, ...]]:
    """A stack, and the name of the group of each layer. `ways` are the ways in which layers differ.

    Each way has a name for every layer and what a name means. A group is called by the names of those ways in which
    the layers really differ; where they are all alike there is no group, and the stack is called ``layers``.
    """
    differing = [way for way in ways if len(set(way[0])) > 1]
    for names, meaning in ways:
        if (names, meaning) not in differing:
            common = merged(common, meaning[names[0]])
    if not differing:
        return {"count": count, **common}, ("layers",) * count.value
    combined = list(zip(*(names for names, _ in differing), strict=True))
    groups: dict[str, Doc] = {}
    for combination in dict.fromkeys(combined):
        group: Doc = {}
        for name, (_, meaning) in zip(combination, differing, strict=True):
            group = merged(group, meaning[name])
        groups["-".join(combination)] = group
    called = tuple("-".join(combination) for combination in combined)
    return stack(count, called, groups, common), called


def merged(one: Doc, other: Doc) -> Doc:
    """Two documents as one, key by key; `other` wins."""
    both = dict(one)
    for key, value in other.items():
        mine = both.get(key)
        both[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both


def further_tokens(c: Config, *keys: str, default: int, called: Sequence[str], names: Sequence[str]) -> Doc:
    """``mtp``: layers that predict further tokens, each like the last layer with experts. `names` says which have.

    Such layers have experts in every model that has both (transformers' `get_mtp_config`).
    """
    count = c.size(*keys, default=default, least=0)
    if not count.value:
        return {}
    if "sparse" not in names:
        c.refuse(
            next((key for key in keys if c.has(key)), keys[0]),
            "0 where no layer has experts: one that predicts a further token has",
        )
        return {}
    like = called[max(layer for layer, name in enumerate(names) if name == "sparse")]
    return {"mtp": {"count": count, "like": like}}


def unknown_further_tokens(c: Config) -> None:
    """Layers that predict further tokens, of a class that says nothing of how they are made."""
    if c.raw("num_nextn_predict_layers"):
        c.leave_out("num_nextn_predict_layers", "how these layers are made is not in the class; no total counts them")
