"""Files of weights that are nothing but a header: tiny writers of safetensors and GGUF, and how releases name tensors.

The data behind a header are a hole in a sparse file: nothing reads them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

BITS = {"F4": 4, "U8": 8, "I8": 8, "F8_E4M3": 8, "BF16": 16, "F16": 16, "F32": 32, "I32": 32, "U32": 32, "I64": 64}
"""The writer's own sizes of the dtypes that tests use."""

Tensors = Mapping[str, tuple[str, Sequence[int]]]
"""Name -> dtype and shape."""


def header(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> tuple[bytes, int]:
    """A safetensors header with its length before it, and how many bytes of data follow."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, end


def sparse(path: Path, head: bytes, behind: int) -> Path:
    """A file that begins with `head` and is a hole from there on."""
    path.write_bytes(head)
    with open(path, "r+b") as stream:
        stream.truncate(len(head) + behind)
    return path


def write_safetensors(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    """One file."""
    return sparse(path, *header(tensors, metadata))


def write_shards(folder: Path, shards: Sequence[Tensors], **changes: Any) -> Path:
    """Numbered shards and their index; `changes` replace keys of the index. Returns the index."""
    folder.mkdir(exist_ok=True)
    weight_map, total = {}, 0
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / name, tensors)
        weight_map.update(dict.fromkeys(tensors, name))
        total += sum(prod(shape) * BITS[dtype] // 8 for dtype, shape in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map, **changes}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    return path


# --- GGUF -----------------------------------------------------------------------------------------

FORMS = {"u8": (0, "B"), "u16": (2, "H"), "u32": (4, "I"), "i32": (5, "i"), "f32": (6, "f"), "u64": (10, "Q")}
"""What tests call the types of values -> their numbers in a file and in `struct`."""
GGML = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "Q6_K": (14, 256, 210)}
"""Name -> number, values and bytes of a block, of the types that tests use."""


class Gguf:
    """A GGUF header that is put together piece by piece. `order` is ``<`` or ``>``."""

    def __init__(self, order: str = "<", version: int = 3) -> None:
        self.order, self.version = order, version
        self.keys: list[bytes] = []
        self.infos: list[bytes] = []
        self.alignment, self.end = 32, 0

    def text(self, value: str) -> bytes:
        """A text with its length before it."""
        data = value.encode()
        return self.number("Q", len(data)) + data

    def number(self, form: str, value: Any) -> bytes:
        """One number."""
        return struct.pack(self.order + form, value)

    def value(self, value: Any, form: str) -> bytes:
        """A value with its type before it: texts, truths and lists by what they are, numbers as `form` says."""
        if isinstance(value, str):
            return self.number("I", 8) + self.text(value)
        if isinstance(value, bool):
            return self.number("I", 7) + self.number("B", value)
        if isinstance(value, list):
            items = [self.value(item, form) for item in value]
            kind = items[0][:4] if items else self.number("I", 4)
            return self.number("I", 9) + kind + self.number("Q", len(items)) + b"".join(item[4:] for item in items)
        number, letter = FORMS["f32" if isinstance(value, float) else form]
        return self.number("I", number) + self.number(letter, value)

    def key(self, name: str, value: Any, form: str = "u32") -> Gguf:
        """One key of the metadata."""
        self.keys.append(self.text(name) + self.value(value, form))
        return self

    def tensor(self, name: str, kind: str, shape: Sequence[int]) -> Gguf:
        """One tensor, its data behind those before it; `shape` has rows last."""
        number, block, size = GGML[kind]
        begin = -(-self.end // self.alignment) * self.alignment
        self.infos.append(self.info(name, list(reversed(shape)), number, begin))
        self.end = begin + prod(shape) // block * size
        return self

    def info(self, name: str, dims: Sequence[int], kind: int, offset: int) -> bytes:
        """An entry of the list of tensors, right or wrong."""
        sizes = b"".join(self.number("Q", size) for size in dims)
        counted = self.text(name) + self.number("I", len(dims)) + sizes
        return counted + self.number("I", kind) + self.number("Q", offset)

    def header(self) -> bytes:
        """The header, padded to where the data begin."""
        counts = self.number("Q", len(self.infos)) + self.number("Q", len(self.keys))
        made = b"GGUF" + self.number("I", self.version) + counts + b"".join(self.keys + self.infos)
        return made + b"\0" * (-len(made) % self.alignment)

    def write(self, path: Path) -> Path:
        """The file."""
        return sparse(path, self.header(), -(-self.end // self.alignment) * self.alignment)
