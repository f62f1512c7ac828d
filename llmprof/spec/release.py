"""How the published files of a model hold its weights. One class per `kind` of packing.

It decides no shape and no kernel: `llmprof count` says from it what the files hold, and `llmprof compare` holds files
against it. A *matrix* is one output's inputs per row, [rows, columns]; each expert has matrices of its own.
docs/stored-weights.md says for every kind which tensors lie in the files, and where that was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import MinLen

from llmprof.spec.kinds import ByKind
from llmprof.spec.parts import PositiveInt

FloatDtype = Literal["fp32", "bf16", "fp16"]
ScaleDtype = Literal["fp32", "bf16", "fp16", "e8m0"]
Pattern = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8Blocks:
    """8-bit floats with a scale for every block of `rows` x `columns` values (DeepSeek-V3: 128 x 128)."""

    kind: Literal["fp8-blocks"] = "fp8-blocks"
    rows: PositiveInt
    columns: PositiveInt
    scale: ScaleDtype = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8:
    """8-bit floats with one scale for a whole matrix or for each row, and one of the inputs where it is fixed."""

    kind: Literal["fp8"] = "fp8"
    per: Literal["matrix", "row"]
    scale: ScaleDtype = "fp32"
    input_scale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gptq:
    """Integers of `bits` with a 16-bit scale and a packed zero point for every `group` columns of a row, and the group
    of each column as a 32-bit integer (https://arxiv.org/abs/2210.17323). Without `group`, a row is one."""

    kind: Literal["gptq"] = "gptq"
    bits: Literal[2, 3, 4, 8]
    group: PositiveInt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Awq:
    """Integers of 4 bits with a 16-bit scale and a packed zero point for every `group` columns of a row
    (https://arxiv.org/abs/2306.00978)."""

    kind: Literal["awq"] = "awq"
    group: PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class Mxfp4:
    """4-bit floats with a scale of one byte for every 32 columns of a row (OCP Microscaling Formats 1.0)."""

    kind: Literal["mxfp4"] = "mxfp4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvfp4:
    """4-bit floats with an 8-bit float for every 16 columns of a row, a 32-bit scale of the matrix, and with
    `input_scale` one of its inputs."""

    kind: Literal["nvfp4"] = "nvfp4"
    input_scale: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Integers:
    """Integers of `bits` with a scale for every `group` columns of a row, or for the row.

    `zero_point`: the zero points are kept too, packed like the values. `shape`: the two sizes of a matrix stand beside
    it as 64-bit integers.
    """

    kind: Literal["int"] = "int"
    bits: Literal[4, 8]
    group: PositiveInt | None = None
    scale: ScaleDtype = "bf16"
    zero_point: bool = False
    shape: bool = False


Packing = Fp8Blocks | Fp8 | Gptq | Awq | Mxfp4 | Nvfp4 | Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The files of a release: all in `dtype`, but for the matrices of attention and feed-forward that are packed.

    `spared` are paths of matrices that are not packed after all, such as ``layers.*.attn.o_proj``: a ``*`` stands for
    any text.
    """

    dtype: FloatDtype
    packing: Annotated[Packing, ByKind()] | None = None
    spared: tuple[Pattern, ...] = ()
