"""The header of one safetensors file: an 8-byte length, that many bytes of JSON, and the data, which is not read.

The format and its rules: https://github.com/huggingface/safetensors (README, "Format") and safetensors 0.8.0
(https://pypi.org/project/safetensors/0.8.0/), read 2026-11-30. A file that its own reader would refuse is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmprof.importing import jsontext
from llmprof.importing.headers.reading import opened, refuse_pointer, wrong
from llmprof.importing.headers.tensor import MAX_ELEMENTS, MAX_RANK, MAX_TENSORS, StoredFile, StoredTensor
from llmprof.importing.jsontext import shown
from llmprof.spec.source import whole_file
from llmprof.spec.words import did_you_mean

BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of one value of each dtype: the variants of `Dtype` of safetensors 0.8.0."""

LENGTH = 8
MAX_HEADER = 100_000_000
"""The format's own limit on the length of the JSON."""
EXPECTED = "a safetensors file"
METADATA = "__metadata__"

# What a header of MAX_TENSORS may have of each character; counted before anything is built, at the speed of memory.
_MOST = {b"{": 1, b"[": 2, b":": 5, b",": 8}
_FREE = 1 << 16


def read_safetensors(path: Path) -> StoredFile:
    """The tensors of one file. Raises SpecError, which names the file and the tensor, for all that the format forbids.

    That is a length beyond the file or the limit; JSON that is not strict, or names a tensor twice; an unknown dtype;
    a shape that is no list of whole numbers from 0; offsets that are out of range, overlap, leave holes, or span
    another number of bytes than shape and dtype.
    """
    name = str(path)
    with opened(path, EXPECTED) as (stream, size):
        first = stream.read(LENGTH)
        refuse_pointer(first, name, EXPECTED)
        if len(first) < LENGTH:
            raise whole_file(name, f"{size:,} bytes", f"{EXPECTED}, which begins with a length of {LENGTH} bytes")
        length = int.from_bytes(first, "little")
        if length > MAX_HEADER:
            raise whole_file(
                name, f"a header of {length:,} bytes", f"{EXPECTED}: its header has at most {MAX_HEADER:,}"
            )
        if LENGTH + length > size:
            raise whole_file(
                name,
                f"a header of {length:,} bytes in a file of {size:,}",
                "a file that holds its header",
                hint="it may have been cut off",
            )
        data = stream.read(length)
    if len(data) != length:
        raise whole_file(name, "cannot be read: it became shorter", EXPECTED)
    entries = _parse(data, name)
    metadata = entries.pop(METADATA, {})
    tensors = _tensors(entries, metadata, name, path.name, size - LENGTH - length)
    return StoredFile(path=name, kind="safetensors", tensors=tensors, files={path.name: size})


def _parse(data: bytes, name: str) -> dict[str, Any]:
    """The object of the header."""
    what = "the header of a safetensors file"
    if not data.startswith(b"{"):
        raise whole_file(name, "the header does not begin with {", what)
    bounded(data, name, what)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise whole_file(name, "the header is not UTF-8 text", what) from None
    found = jsontext.parse(text, name, expected=what, bounded=True)
    if not isinstance(found, dict):
        raise whole_file(name, f"the header is {shown(found)}", what)
    return found


def bounded(data: bytes, name: str, what: str) -> None:
    """SpecError where a text has more brackets, colons or commas than `MAX_TENSORS` tensors need."""
    for sign, each in _MOST.items():
        if data.count(sign) > each * MAX_TENSORS + _FREE:
            raise whole_file(name, f"more than {each * MAX_TENSORS:,} {sign.decode()!r}", f"{what} of {_few()}")


def _few() -> str:
    return f"at most {MAX_TENSORS:,} tensors"


def _tensors(entries: dict[str, Any], metadata: Any, name: str, file: str, room: int) -> tuple[StoredTensor, ...]:
    """The tensors, in the order in which their data lie; `room` is how many bytes of data the file has."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise wrong(name, METADATA, f"found {shown(metadata)}", "an object whose values are texts")
    if len(entries) > MAX_TENSORS:
        raise whole_file(name, f"{len(entries):,} tensors", _few())
    placed = sorted(((*_entry(key, entries[key], name), key) for key in entries), key=lambda each: (each[0], each[1]))
    tensors, end = [], 0
    for begin, stop, dtype, shape, key in placed:
        if begin != end:
            fault = "overlaps what stands before it" if begin < end else f"leaves {begin - end:,} bytes before it"
            raise wrong(name, key, f"data_offsets [{begin}, {stop}], which {fault}", f"data that begin at {end:,}")
        if stop > room:
            raise wrong(
                name,
                key,
                f"data up to {stop:,} in a file that has {max(room, 0):,} bytes behind its header",
                "data_offsets within the file",
                "it may have been cut off",
            )
        end = stop
        tensors.append(StoredTensor(key, dtype, shape, stop - begin, file))
    if end != room:
        raise whole_file(
            name, f"{room:,} bytes behind the header, of which the tensors take {end:,}", "a file that is its tensors"
        )
    return tuple(tensors)


_KEYS = {"dtype", "shape", "data_offsets"}


def _entry(key: str, entry: Any, name: str) -> tuple[int, int, str, tuple[int, ...]]:
    """Begin, end, dtype and shape of one tensor, each valid by itself and with the others."""
    if not key.isascii() and any("\ud800" <= sign <= "\udfff" for sign in key):
        raise wrong(name, ascii(key)[1:-1], "half of a surrogate pair in the name", "a name that is text")
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        found = f"an object with {', '.join(map(repr, entry))}" if isinstance(entry, dict) and entry else shown(entry)
        raise wrong(name, key, f"found {found[:120]}", "an object with dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        near = did_you_mean(dtype, list(BITS)) if isinstance(dtype, str) else None
        raise wrong(name, f"{key}.dtype", f"found {shown(dtype)}", "one of " + ", ".join(BITS), near or None)
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(_size(item) for item in shape):
        raise wrong(name, f"{key}.shape", f"found {shown(shape)}", f"at most {MAX_RANK} whole numbers from 0")
    elements = 1
    for item in shape:
        elements *= item
        if elements > MAX_ELEMENTS:
            raise wrong(name, f"{key}.shape", f"found {shown(shape)}", f"at most {MAX_ELEMENTS:,} values")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_size(item) for item in offsets):
        raise wrong(name, f"{key}.data_offsets", f"found {shown(offsets)}", "two whole numbers from 0")
    begin, end = offsets
    nbytes, rest = divmod(elements * bits, 8)
    if rest:
        raise wrong(name, f"{key}.shape", f"{elements:,} values of {bits} bits", "whole bytes")
    if end - begin != nbytes:
        raise wrong(
            name,
            f"{key}.data_offsets",
            f"found [{begin}, {end}], which are {end - begin:,} bytes",
            f"the {nbytes:,} bytes of {elements:,} values of {dtype}",
        )
    return begin, end, dtype, tuple(shape)


def _size(item: Any) -> bool:
    return type(item) is int and 0 <= item <= MAX_ELEMENTS
