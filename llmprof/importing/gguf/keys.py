"""The metadata of a GGUF file as a table reads it: every key by name and kind, and a record of what was read."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import Any, NoReturn

from llmprof.errors import SpecError
from llmprof.importing.config import MAX_SIZE
from llmprof.importing.headers.gguf import Array
from llmprof.importing.headers.reading import wrong
from llmprof.importing.headers.tensor import StoredFile, StoredTensor
from llmprof.importing.jsontext import shown
from llmprof.spec.words import did_you_mean

_BLOCK = re.compile(r"blk\.([0-9]{1,6})\.")

FREE = ("general.", "tokenizer.", "split.", "quantize.", "imatrix.", "adapter.")
"""Keys that are about the file, its tokens, or how it was made; they decide no shape."""


class Keys:
    """The keys below an architecture's name, and the fields of a config that they become.

    `fields` is the config so far, `sources` field -> the key that it came from, `remarks` what a reader of the spec
    should know. What no table has read stops the
    import at `finish`, because a key that is not understood may decide a shape.
    """

    def __init__(self, file: StoredFile, architecture: str) -> None:
        self.file, self.architecture = file, architecture
        self.tensors: Mapping[str, StoredTensor] = {tensor.name: tensor for tensor in file.tensors}
        self.fields: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.remarks: list[str] = []
        self._asked: set[str] = set()
        self._last = 1 + max((int(match[1]) for match in map(_BLOCK.match, self.tensors) if match), default=0)

    # --- reading ------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Whether the key is there. It counts as read."""
        return self._value(key) is not None

    def size(self, key: str, *, default: int | None = None, least: int = 1) -> int:
        """A whole number; of a list with one for each layer the one that all have. Stops where there is none."""
        value = self._value(key)
        if isinstance(value, Array) and value and all(item == value[0] for item in value):
            value = value[0]
        if value is None and default is not None:
            return default
        if type(value) is not int or not least <= value <= MAX_SIZE:
            self.wrong(key, f"a whole number from {least}, the same for all layers")
        return value

    def layers(self) -> int:
        """How many layers there are. Stops where the file has no tensor of the last of them."""
        count = self.size("block_count")
        if count > self._last:
            self.wrong("block_count", f"the {self._last} layers that the file has tensors of")
        return count

    def number(self, key: str, *, default: float | None = None) -> float:
        """A finite number above 0, as short as fp32 allows: files keep 1e-5 as the fp32 that is nearest to it."""
        value = self._value(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not 0 < value < math.inf:
            self.wrong(key, "a number above 0")
        return shortest(float(value))

    def flag(self, key: str, *, default: bool) -> bool:
        """A truth value."""
        value = self._value(key)
        if value is None:
            return default
        if type(value) is not bool:
            self.wrong(key, "a truth value")
        return value

    def word(self, key: str, *known: str) -> str | None:
        """One of the known words, or None where the key is not there."""
        value = self._value(key)
        if value is not None and value not in known:
            self.wrong(key, "one of " + ", ".join(known))
        return value if isinstance(value, str) else None

    def must(self, key: str, *values: Any, why: str) -> None:
        """A key that is understood at some values only; absent counts as understood."""
        value = self._value(key)
        if isinstance(value, float):
            value = shortest(value)
        if value is not None and not any(type(value) is type(each) and value == each for each in values):
            self.wrong(key, f"{' or '.join(shown(each) for each in values)}: {why}")

    def ignore(self, *keys: str) -> None:
        """Keys that decide no shape, no kernel and no byte."""
        self._asked.update(keys)

    # --- tensors ------------------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, rows last. Stops where there is none."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise wrong(
                self.file.path, name, "the tensor is missing", f"a file of the architecture {self.architecture}"
            )
        return tensor.shape

    def holds(self, name: str, shape: tuple[int, ...], why: str) -> None:
        """Stops where a tensor of every layer, ``blk.N.`` before its `name`, is there with another shape."""
        for layer in range(self.layers()):
            tensor = self.tensors.get(f"blk.{layer}.{name}")
            if tensor is not None and tensor.shape != shape:
                found = f"found {list(tensor.shape)}"
                raise wrong(self.file.path, tensor.name, found, f"{list(shape)}, {why}")

    def in_all(self, name: str) -> bool:
        """Whether every layer has a tensor; stops where some have it and some not."""
        count = self.layers()
        there = sum(f"blk.{layer}.{name}" in self.tensors for layer in range(count))
        if there not in (0, count):
            raise wrong(self.file.path, f"blk.N.{name}", f"found in {there} of {count} layers", "in all or in none")
        return there > 0

    # --- writing ------------------------------------------------------------------------------------

    def put(self, field: str, value: Any, key: str | None = None) -> None:
        """Sets a field of the config; `key` is where the value came from, if from one."""
        self.fields[field] = value
        if key is not None:
            self.sources[field] = f"{self.architecture}.{key}"

    def finish(self) -> None:
        """Stops where a key below the architecture's name was not read."""
        prefix = f"{self.architecture}."
        for key, value in self.file.metadata.items():
            short = key.removeprefix(prefix)
            if key.startswith(FREE) or (key.startswith(prefix) and short in self._asked):
                continue
            near = did_you_mean(short, sorted(self._asked))
            expected = f"only keys that the table of {self.architecture} understands: this one may decide a shape"
            raise wrong(self.file.path, key, f"found {_said(value)}", expected, near or None)

    def wrong(self, key: str, expected: str) -> NoReturn:
        """Stops at a key."""
        value = self._value(key)
        found = "the key is missing" if value is None else f"found {_said(value)}"
        raise wrong(self.file.path, f"{self.architecture}.{key}", found, expected)

    def renamed(self, error: SpecError) -> SpecError:
        """An error of the family's table, at the keys of this file in place of the fields of a config."""
        problems = []
        for problem in error.problems:
            path = self.sources.get(problem.path.partition(".")[0], problem.path)
            problems.append(
                type(problem)(
                    file=self.file.path,
                    line=None,
                    column=None,
                    path=path,
                    found=problem.found,
                    expected=problem.expected,
                    hint=problem.hint,
                )
            )
        return SpecError(problems)

    def _value(self, key: str) -> Any:
        self._asked.add(key)
        return self.file.metadata.get(f"{self.architecture}.{key}")


def _said(value: Any) -> str:
    return f"a list of {value.length:,}" if isinstance(value, Array) else shown(value)


def shortest(value: float) -> float:
    """The number with the fewest digits that is the same fp32."""
    try:
        wanted = struct.pack("<f", value)
    except OverflowError:  # kept as fp64
        return value
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == wanted:
            return short
    return value
