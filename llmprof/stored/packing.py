"""Quantised releases: what a tensor's companions are, and how many values a packed tensor stands for.

Names and layouts, per format (what was only known from use says so):

- block-scaled fp8 (DeepSeek-V3): ``weight`` in F8 and ``weight_scale_inv``, README_WEIGHTS.md of
  https://github.com/deepseek-ai/DeepSeek-V3 (read 2026-11-30); per tensor or row: ``weight_scale``, ``input_scale``.
- GPTQ: ``qweight`` [in x bits / 32, out], ``qzeros`` [in / group, out x bits / 32], ``scales`` [in / group, out],
  ``g_idx`` [in]; AWQ: ``qweight`` [in, out x bits / 32] and the same two. AutoGPTQ and AutoAWQ; recalled.
- compressed-tensors: ``weight_packed``, ``weight_scale``, ``weight_zero_point``, ``weight_shape``, ``weight_g_idx``,
  ``weight_global_scale``, ``input_global_scale``; https://github.com/vllm-project/compressed-tensors; recalled.
- ModelOpt: ``weight_scale``, ``weight_scale_2``, ``input_scale``, ``k_scale``, ``v_scale``; recalled.
- MXFP4 (GPT-OSS): ``NAME_blocks`` [.., n, 16] in U8, two values a byte, and ``NAME_scales`` [.., n];
  `integrations/mxfp4.py` of transformers 5.23.0 (https://pypi.org/project/transformers/5.23.0/, read 2026-11-30).
- bitsandbytes: ``weight`` in U8, two values a byte in one column, with ``weight.absmax``, ``weight.quant_map``, their
  nested forms and ``weight.quant_state.*``; 8-bit ``weight`` in I8 with ``SCB`` and ``weight_format``; recalled.
- MLX: ``weight`` in U32 with ``scales`` and ``biases``; recalled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from llmprof.importing.headers.tensor import StoredTensor

_SUFFIXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (".qzeros", (".qweight",)),
    (".scales", (".qweight", ".weight")),
    (".biases", (".weight",)),
    (".g_idx", (".qweight",)),
    (".SCB", (".weight",)),
    (".weight_format", (".weight",)),
    (".absmax", ("",)),
    (".quant_map", ("",)),
    (".nested_absmax", ("",)),
    (".nested_quant_map", ("",)),
    (".quant_state.bitsandbytes__nf4", ("",)),
    (".quant_state.bitsandbytes__fp4", ("",)),
    ("_scale_inv", ("",)),
    ("_scale", ("", "_packed")),
    ("_scale_2", ("",)),
    ("_global_scale", ("", "_packed")),
    ("_zero_point", ("", "_packed")),
    ("_shape", ("_packed",)),
    ("_g_idx", ("_packed",)),
    ("_scales", ("_blocks",)),
    (".input_scale", (".weight", ".weight_packed")),
    (".input_scale_inv", (".weight",)),
    (".input_global_scale", (".weight", ".weight_packed")),
    (".input_zero_point", (".weight", ".weight_packed")),
    (".output_scale", (".weight", ".weight_packed")),
    ("_input_scale", ("",)),
    (".k_scale", (".weight", ".k_proj.weight", ".k_proj.weight_packed", ".qkv_proj.weight")),
    (".v_scale", (".weight", ".v_proj.weight", ".v_proj.weight_packed", ".qkv_proj.weight")),
)
"""The end of a companion's name, and what stands in its place in the name of the tensor that it belongs to."""

_WORDS = ("I32", "U32")
_BITS = (2, 3, 4, 8)
_WHOLE_BITS = (2, 4, 8)
"""Those of which a word holds a whole number: compressed-tensors lets no value stand in two words."""
_MLX_BITS = (2, 3, 4, 5, 6, 8)
_STATE = re.compile(r"\.quant_state\.bitsandbytes__(?:nf4|fp4)")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A tensor as the values that it stands for.

    `name` is what it would be called unpacked. `shape` is of the values, where the layout says it; None where they lie
    in one long row. `choices` are the further shapes or counts that it may have, of which the architecture decides:
    multiples of `elements` as (numerator, denominator).
    """

    name: str
    values: int
    shape: tuple[int, ...] | None
    choices: tuple[tuple[int, int], ...] = ()


def companion_of(name: str, names: Mapping[str, StoredTensor]) -> str | None:
    """The tensor whose values this one scales, offsets, indexes or describes; None where it is no companion."""
    for suffix, replacements in _SUFFIXES:
        if name.endswith(suffix):
            stem = name[: -len(suffix)]
            for replacement in replacements:
                base = stem + replacement
                if base != name and base in names:
                    return base
    return None


def unpacked(tensor: StoredTensor, names: Mapping[str, StoredTensor]) -> Unpacked:
    """The values of a tensor that is no companion; as it stands where nothing says that it is packed."""
    name = tensor.name
    if name.endswith(".qweight") and tensor.dtype in _WORDS:
        made = _words(tensor, name.removesuffix(".qweight"), names)
        if made is not None:
            return made
    if name.endswith(".weight_packed"):
        stem = name.removesuffix("_packed")
        if tensor.dtype == "U8":
            return Unpacked(stem, 2 * tensor.elements, _widened(tensor.shape, 2))
        if tensor.dtype in _WORDS:
            return Unpacked(stem, tensor.elements, None, tuple((32, bits) for bits in _WHOLE_BITS))
    if name.endswith("_blocks") and tensor.dtype == "U8" and f"{name.removesuffix('_blocks')}_scales" in names:
        *outer, blocks, half = tensor.shape if len(tensor.shape) > 1 else (1, *tensor.shape)
        return Unpacked(name.removesuffix("_blocks"), 2 * tensor.elements, (*outer, 2 * blocks * half))
    if tensor.dtype == "U8" and any(f"{name}.quant_state.bitsandbytes__{kind}" in names for kind in ("nf4", "fp4")):
        return Unpacked(name, 2 * tensor.elements, None)
    if tensor.dtype == "U8" and f"{name}_scale" in names:
        return Unpacked(name, tensor.elements, None, ((2, 1), (1, 1)))
    if tensor.dtype in _WORDS and name.endswith(".weight") and f"{name.removesuffix('weight')}scales" in names:
        return Unpacked(name, tensor.elements, None, tuple((32, bits) for bits in _MLX_BITS))
    return Unpacked(name, tensor.elements, tensor.shape)


def _words(tensor: StoredTensor, stem: str, names: Mapping[str, StoredTensor]) -> Unpacked | None:
    """GPTQ or AWQ: the bits follow from the zeros beside the scales, and from the bits which of the two it is."""
    zeros, scales = names.get(f"{stem}.qzeros"), names.get(f"{stem}.scales")
    if zeros is None or scales is None or not len(tensor.shape) == len(zeros.shape) == len(scales.shape) == 2:
        return None
    rows, columns = tensor.shape
    outputs = scales.shape[1]
    bits, rest = divmod(32 * zeros.shape[1], outputs) if outputs else (0, 0)
    if rest or bits not in _BITS or zeros.shape[0] != scales.shape[0]:
        return None
    if columns == outputs and not 32 * rows % bits:
        inputs = 32 * rows // bits
    elif 32 * columns == bits * outputs:
        inputs = rows
    else:
        return None
    return Unpacked(f"{stem}.weight", inputs * outputs, (inputs, outputs))


def _widened(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    return (*shape[:-1], factor * shape[-1]) if shape else shape
