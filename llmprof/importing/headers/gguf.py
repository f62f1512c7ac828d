"""The header of a GGUF file: metadata, and the list of tensors. The data behind it is not read.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and its readers in the package gguf 0.19.0
(`gguf_reader.py`; https://pypi.org/project/gguf/0.19.0/), read 2026-11-30. Versions 2 and 3 are read, of either byte
order.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from llmprof.importing.headers.ggml import TYPES, GgmlType
from llmprof.importing.headers.reading import opened, refuse_pointer, wrong
from llmprof.importing.headers.tensor import MAX_ELEMENTS, MAX_TENSORS, StoredFile, StoredTensor
from llmprof.importing.jsontext import shown
from llmprof.spec.source import whole_file

EXPECTED = "a GGUF file"
MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
MAX_DIMS = 4
"""`GGML_MAX_DIMS`."""
MAX_NAME = 64 * 1024
"""Bytes of a key or of a tensor's name; ggml itself takes 65,535 and 64."""
MAX_KEYS = 1 << 16
MAX_VALUES = 1 << 22
"""Values of all metadata together: the tokens, scores and merges of the largest vocabularies are under 2**21."""
MAX_BYTES = 1 << 28
"""Bytes of a header."""
MAX_NESTING = 4
MAX_LISTS = 1 << 14

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS: Mapping[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""The types of metadata values by their number, as `struct` calls them; 8 are texts, 9 arrays."""


class Array(list[Any]):
    """An array of the metadata. Of texts only their number is kept: what a tokenizer says is of no use here."""

    def __init__(self, items: list[Any], length: int) -> None:
        super().__init__(items)
        self.length = length


def read_gguf(path: Path) -> StoredFile:
    """The metadata and the tensors of one file, or of the set that it is the first of.

    Raises SpecError, which names the file and the key or tensor, for another magic or version; lengths that the file or
    the bounds above do not hold; unknown types of values or tensors; rows that are no whole blocks; offsets that are
    not aligned, out of range, or overlap.
    """
    first = _read_one(path)
    count = first.metadata.get("split.count", 1)
    if type(count) is not int or count <= 1:
        return first
    return _split(path, first, count)


_PART = re.compile(r"(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)


def _split(path: Path, first: StoredFile, count: int) -> StoredFile:
    """All files of a set that `gguf-split` has written; the metadata of the model stands in the first."""
    name, match = str(path), _PART.fullmatch(path.name)
    if match is None or int(match["count"]) != count or count > MAX_KEYS:
        raise wrong(name, "split.count", f"found {count:,} in {path.name}", f"a name that ends in -of-{count:05}.gguf")
    if int(match["number"]) != 1:
        raise whole_file(name, f"part {int(match['number'])} of {count}", "the first part, which has the metadata")
    tensors: dict[str, StoredTensor] = {}
    files: dict[str, int] = {}
    for number in range(1, count + 1):
        part = first if number == 1 else _read_one(path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf"))
        if part.metadata.get("split.no") != number - 1 or part.metadata.get("split.count") != count:
            raise wrong(part.path, "split.no", f"found {shown(part.metadata.get('split.no'))}", f"part {number - 1}")
        files.update(part.files)
        if len(tensors) + len(part.tensors) > MAX_TENSORS:
            raise whole_file(name, f"more than {MAX_TENSORS:,} tensors", f"at most {MAX_TENSORS:,} in all files")
        for tensor in part.tensors:
            if tensors.setdefault(tensor.name, tensor) is not tensor:
                raise wrong(part.path, tensor.name, "found in two parts", "each tensor once")
    return StoredFile(
        path=name, kind="gguf", tensors=tuple(tensors.values()), files=files, facts=first.facts, metadata=first.metadata
    )


def _read_one(path: Path) -> StoredFile:
    name = str(path)
    with opened(path, EXPECTED) as (stream, size):
        magic = stream.read(4)
        reader = _Reader(stream, size, name)
        refuse_pointer(magic, name, EXPECTED)
        if magic != MAGIC:
            raise whole_file(name, f"the first bytes are {magic!r}", f"{EXPECTED}, which begins with {MAGIC.decode()}")
        version = reader.scalar("I", "the version")
        if version not in VERSIONS and int.from_bytes(struct.pack("<I", version), "big") in VERSIONS:
            reader.order = ">"
            version = int.from_bytes(struct.pack("<I", version), "big")
        if version not in VERSIONS:
            raise whole_file(
                name, f"GGUF version {version:,}", "version 2 or 3", hint="convert it with a newer llama.cpp"
            )
        tensor_count, key_count = reader.scalar("Q", "the number of tensors"), reader.scalar("Q", "the number of keys")
        if tensor_count > MAX_TENSORS:
            raise whole_file(name, f"{tensor_count:,} tensors", f"at most {MAX_TENSORS:,}")
        if key_count > MAX_KEYS:
            raise whole_file(name, f"{key_count:,} keys", f"at most {MAX_KEYS:,}")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = reader.text("a key", MAX_NAME)
            if key in metadata:
                raise wrong(name, key, "found twice", "each key once")
            metadata[key] = reader.value(key)
        infos = [_info(reader, name) for _ in range(tensor_count)]
        begin = reader.at
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= MAX_BYTES or alignment & (alignment - 1):
        raise wrong(name, "general.alignment", f"found {shown(alignment)}", "a power of two")
    data = -(-begin // alignment) * alignment
    tensors = _placed(infos, name, path.name, size, data, alignment)
    facts = ["the file is big-endian"] if reader.order == ">" else []
    behind = size - data - sum(-(-tensor.nbytes // alignment) * alignment for tensor in tensors)
    if behind > 0:
        facts.append(f"{behind:,} bytes stand behind the last tensor")
    return StoredFile(
        path=name, kind="gguf", tensors=tensors, files={path.name: size}, facts=tuple(facts), metadata=metadata
    )


_Info = tuple[str, GgmlType, tuple[int, ...], int, int]
"""Name, type, shape with rows last, bytes, offset."""


def _info(reader: _Reader, file: str) -> _Info:
    name = reader.text("a tensor's name", MAX_NAME)
    rank = reader.scalar("I", f"the rank of {name}")
    if rank > MAX_DIMS:
        raise wrong(file, name, f"found {rank:,} axes", f"at most {MAX_DIMS}")
    # ggml counts axes from the fastest; torch, and this program, from the slowest.
    shape = tuple(reversed([reader.scalar("Q", f"the shape of {name}") for _ in range(rank)]))
    number, offset = reader.scalar("I", f"the type of {name}"), reader.scalar("Q", f"the offset of {name}")
    kind = TYPES.get(number)
    if kind is None:
        raise wrong(file, name, f"found type {number}", "a type of ggml that this version of llmprof knows")
    elements = 1
    for size in shape:
        elements *= size
        if elements > MAX_ELEMENTS:
            raise wrong(file, name, f"found the shape {shown(list(shape))}", f"at most {MAX_ELEMENTS:,} values")
    row = shape[-1] if shape else 1
    if row % kind.block:
        raise wrong(file, name, f"found rows of {row:,} in {kind.name}", f"rows of whole blocks of {kind.block}")
    return name, kind, shape, elements // kind.block * kind.nbytes, offset


def _placed(
    infos: list[_Info], name: str, file: str, size: int, begin: int, alignment: int
) -> tuple[StoredTensor, ...]:
    """The tensors, in the order of their data, which begin at `begin`."""
    tensors: list[StoredTensor] = []
    seen: set[str] = set()
    end = 0
    for key, kind, shape, nbytes, offset in sorted(infos, key=lambda info: info[4]):
        if key in seen:
            raise wrong(name, key, "found twice", "each tensor once")
        seen.add(key)
        if offset % alignment:
            raise wrong(name, key, f"found the offset {offset:,}", f"a multiple of {alignment}")
        expected = -(-end // alignment) * alignment
        if offset != expected:
            fault = "overlap what stands before" if offset < end else "leave bytes that no tensor has"
            raise wrong(name, key, f"data from {offset:,}, which {fault}", f"data from {expected:,}")
        end = offset + nbytes
        if begin + end > size:
            raise wrong(
                name,
                key,
                f"data up to byte {begin + end:,} of a file of {size:,}",
                "data within the file",
                "it may have been cut off",
            )
        tensors.append(StoredTensor(key, kind.name, shape, nbytes, file))
    return tuple(tensors)


class _Reader:
    """Reads one header from a stream, and never beyond what the file and the bounds hold."""

    def __init__(self, stream: BinaryIO, size: int, name: str) -> None:
        self._stream, self._size, self._name = stream, size, name
        self._values = self._lists = 0
        self.order = "<"
        self.at = 4  # behind the magic

    def scalar(self, form: str, what: str) -> Any:
        """One number. SpecError where the file ends before it."""
        return struct.unpack(self.order + form, self._bytes(struct.calcsize(self.order + form), what))[0]

    def text(self, what: str, most: int) -> str:
        """A text of at most `most` bytes."""
        length = self.scalar("Q", f"the length of {what}")
        if length > most:
            raise wrong(self._name, what, f"found {length:,} bytes", f"at most {most:,}")
        data = self._bytes(length, what)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise wrong(self._name, what, f"found {data[:20]!r}", "UTF-8 text") from None

    def value(self, key: str) -> Any:
        """The value of a key, whatever its type."""
        return self._value(key, self.scalar("I", f"the type of {key}"), 0)

    def _value(self, key: str, kind: int, depth: int) -> Any:
        self._count(key, 1)
        if kind == _STRING:
            return self.text(key, MAX_BYTES)
        if kind == _ARRAY:
            return self._array(key, depth)
        form = _SCALARS.get(kind)
        if form is None:
            raise wrong(self._name, key, f"found a value of type {kind}", "one of the types 0 to 12")
        if kind == _BOOL:
            return self._truth(key, self.scalar("B", key))
        return self.scalar(form, key)

    def _truth(self, key: str, value: int) -> bool:
        if value > 1:
            raise wrong(self._name, key, f"found the truth value {value}", "0 or 1")
        return value == 1

    def _array(self, key: str, depth: int) -> Array:
        if depth >= MAX_NESTING:
            raise wrong(self._name, key, f"arrays nested deeper than {MAX_NESTING}", "a shallower value")
        kind, length = self.scalar("I", f"the type of {key}"), self.scalar("Q", f"the length of {key}")
        self._count(key, length)
        form = _SCALARS.get(kind)
        if form is not None:
            width = struct.calcsize("<" + form)
            data = self._bytes(length * width, key)
            if kind == _BOOL:
                return Array([self._truth(key, byte) for byte in data], length)
            return Array(list(struct.unpack(f"{self.order}{length}{form}", data)), length)
        if kind == _STRING:
            self._skip_texts(length, key)
            return Array([], length)
        if kind != _ARRAY:
            raise wrong(self._name, key, f"found an array of type {kind}", "one of the types 0 to 12")
        self._lists += length
        if self._lists > MAX_LISTS:
            raise wrong(self._name, key, f"more than {MAX_LISTS:,} lists in lists", "the metadata of a model")
        return Array([self._value(key, _ARRAY, depth + 1) for _ in range(length)], length)

    def _count(self, key: str, more: int) -> None:
        self._values += more
        if self._values > MAX_VALUES:
            raise wrong(self._name, key, f"more than {MAX_VALUES:,} values in all metadata", "the metadata of a model")

    def _room(self, length: int, what: str) -> None:
        at = self.at
        if at + length > self._size:
            raise wrong(
                self._name,
                what,
                f"{length:,} bytes at byte {at:,} of a file of {self._size:,}",
                "a file that holds its header",
                "it may have been cut off",
            )
        if at + length > MAX_BYTES:
            raise wrong(self._name, what, f"a header beyond {MAX_BYTES:,} bytes", "a header within that")
        self.at = at + length

    def _bytes(self, length: int, what: str) -> bytes:
        self._room(length, what)
        data = self._stream.read(length)
        if len(data) != length:
            raise whole_file(self._name, "cannot be read: it became shorter", EXPECTED)
        return data

    def _skip_texts(self, length: int, key: str) -> None:
        """Passes over so many texts, of which nothing is kept: a vocabulary has hundreds of thousands."""
        read, seek, order = self._stream.read, self._stream.seek, "little" if self.order == "<" else "big"
        at, end = self.at, min(self._size, MAX_BYTES)
        for _ in range(length):
            size = int.from_bytes(read(8), order)  # type: ignore[arg-type]
            at += 8 + size
            if at > end:
                self._room(at - self.at, key)
            seek(size, 1)
        self._room(at - self.at, key)
