"""What a file and an architecture come to: every tensor in one item, and what is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from llmprof.importing.headers.tensor import StoredFile, StoredTensor
from llmprof.spec.arch import ArchSpec


class Kind(Enum):
    """What a tensor, or some rows of one, is to an architecture."""

    PARAMETER = "parameters"
    COPY = "copies of a table that is tied or shared"
    PADDING = "rows of padding in the vocabulary"
    BUFFER = "buffers"
    QUANTISATION = "scales, zeros and indices of quantisation"
    MTP = "layers that predict further tokens"
    TOWER = "towers of other modalities"
    TASK = "heads of other tasks"
    DIFFERS = "parameters of another size"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A tensor, or some of its rows. `path` is where it stands in the architecture, or what it belongs to.

    `values` are those that it stands for: of a packed tensor more than its header says. `whole` is false for the rows
    that were cut from a tensor, which counts once, where the rest of it stands.
    """

    kind: Kind
    tensor: StoredTensor
    values: int
    nbytes: int
    path: str
    note: str = ""
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """A parameter of the architecture that the file lacks, wholly or in part (of its experts), or has in another size.

    `expected` is how many values the architecture has there, `found` how many of them the file has. `differs`: the
    file has a tensor for it whose number of values or whose sides are others. `further` is that of a layer that
    predicts further tokens, which no total counts.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    expected: int
    found: int
    differs: bool = False
    further: bool = False


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A file against an architecture.

    `params_total` is the architecture's count. Every value and every byte of the file stands in one item:
    ``sum(items) == file``, and ``params_total - missing + extras == file`` (`balance`). `stated_bytes` is what the
    spec's release says of the parameters, with their scales: a fact beside `held_bytes`, for a file may be another
    release of the architecture.
    """

    arch: ArchSpec
    file: StoredFile
    params_total: int
    items: tuple[Item, ...]
    lacking: tuple[Lacking, ...]
    further_expected: int
    stated_bytes: int | None
    notes: tuple[str, ...]

    @cached_property
    def values(self) -> int:
        """Values that the tensors of the file stand for."""
        return sum(item.values for item in self.items)

    @cached_property
    def by_kind(self) -> Mapping[Kind, tuple[int, int, int]]:
        """Kind -> tensors, values, bytes; kinds that the file has, in the order of `Kind`."""
        made = {kind: [0, 0, 0] for kind in Kind}
        for item in self.items:
            row = made[item.kind]
            row[0] += item.whole
            row[1] += item.values
            row[2] += item.nbytes
        there = {item.kind for item in self.items}
        return {kind: (row[0], row[1], row[2]) for kind, row in made.items() if kind in there}

    @property
    def held_bytes(self) -> int:
        """Bytes of the parameters in the file, with what quantises them."""
        return sum(self.by_kind.get(kind, (0, 0, 0))[2] for kind in (Kind.PARAMETER, Kind.QUANTISATION))

    def balance(self) -> Iterator[tuple[str, int]]:
        """From the architecture's parameters to the values of the file, step by step; the last is the sum of all."""
        yield f"parameters of {self.arch.label}", self.params_total
        for differs, words in ((False, "of them not in the file"), (True, "of them of another size in the file")):
            absent = [each for each in self.lacking if each.differs is differs and not each.further]
            if absent:
                yield words, sum(each.found - each.expected for each in absent)
        for kind, (_, values, _) in self.by_kind.items():
            if kind is not Kind.PARAMETER:
                yield kind.value, values

    @property
    def explained(self) -> bool:
        """Whether every value has its place, and every parameter its values."""
        return not self.lacking and not {Kind.UNEXPLAINED, Kind.DIFFERS} & set(self.by_kind)
