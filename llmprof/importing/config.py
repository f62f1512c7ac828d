"""A config as a family's table reads it: every field by name and kind, and a record of what was read.

A reader keeps account. What it hands out knows the field it came from, so that a wrong value is reported at its line;
a default or an inference carries a note, which ends up as a comment; and what nobody read is an error, because a field
that is not understood may decide a shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NoReturn, TypeVar

from llmprof.importing.account import MISSING, Account, Missing, same
from llmprof.importing.jsontext import JsonText, shown
from llmprof.spec.nodes import child_path, short
from llmprof.spec.problems import Report
from llmprof.spec.words import did_you_mean

T = TypeVar("T")
MAX_SIZE = 2**40
MOST_NAMES = 500
"""So many fields are looked at for one that was meant."""


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """A value with the fields it came from, and what a reader of the spec should be told of it."""

    value: T
    keys: tuple[str, ...] = ()
    note: str | None = None


def inferred(value: T, note: str, *of: Read[Any]) -> Read[T]:
    """A value that was made of others; `note` says how and why."""
    return Read(value, tuple(key for read in of for key in read.keys), note)


class Config:
    """An object of a config file. `path` is where it stands in the file, `family` what messages call its family.

    A field is read once or more often, by one of its `keys`: the first is the one that the family's class has, the
    others are spellings that released configs use. Two spellings that disagree are an error. A default is what the
    family's class has where the file says nothing; a default that is a `Read` or `inferred` is taken for ``null`` too,
    as the classes do. All errors but a missing field are collected, and raised by `finish`.
    """

    def __init__(
        self,
        source: JsonText,
        values: Mapping[str, Any],
        *,
        family: str,
        path: str = "",
        account: Account | None = None,
        passed: Mapping[str, Any] | None = None,
    ) -> None:
        self.source, self.path, self.family = source, path, family
        self.account = account if account is not None else Account(Report(source.file))
        self._values = {**values, **(passed or {})}
        self._passed = frozenset(passed or ())
        self._parts: dict[str, Config] = {}
        self.asked: set[str] = set()

    # --- reading ------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Whether the field is there and not null. It counts as read."""
        self._touch(key)
        return self._values.get(key) is not None

    def has_any(self, *keys: str) -> bool:
        """Whether one of the spellings is there and not null. All count as read."""
        there = [self.has(key) for key in keys]
        return any(there)

    def size(self, *keys: str, default: int | Read[int] | Missing = MISSING, least: int = 1) -> Read[int]:
        """A whole number from `least` to 2**40."""
        return self._read(
            keys, default, lambda v: type(v) is int and least <= v <= MAX_SIZE, f"a whole number from {least}"
        )

    def optional_size(
        self, *keys: str, default: int | Missing | None = MISSING, least: int = 1
    ) -> Read[int] | Read[None]:
        """The same, or None where the field is null."""
        found = self._find(keys)
        if found is not None and found[1] is None:
            return Read(None, (found[0],))
        if found is None and default is None:
            return Read(None, (), self._absent(keys, "null"))
        return self.size(*keys, default=1 if default is None else default, least=least)

    def number(self, *keys: str, default: float | Read[float] | Missing = MISSING) -> Read[float]:
        """A finite number above 0; whole ones are taken too."""
        good = self._read(
            keys,
            default,
            lambda v: type(v) in (int, float) and 0 < v < math.inf,
            "a number above 0",
        )
        return Read(float(good.value), good.keys, good.note)

    def optional_number(self, *keys: str, default: float | None) -> Read[float] | Read[None]:
        """The same, or None where the field is null."""
        found = self._find(keys)
        if found is not None and found[1] is None:
            return Read(None, (child_path(self.path, found[0]),))
        if found is None and default is None:
            return Read(None, (), self._absent(keys, "null"))
        return self.number(*keys, default=1.0 if default is None else default)

    def flag(self, *keys: str, default: bool | Read[bool] | Missing = MISSING) -> Read[bool]:
        """``true`` or ``false``."""
        return self._read(keys, default, lambda v: type(v) is bool, "true or false")

    def choice(
        self, *keys: str, of: Mapping[str, T], default: str | Missing = MISSING, note: str | None = None
    ) -> Read[T]:
        """What a word stands for, by the table `of`. A word that is not in it stops the import."""
        word = self._read(keys, default, lambda v: isinstance(v, str) and v in of, "one of " + ", ".join(of), words=of)
        if word.value not in of:  # already noted as a problem
            return Read(next(iter(of.values())), word.keys)
        return Read(of[word.value], word.keys, word.note or note)

    def words(self, *keys: str, of: Iterable[str], default: Sequence[str] | Read[Any] | Missing = MISSING) -> Read[Any]:
        """A list of words, each one of `of`."""
        known = tuple(of)
        good = self._read(
            keys,
            default,
            lambda v: (
                isinstance(v, list | tuple)
                and all(item in known for item in v if isinstance(item, str))
                and all(isinstance(item, str) for item in v)
            ),
            "a list of " + ", ".join(known),
        )
        return Read(tuple(good.value), good.keys, good.note)

    def sizes(self, *keys: str, default: Sequence[int] | Read[Any] | Missing = MISSING, least: int = 0) -> Read[Any]:
        """A list of whole numbers, each at least `least`."""
        good = self._read(
            keys,
            default,
            lambda v: (
                isinstance(v, list | tuple) and all(type(item) is int and least <= item <= MAX_SIZE for item in v)
            ),
            f"a list of whole numbers from {least}",
        )
        return Read(tuple(good.value), good.keys, good.note)

    def below(self, key: str) -> Config:
        """The object at `key`; an empty one where the field is absent or null. An error where it is no object."""
        self._touch(key)
        value = self._values.get(key)
        if value is not None and not isinstance(value, dict):
            self.wrong(key, "an object")
            value = None
        if key not in self._parts:
            at = child_path(self.path, key)
            self._parts[key] = Config(self.source, value or {}, family=self.family, path=at, account=self.account)
        return self._parts[key]

    def tower(self, key: str, *, passed: Mapping[str, Any] | None = None) -> Config:
        """The object at `key` for a table of its own: `passed` are fields of this object that hold for it too.

        It is not one of the `parts`, for that table answers for its fields. Raises SpecError where it is not there.
        """
        self._touch(key)
        value = self._values.get(key)
        if not isinstance(value, dict):
            self.stop(key, "an object")
        at = child_path(self.path, key)
        return Config(self.source, value, family=self.family, path=at, account=self.account, passed=passed)

    def parts(self) -> Iterator[Config]:
        """This object and the objects below it that were asked for."""
        yield self
        for part in self._parts.values():
            yield from part.parts()

    def raw(self, key: str) -> Any:
        """The value as it stands, or None; for fields of a shape of their own. It counts as read."""
        self._touch(key)
        return self._values.get(key)

    # --- fields that are not mapped ---------------------------------------------------------------

    def must(self, key: str, *values: Any, why: str) -> None:
        """A field that this family understands at some values only; absent counts as understood.

        `why` says what another value would mean.
        """
        self._touch(key)
        if key in self._values and not any(same(self._values[key], value) for value in values):
            wanted = " or ".join(shown(value) for value in values)
            self.refuse(key, f"{wanted}: {why}")

    def ignore(self, *keys: str) -> None:
        """Fields that decide no shape, no kernel and no byte in this family."""
        for key in keys:
            self._touch(key)

    def leave_out(self, key: str, why: str) -> None:
        """A field that the spec language has no place for and that changes no count: said in a remark."""
        self._touch(key)
        if self._values.get(key) is not None:
            self.remark(f"{child_path(self.path, key)} = {shown(self._values[key])} is left out: {why}")

    def remark(self, text: str) -> None:
        """Something that whoever reads the spec should know."""
        if text not in self.account.remarks:
            self.account.remarks.append(text)

    # --- what is wrong ------------------------------------------------------------------------------

    def refuse(self, key: str, expected: str) -> None:
        """Notes that a field has a value that is not understood; `finish` stops the import."""
        self._touch(key)
        path = child_path(self.path, key)
        found = f"found {shown(self._values.get(key))}, which this family's table does not understand"
        self._problem(path, found, expected)

    def wrong(self, key: str, expected: str, hint: str | None = None) -> None:
        """Notes that a value is of the wrong kind."""
        self._touch(key)
        self._problem(child_path(self.path, key), f"found {shown(self._values.get(key))}", expected, hint)

    def stop(self, key: str, expected: str) -> NoReturn:
        """As `refuse`, and ends at once: nothing sensible can be read after it."""
        self.refuse(key, expected)
        self._raise()

    def unread(self) -> dict[str, Any]:
        """The fields of this object that nobody has asked for."""
        return {key: value for key, value in self._values.items() if key not in self._passed and key not in self.asked}

    def finish(self) -> None:
        """Raises SpecError with every problem that was found."""
        self.account.report.raise_if_any()

    # --- inside ---------------------------------------------------------------------------------

    def _touch(self, key: str) -> None:
        self.asked.add(key)

    def _problem(self, path: str, found: str, expected: str, hint: str | None = None) -> None:
        self.account.report.take(self.source.problem(path, found, expected, hint))

    def _raise(self) -> NoReturn:
        """Ends the import: there is at least one problem."""
        self.account.report.raise_if_any()
        raise AssertionError("a problem has been noted")

    def _find(self, keys: Sequence[str]) -> tuple[str, Any] | None:
        """The first spelling that is there with a value, else one that is there with null; None where none is."""
        for key in keys:
            self._touch(key)
        there = [(key, self._values[key]) for key in keys if key in self._values]
        stated = [(key, value) for key, value in there if value is not None]
        for key, value in stated[1:]:
            if not same(value, stated[0][1]):
                self.wrong(key, f"{shown(stated[0][1])}, as {stated[0][0]} says: both name one thing")
        found = stated or there
        return found[0] if found else None

    def _absent(self, keys: Sequence[str], default: str) -> str:
        """The note of a field that is not in the file, which is thereby put down as defaulted."""
        path = child_path(self.path, keys[0])
        self.account.defaults[path] = default
        return f"{path} is not in the file: {default} is the default of {self.family}"

    def _read(
        self,
        keys: Sequence[str],
        default: Any,
        good: Callable[[Any], bool],
        expected: str,
        *,
        words: Mapping[str, Any] | None = None,
    ) -> Read[Any]:
        found = self._find(keys)
        if found is None or (found[1] is None and isinstance(default, Read)):
            if isinstance(default, Missing):
                near = did_you_mean(keys[0], list(islice(self.unread(), MOST_NAMES)))
                self._problem(self.path, f"the field {short(keys[0])!r} is missing", expected, near or None)
                self._raise()
            if isinstance(default, Read):
                absent = self._absent(keys, shown(default.value))
                return Read(default.value, default.keys, default.note or absent)
            return Read(default, (), self._absent(keys, shown(default)))
        key, value = found
        path = child_path(self.path, key)
        if good(value):
            return Read(value, (path,))
        near = did_you_mean(value, list(words)) if words is not None and isinstance(value, str) else None
        self._problem(path, f"found {shown(value)}", expected, near or None)
        # Goes on with something that fits, so that the other problems of the file are found too.
        return Read(self._standing_in(default, expected), (path,))

    def _standing_in(self, default: Any, expected: str) -> Any:
        if isinstance(default, Read):
            return default.value
        if not isinstance(default, Missing) and default is not None:
            return default
        return () if "list" in expected else 1
