"""The types of ggml: how many values make a block, and how many bytes a block has.

`ggml_type` and the sizes of its blocks: ggml/include/ggml.h and ggml/src/ggml-common.h of https://github.com/ggml-org/llama.cpp,
as the package gguf 0.19.0 has them (`GGMLQuantizationType`, `GGML_QUANT_SIZES`; https://pypi.org/project/gguf/0.19.0/,
read 2026-11-30). A test holds this table against that package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GgmlType:
    """One type: blocks of `block` values along a row, of `nbytes` bytes each, scales included."""

    name: str
    block: int
    nbytes: int


TYPES: Mapping[int, GgmlType] = {
    0: GgmlType("F32", 1, 4),
    1: GgmlType("F16", 1, 2),
    2: GgmlType("Q4_0", 32, 2 + 16),
    3: GgmlType("Q4_1", 32, 2 + 2 + 16),
    6: GgmlType("Q5_0", 32, 2 + 4 + 16),
    7: GgmlType("Q5_1", 32, 2 + 2 + 4 + 16),
    8: GgmlType("Q8_0", 32, 2 + 32),
    9: GgmlType("Q8_1", 32, 4 + 4 + 32),
    10: GgmlType("Q2_K", 256, 2 + 2 + 16 + 64),
    11: GgmlType("Q3_K", 256, 2 + 64 + 32 + 12),
    12: GgmlType("Q4_K", 256, 2 + 2 + 128 + 12),
    13: GgmlType("Q5_K", 256, 2 + 2 + 128 + 32 + 12),
    14: GgmlType("Q6_K", 256, 2 + 128 + 64 + 16),
    15: GgmlType("Q8_K", 256, 4 + 256 + 32),
    16: GgmlType("IQ2_XXS", 256, 2 + 64),
    17: GgmlType("IQ2_XS", 256, 2 + 64 + 8),
    18: GgmlType("IQ3_XXS", 256, 2 + 64 + 32),
    19: GgmlType("IQ1_S", 256, 2 + 32 + 16),
    20: GgmlType("IQ4_NL", 32, 2 + 16),
    21: GgmlType("IQ3_S", 256, 2 + 64 + 32 + 8 + 4),
    22: GgmlType("IQ2_S", 256, 2 + 32 + 32 + 16),
    23: GgmlType("IQ4_XS", 256, 2 + 2 + 128 + 4),
    24: GgmlType("I8", 1, 1),
    25: GgmlType("I16", 1, 2),
    26: GgmlType("I32", 1, 4),
    27: GgmlType("I64", 1, 8),
    28: GgmlType("F64", 1, 8),
    29: GgmlType("IQ1_M", 256, 32 + 16 + 8),
    30: GgmlType("BF16", 1, 2),
    34: GgmlType("TQ1_0", 256, 2 + 48 + 4),
    35: GgmlType("TQ2_0", 256, 2 + 64),
    39: GgmlType("MXFP4", 32, 1 + 16),
    40: GgmlType("NVFP4", 64, 4 + 32),
    41: GgmlType("Q1_0", 128, 2 + 16),
}
"""By the number that a header has. What is missing between was withdrawn (4, 5, 31 to 33, 36 to 38) and is refused."""
