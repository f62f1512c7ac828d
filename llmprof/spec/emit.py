"""Plain values as YAML that a person would have written: blocks outside, one line where it fits.

Only what the loader reads is ever written: its own scalars decide which text may go unquoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from textwrap import wrap
from types import MappingProxyType
from typing import Any

from llmprof.spec.nodes import child_path
from llmprof.spec.scalars import resolve
from llmprof.spec.yamlload import UNPRINTABLE

WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._/()+~-]|:(?=[^\s:,\[\]{}]))*\Z")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
# YAML takes these for line breaks or for the beginning of a file, wherever they stand.
_BREAKS = frozenset("\x85\u2028\u2029\ufeff\xa0")


def emit(document: Mapping[str, Any], notes: Mapping[str, str] = MappingProxyType({})) -> str:
    """A mapping as a YAML document. Values are dicts, lists, text, numbers, booleans and None.

    `notes` has comments by dotted path; each stands above the line on which its value is.
    """
    return "".join(f"{line}\n" for line in _block(document, 0, "", notes))


def _block(mapping: Mapping[str, Any], indent: int, path: str, notes: Mapping[str, str]) -> list[str]:
    lines = []
    for key, value in mapping.items():
        at = child_path(path, key)
        head = " " * indent + f"{text(key)}:"
        line = f"{head} {flow(value)}"
        leaf = not (isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()))
        if not isinstance(value, dict | list) or not value or (leaf and len(line) <= WIDTH):
            lines += [*_comments(at, indent, notes, inside=True), line]
        elif isinstance(value, dict):
            lines += [*_comments(at, indent, notes, inside=False), head, *_block(value, indent + 2, at, notes)]
        else:
            lines += _comments(at, indent, notes, inside=True)
            lines += [head, *(f"{' ' * (indent + 2)}- {flow(item)}" for item in value)]
    return lines


def _comments(at: str, indent: int, notes: Mapping[str, str], *, inside: bool) -> list[str]:
    """The notes of a path, and with `inside` those of the values below it, as comment lines."""
    lines = []
    for path, note in notes.items():
        if path == at or (inside and path.startswith(f"{at}.")):
            name = path.rpartition(".")[2]
            lines += [
                " " * indent
                + ("# " if first else "#   ")
                + "".join("?" if c in _BREAKS or UNPRINTABLE.match(c) else c for c in line)
                for first, line in _first(wrap(f"{name}: {note}", WIDTH - indent - 4))
            ]
    return lines


def _first(lines: list[str]) -> Iterator[tuple[bool, str]]:
    yield from ((i == 0, line) for i, line in enumerate(lines))


def flow(value: Any) -> str:
    """A value on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{text(key)}: {flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(flow(item) for item in value) + "]"
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int():
            return f"{value:_}" if abs(value) >= 100_000 else str(value)
        case float():
            # Past 2**40 an integer is refused as a size, and a float is not.
            return flow(int(value)) if value.is_integer() and abs(value) < 2**40 else repr(value)
        case _:
            return text(str(value))


def text(value: str) -> str:
    """Text, quoted where it would be read as something else."""
    if _PLAIN.match(value) and not value.endswith(" ") and resolve_safely(value) == value:
        return value
    return '"' + "".join(_character(char) for char in value) + '"'


def resolve_safely(value: str) -> object:
    """What an unquoted text would be read as; something that no text equals when it cannot be read."""
    try:
        return resolve(value)
    except ValueError:
        return None


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char in _BREAKS or UNPRINTABLE.match(char):
        return f"\\U{ord(char):08x}"
    return char
