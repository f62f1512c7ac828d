"""Strict JSON with places: what a ``config.json`` says, and on which line it says it.

RFC 8259, and the one word beyond it that released configs have: ``Infinity``, the upper end of Mamba-2's
``time_step_limit`` (https://huggingface.co/nvidia/Nemotron-H-8B-Base-8K/blob/main/config.json). No NaN, no duplicate
keys. Size and depth are bounded before anything is built, so that a hostile file costs no more than reading it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmprof.errors import Problem, SpecError
from llmprof.spec.nodes import Mark, child_path, short
from llmprof.spec.source import whole_file

MAX_BYTES = 1 << 20
"""Real configs have a few kilobytes; those that list the modules a quantisation spares have up to a few hundred."""
MAX_VALUES = 100_000
MAX_DEPTH = 64
MAX_DIGITS = 40
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
EXPECTED = "a Hugging Face config.json"


@dataclass(frozen=True)
class JsonText:
    """A JSON document whose root is an object. `file` is what messages call it."""

    file: str
    text: str
    root: dict[str, Any]

    def mark(self, path: str) -> Mark:
        """Where a dotted path stands, or the nearest thing around it that does."""
        while path and path not in self._marks:
            path = path.rpartition(".")[0] if not path.endswith("]") else path.rpartition("[")[0]
        return self._marks.get(path, Mark(1, 1))

    def problem(self, path: str, found: str, expected: str = "", hint: str | None = None) -> Problem:
        """One thing that is wrong at a dotted path."""
        line, column = self.mark(path)
        return Problem(
            file=self.file, line=line, column=column, path=short(path, 200), found=found, expected=expected, hint=hint
        )

    @cached_property
    def _marks(self) -> dict[str, Mark]:
        """Path -> place of the key; of the value in a list."""
        marks: dict[str, Mark] = {}
        open_paths: list[tuple[str, int | None]] = []  # the path around, and the index where it is a list
        line, line_start, scanned = 1, 0, 0
        key, expecting_key = "", False
        for token in _TOKEN.finditer(self.text):
            newlines = self.text.count("\n", scanned, token.start())
            if newlines:
                line, line_start = line + newlines, self.text.rfind("\n", scanned, token.start()) + 1
            scanned = token.start()
            here, first = Mark(line, token.start() - line_start + 1), token[0][0]
            if first in "}]":
                open_paths.pop()
                expecting_key = False
                continue
            if first == ",":
                around, index = open_paths[-1]
                open_paths[-1] = (around, index if index is None else index + 1)
                expecting_key = index is None
                continue
            if first == ":":
                continue
            if expecting_key:
                key = child_path(open_paths[-1][0], json.loads(token[0]))
                marks.setdefault(key, here)
                expecting_key = False
                continue
            around, index = open_paths[-1] if open_paths else ("", None)
            path = key if index is None else child_path(around, index)
            if index is not None:
                marks.setdefault(path, here)
            if first in "{[":
                open_paths.append((path if open_paths else "", None if first == "{" else 0))
                expecting_key = first == "{"
        return marks


def read(path: Path) -> JsonText:
    """The object in a JSON file. Raises SpecError where it cannot be read, is too large, or is no such thing."""
    name = str(path)
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size > MAX_BYTES:
                raise whole_file(name, f"{status.st_size:,} bytes", f"a config of at most {MAX_BYTES:,} bytes")
            data = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise whole_file(name, "this is a directory", EXPECTED) from None
    except FileNotFoundError:
        raise whole_file(name, "no such file", EXPECTED) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise whole_file(name, f"cannot be read: {reason}", EXPECTED) from None
    return decode(data, name)


def decode(data: bytes, name: str, *, expected: str = EXPECTED) -> JsonText:
    """The object in `data`. Raises SpecError as `read` does."""
    if len(data) > MAX_BYTES:
        raise whole_file(name, f"more than {MAX_BYTES:,} bytes", expected)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise whole_file(name, "this is not UTF-8 text", expected, line=line) from None
    if text.count(",") > MAX_VALUES:
        raise whole_file(name, f"more than {MAX_VALUES:,} values", expected)
    root = parse(text, name, expected=expected)
    if not isinstance(root, dict):
        raise whole_file(name, f"the root is {shown(root)}", expected)
    if _SURROGATE.search(text) and not _is_text(root):
        raise whole_file(name, "half of a surrogate pair, which stands for no character", expected)
    return JsonText(name, text, root)


def parse(text: str, name: str, *, expected: str = EXPECTED, bounded: bool = False) -> Any:
    """Any JSON value. Raises SpecError where the text is not strict JSON, or nests deeper than `MAX_DEPTH`.

    With `bounded` the depth is not looked at first, for texts of many megabytes whose brackets the caller has counted:
    what nests deeper than Python's reader recurses, which is its recursion limit, is refused all the same.
    """
    if not bounded and _too_deep(text):
        raise whole_file(name, f"nested deeper than {MAX_DEPTH}", expected)
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        problem = Problem(
            file=name,
            line=error.lineno,
            column=error.colno,
            path="",
            found=f"this is not JSON: {error.msg}",
            expected=expected,
        )
        raise SpecError([problem]) from None
    except _NotStrict as error:
        raise whole_file(name, str(error), expected) from None
    except (ValueError, RecursionError) as error:
        raise whole_file(name, f"this is not JSON: {short(str(error))}", expected) from None


def _is_text(value: Any) -> bool:
    """Whether all text of a value can be written: an escape may be half of a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A JSON value as a message says it."""
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list) and len(value) > 8:
        return f"a list of {len(value):,}"
    return short(json.dumps(value, ensure_ascii=False))


class _NotStrict(ValueError):
    """What Python's reader takes and JSON does not have."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _NotStrict(f"the key {short(twice)!r} stands twice in one object")
    return found


def _constant(word: str) -> float:
    if word in ("Infinity", "-Infinity"):
        return float(word)
    raise _NotStrict(f"found {word}, which JSON does not have")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _NotStrict(f"found a number of {len(digits):,} digits")
    return int(digits)


def _too_deep(text: str) -> bool:
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first in "}]":
            depth -= 1
    return False
