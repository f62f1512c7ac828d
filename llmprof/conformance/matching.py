"""Hold parameters against parameters, module by module, where the names of two sides can be matched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from llmprof.conformance import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Our paths and their modules that hold the same tensors, with the parameters of each side."""

    paths: tuple[str, ...]
    modules: tuple[str, ...]
    ours: int
    theirs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Groups of what was matched, and what is left on each side with its parameters."""

    groups: tuple[Group, ...]
    our_rest: Mapping[str, int]
    their_rest: Mapping[str, int]

    @property
    def n_modules(self) -> int:
        """Their modules that were matched."""
        return sum(len(group.modules) for group in self.groups)


def match(ours: Mapping[str, int], theirs: Mapping[str, int], prefixes: Collection[str]) -> Matching:
    """Match modules that own parameters. `ours` and `theirs` are parameters by path, those of no parameter left out.

    A module of theirs belongs to the first of its possible paths (names.py) that we have. Modules that share a path
    form one group.
    """
    neighbours = _neighbours(theirs)
    wanted: dict[str, tuple[str, ...]] = {}
    for module in theirs:
        for paths in names.ours(module, neighbours[_around(module)], prefixes):
            there = tuple(dict.fromkeys(path for path in paths if path in ours))
            if there:
                wanted[module] = there
                break
    groups = [
        Group(
            paths=paths,
            modules=modules,
            ours=sum(ours[path] for path in paths),
            theirs=sum(theirs[module] for module in modules),
        )
        for paths, modules in _joined(wanted)
    ]
    covered = {path for group in groups for path in group.paths}
    return Matching(
        groups=tuple(groups),
        our_rest={path: count for path, count in ours.items() if path not in covered},
        their_rest={module: count for module, count in theirs.items() if module not in wanted},
    )


def _around(module: str) -> str:
    """The layer that a module stands in, or an empty text."""
    place = names.layer_of(module)
    return "" if place is None else f"{place[0]}{place[1]}"


def _neighbours(modules: Iterable[str]) -> dict[str, list[str]]:
    """Layer -> the modules in it, by their names within it."""
    found: dict[str, list[str]] = {}
    for module in modules:
        place = names.layer_of(module)
        found.setdefault(_around(module), []).append(module if place is None else place[2])
    return found


def _joined(wanted: Mapping[str, tuple[str, ...]]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(paths, modules) of each set of modules that share paths, in the order of the modules."""
    leader: dict[str, str] = {}

    def of(path: str) -> str:
        while leader[path] != path:
            path = leader[path]
        return path

    for paths in wanted.values():
        for path in paths:
            leader.setdefault(path, path)
        for path in paths[1:]:
            leader[of(path)] = of(paths[0])
    members: dict[str, tuple[dict[str, None], list[str]]] = {}
    for module, paths in wanted.items():
        held, modules = members.setdefault(of(paths[0]), ({}, []))
        held.update(dict.fromkeys(paths))
        modules.append(module)
    return [(tuple(held), tuple(modules)) for held, modules in members.values()]
