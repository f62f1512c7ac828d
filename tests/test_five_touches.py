"""A variant is five touches: a spec class, a lowering, a twin module, a YAML that uses it, a golden or confirmed row.

Walks every member of the language's unions, every literal choice and every part that may be left out, and demands all of them, so that none
can be added halfway.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
import typing
from functools import lru_cache
from pathlib import Path

import pytest

from llmprof.spec import arch as types_of_spec
from llmprof.spec.arch import (
    Attention,
    AudioFront,
    EmbeddedPosition,
    Ffn,
    Head,
    Indexer,
    LayerPosition,
    LayerSpec,
    Mixer,
    Norm,
    Pattern,
    Stack,
)
from tests.confirming import catalogued

ROOT = Path(__file__).resolve().parent.parent
UNIONS = {
    "attention": Attention,
    "mixer": Mixer,
    "pattern": Pattern,
    "ffn": Ffn,
    "norm": Norm,
    "position": LayerPosition,
    "embedded position": EmbeddedPosition,
    "head": Head,
    "front": AudioFront,
    "indexer": Indexer,
}
PRESENT = object()
"""Stands for any value of a field that may be None."""


def members(union: object) -> tuple[type, ...]:
    """The classes of a union, or the class itself."""
    return typing.get_args(union) if isinstance(union, types.UnionType) else (union,)


MEMBERS = [(name, member) for name, union in UNIONS.items() for member in members(union)]


def named(node: ast.AST) -> set[str]:
    """Every name in an expression, plain or as an attribute of a module."""
    plain = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return plain | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


@lru_cache
def dispatched(package: str) -> frozenset[str]:
    """The class names that `package` distinguishes, by a case pattern, isinstance or an annotation."""
    names: set[str] = set()
    for path in (ROOT / "llmprof" / package).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.MatchClass):
                names |= named(node.cls)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                names |= named(node.args[1])
            elif isinstance(node, ast.arg) and node.annotation is not None:
                names |= named(node.annotation)
    return frozenset(names)


def used(node: object, found: dict[type, set[tuple[str, object]]]) -> None:
    """Collect every spec class in `node`, with the values of its literal fields and which of its fields are not None."""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        values = found.setdefault(type(node), set())
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if isinstance(value, str | bool | type(None)):
                values.add((field.name, value))
            if value is not None:
                values.add((field.name, PRESENT))
            used(value, found)
    elif isinstance(node, tuple):
        for item in node:
            used(item, found)


@pytest.fixture(scope="module")
def catalogue_use() -> dict[type, set[tuple[str, object]]]:
    found: dict[type, set[tuple[str, object]]] = {}
    for arch in catalogued():
        used(arch, found)
    return found


@pytest.mark.parametrize("half", ["predict", "twin"])
@pytest.mark.parametrize(("union", "member"), MEMBERS, ids=lambda v: getattr(v, "__name__", v))
def test_each_half_knows_every_kind(half: str, union: str, member: type) -> None:
    assert member.__name__ in dispatched(half)


@pytest.mark.parametrize(("union", "member"), MEMBERS, ids=lambda v: getattr(v, "__name__", v))
def test_every_kind_is_used_by_a_spec_that_is_confirmed(
    union: str, member: type, catalogue_use: dict[type, set[tuple[str, object]]]
) -> None:
    assert member in catalogue_use, f"no spec of the catalogue has the {union} {member.__name__}"


def literal_fields() -> list[tuple[type, str, object]]:
    wanted = []
    for owner in (*(m for _, m in MEMBERS), LayerSpec, Stack, types_of_spec.ArchSpec):
        hints = typing.get_type_hints(owner)
        for name, hint in hints.items():
            optional = isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)
            if optional:
                wanted += [(owner, name, PRESENT), (owner, name, None)]
            for choice in typing.get_args(hint) if optional else (hint,):
                if typing.get_origin(choice) is typing.Literal:
                    wanted += [(owner, name, value) for value in typing.get_args(choice) if isinstance(value, str)]
                elif choice is bool:
                    wanted += [(owner, name, value) for value in (True, False)]
    return wanted


@pytest.mark.parametrize(
    ("owner", "field", "value"),
    literal_fields(),
    ids=lambda v: "any" if v is PRESENT else getattr(v, "__name__", str(v)),
)
def test_every_choice_is_made_by_some_spec(
    owner: type, field: str, value: object, catalogue_use: dict[type, set[tuple[str, object]]]
) -> None:
    # A field that several kinds inherit is one place in the code: any of them may make the choice.
    declared = next(c for c in owner.__mro__ if field in inspect.get_annotations(c))
    chosen = set().union(*(values for kind, values in catalogue_use.items() if issubclass(kind, declared)))
    assert (field, value) in chosen, (
        f"no spec of the catalogue has {owner.__name__}.{field} = {'any' if value is PRESENT else value!r}"
    )


def test_a_kind_that_nobody_lowers_would_be_missed() -> None:
    assert "Gqa2" not in dispatched("predict")
    assert dispatched("predict") != set()
