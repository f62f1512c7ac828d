"""What the published files of an architecture hold in bytes, by the `release` of its spec.

Axis legend: see `tensor.py`; a matrix is [rows, columns], the rows its outputs. Formulas: docs/stored-weights.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import assert_never

from llmprof.errors import InputError
from llmprof.predict.leaf import Leaves, Parameter
from llmprof.predict.leaves import model_leaves
from llmprof.predict.mtp import further_leaves
from llmprof.spec.arch import ArchSpec
from llmprof.spec.nodes import short
from llmprof.spec.release import Awq, Fp8, Fp8Blocks, Gptq, Integers, Mxfp4, Nvfp4, Packing, Release

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "e8m0": 1}
_WORD = 32
"""Integers of few bits are packed into words of so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Bytes of all parameters as they are published, scales and what else a packed matrix comes with included.

    `mtp` are those of layers that predict further tokens, which `model` does not have. Copies of tables, buffers and
    the headers of files are in neither.
    """

    model: int
    mtp: int


@lru_cache(maxsize=128)
def released(arch: ArchSpec) -> Released | None:
    """The bytes, or None where the spec states no release.

    Raises InputError where a matrix cannot be packed in the way that is stated, or `spared` names none.
    """
    release = arch.release
    if release is None:
        return None
    model, further = model_leaves(arch), further_leaves(arch)
    _check_spared(arch, release, {**model, **further})
    return Released(model=_stored(arch, release, model), mtp=_stored(arch, release, further))


def _stored(arch: ArchSpec, release: Release, leaves: Leaves) -> int:
    return sum(_parameter(arch, release, path, p) for path, inside in leaves.items() for p in inside if p.owned)


def _parameter(arch: ArchSpec, release: Release, path: str, parameter: Parameter) -> int:
    packing = release.packing
    if packing is None or not parameter.packable or any(_means(spared, path) for spared in release.spared):
        return parameter.count * _BYTES[release.dtype]
    *outer, rows, columns = parameter.axes.values()
    nbytes = matrix_bytes(packing, rows, columns)
    if nbytes is None:
        raise InputError(
            f"{arch.label}: release: the matrix at {path}, {rows:,} x {columns:,}, does not fill whole words of "
            f"{_WORD} bits in {packing.kind}; spare it, or correct the packing"
        )
    return prod(outer) * nbytes


def matrix_bytes(packing: Packing, rows: int, columns: int) -> int | None:
    """Bytes of one packed matrix with all that comes with it; None where it does not fill whole words."""
    values = rows * columns
    match packing:
        case Fp8Blocks():
            scales = -(-rows // packing.rows) * -(-columns // packing.columns)
            return values + scales * _BYTES[packing.scale]
        case Fp8():
            scales = rows if packing.per == "row" else 1
            return values + (scales + packing.input_scale) * _BYTES[packing.scale]
        case Gptq():
            # Words run down the inputs, and along the outputs for the zero points; each input says its group.
            if (columns * packing.bits) % _WORD or (rows * packing.bits) % _WORD:
                return None
            groups = _groups(columns, packing.group)
            return (values + groups * rows) * packing.bits // 8 + 2 * groups * rows + 4 * columns
        case Awq():
            if (rows * 4) % _WORD:
                return None
            groups = _groups(columns, packing.group)
            return (values + groups * rows) // 2 + 2 * groups * rows
        case Mxfp4():
            return None if columns % 32 else values // 2 + values // 32
        case Nvfp4():
            return None if columns % 16 else values // 2 + values // 16 + 4 + 4 * packing.input_scale
        case Integers():
            return _integers(packing, rows, columns)
    assert_never(packing)


def _integers(packing: Integers, rows: int, columns: int) -> int:
    groups = _groups(columns, packing.group)
    if packing.bits == 8 and not packing.shape:
        values, zeros = rows * columns, groups * rows
    else:
        values, zeros = rows * _words(columns * packing.bits), groups * _words(rows * packing.bits)
    nbytes = values + groups * rows * _BYTES[packing.scale] + 16 * packing.shape
    return nbytes + zeros if packing.zero_point else nbytes


def _groups(columns: int, group: int | None) -> int:
    return 1 if group is None else -(-columns // group)


def _words(bits: int) -> int:
    """Bytes of the words that so many bits fill, the last one perhaps in part."""
    return -(-bits // _WORD) * _WORD // 8


def _means(pattern: str, path: str) -> bool:
    """Whether a pattern of `spared` is this path: a ``*`` stands for any text, and all else for itself."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), path) is not None


def _check_spared(arch: ArchSpec, release: Release, leaves: Leaves) -> None:
    packable = [path for path, inside in leaves.items() if any(p.packable for p in inside)]
    for pattern in release.spared:
        if not any(_means(pattern, path) for path in packable):
            raise InputError(
                f"{arch.label}: release.spared: {short(pattern)!r} is no matrix of attention or feed-forward here; "
                "`llmprof count --by module` lists the paths"
            )
