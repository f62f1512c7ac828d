"""Names that differ in numbers alone, as one: ``model.layers.{0-31}.mlp.experts.{0-7}.w1.weight``."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from math import prod
from typing import TypeVar

from llmprof.paths import folded

T = TypeVar("T")
_NUMBER = re.compile(r"(?<![^.])(?:0|[1-9][0-9]{0,8})(?![^.])")
"""A part of a dotted name that is a number."""


def bare(name: str) -> str:
    """A name without its numbers."""
    return _NUMBER.sub("#", name)


def fold(members: Iterable[T], name: Callable[[T], str], alike: Callable[[T], Hashable]) -> list[tuple[str, list[T]]]:
    """Groups of members that are `alike` and whose names differ in numbers alone, each with one name for all.

    A group whose numbers are not every combination of what stands in each place is split until they are.
    """
    groups: dict[Hashable, list[T]] = {}
    for member in members:
        groups.setdefault((bare(name(member)), alike(member)), []).append(member)
    return [pair for group in groups.values() for pair in _split(group, name)]


def together(names: Iterable[str]) -> str:
    """One text for names of one group, which may be the same name several times: ``layers.{0-31}.attn.q_proj``."""
    return ", ".join(name for name, _ in fold(dict.fromkeys(names), str, lambda _: None))


def _split(group: Sequence[T], name: Callable[[T], str]) -> list[tuple[str, list[T]]]:
    numbers = [tuple(int(number) for number in _NUMBER.findall(name(member))) for member in group]
    places = [sorted(set(place)) for place in zip(*numbers, strict=True)]
    if prod(map(len, places)) == len(group):
        texts = iter([folded(place) for place in places])
        return [(_NUMBER.sub(lambda _: next(texts), name(group[0])), list(group))]
    first = next((i for i, place in enumerate(places) if len(place) > 1), None)
    if first is None:  # one name several times
        return [(name(member), [member]) for member in group]
    parts: dict[int, list[T]] = {}
    for member, of in zip(group, numbers, strict=True):
        parts.setdefault(of[first], []).append(member)
    return [pair for part in parts.values() for pair in _split(part, name)]
