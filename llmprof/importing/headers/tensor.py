"""The tensors of a file of weights, as its header lists them, and how much of a header is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

MAX_TENSORS = 1 << 19
"""Tensors of one release, over all its files. The largest that is known here has a few hundred thousand: 61 layers of
384 experts, three matrices each, every one with its scales. A header that lists more is refused before it is parsed.
"""
MAX_RANK = 16
"""Axes of one tensor; what is released has at most five."""
MAX_ELEMENTS = 2**62
"""Values of one tensor, so that no reader of the file could count on in 64 bits what this one accepts."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor: its name, its dtype as the format calls it, its shape (rows last, as torch prints it), its bytes.

    `file` is the name of the file that holds it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: str

    @property
    def elements(self) -> int:
        """The product of the shape: what the header says, packed or not."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One release: all its files, and what their headers say.

    `path` is what was named, `kind` is ``safetensors`` or ``gguf``. `files` are the sizes of the files in bytes by
    name, `facts` what the headers say beside the tensors and is worth a remark. `metadata` is that of a GGUF file.
    """

    path: str
    kind: str
    tensors: tuple[StoredTensor, ...]
    files: Mapping[str, int]
    facts: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """Values of all tensors, as the shapes say."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; headers and padding are not among them."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def by_dtype(self) -> Iterator[tuple[str, int, int, int]]:
        """Each dtype with its tensors, values and bytes, the most bytes first."""
        count: Counter[str] = Counter()
        elements: Counter[str] = Counter()
        nbytes: Counter[str] = Counter()
        for tensor in self.tensors:
            count[tensor.dtype] += 1
            elements[tensor.dtype] += tensor.elements
            nbytes[tensor.dtype] += tensor.nbytes
        for dtype in sorted(count, key=lambda name: (-nbytes[name], name)):
            yield dtype, count[dtype], elements[dtype], nbytes[dtype]
