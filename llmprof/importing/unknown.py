"""A ``model_type`` that has no table: refused with what is near it, all that is known, or what stands in the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, NoReturn

from llmprof.errors import SpecError
from llmprof.importing import families
from llmprof.importing.config import Config
from llmprof.importing.inexpressible import INEXPRESSIBLE
from llmprof.importing.jsontext import shown
from llmprof.spec.nodes import child_path

MOST_NEAR = 6
LONGEST = 60
"""Of a longer word nothing is near."""


def refuse_family(c: Config, kind: Any) -> NoReturn:
    """Ends the import of an object whose ``model_type`` is `kind`, or is missing where that is None."""
    path = c.path if kind is None else child_path(c.path, "model_type")
    found = "the field 'model_type' is missing" if kind is None else f"found {shown(kind)}"
    known = families.known()
    hint = None
    if isinstance(kind, str) and kind in INEXPRESSIBLE:
        expected = f"a family that the spec language can say: this has {INEXPRESSIBLE[kind]}"
    else:
        near = nearest(kind, known) if isinstance(kind, str) else []
        first = f"{', '.join(near)} are near; " if len(near) > 1 else f"{near[0]} is near; " if near else ""
        expected = f"a family that has a table ({first}all are {', '.join(known)})"
        hint = f"did you mean {near[0]!r}?" if near and _misspelt(str(kind), near[0]) else None
    raise SpecError([c.source.problem(path, found, expected, hint)])


def nearest(word: str, known: Sequence[str]) -> list[str]:
    """The names that look like `word` or begin with the same letters, the nearest first; `MOST_NEAR` at most."""
    if len(word) > LONGEST:
        return []
    likeness = {name: SequenceMatcher(None, _plain(word), _plain(name)).ratio() for name in known}
    kin = [name for name in known if likeness[name] >= 0.75 or (_stem(word) and _stem(name) == _stem(word))]
    return sorted(kin, key=lambda name: (-likeness[name], name))[:MOST_NEAR]


def _misspelt(word: str, name: str) -> bool:
    """Whether `word` is `name` with a slip: another number is another model."""
    alike = SequenceMatcher(None, _plain(word), _plain(name)).ratio() >= 0.85
    return alike and re.findall(r"\d", word) == re.findall(r"\d", name)


def _plain(name: str) -> str:
    """Letters and digits alone, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _stem(name: str) -> str:
    """The letters that a name begins with, where there are enough of them to tell a family."""
    found = re.match(r"[a-z]{3,}", name.lower())
    return found.group() if found else ""
