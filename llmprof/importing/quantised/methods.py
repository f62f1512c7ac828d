"""What each method of quantisation packs, and how: from ``quantization_config`` to the packing of a spec.

The layouts are those of docs/stored-weights.md. A method or a setting whose files are not known for sure raises
`Unsure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from llmprof.importing.jsontext import shown
from llmprof.importing.quantised.spared import Rule, by_name_or_expression, by_start_or_end, by_wildcard
from llmprof.importing.quantised.unsure import Unsure
from llmprof.spec.release import Awq, Fp8, Fp8Blocks, Gptq, Integers, Mxfp4, Nvfp4, Packing, ScaleDtype

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A packing, and what it is applied to: `patterns` are spared by `rule`; None where the class spares by itself.

    `head`: it would pack the output matrix too, if that were not spared. `experts_alone`: it packs nothing else.
    `note` is what the reader of the spec should know.
    """

    packing: Packing
    rule: Rule = by_start_or_end
    patterns: tuple[str, ...] | None = None
    head: bool = False
    experts_alone: bool = False
    note: str | None = None


FP32_SCALES = frozenset({"deepseek_v3"})
"""Families whose releases keep the scales of 8-bit blocks in fp32, as transformers' class makes them.

DeepSeek-V3 and R1 have 41,555,600 values in F32 (the hub's account, stored at two places, read 2026-11-30). Qwen3's
have them in BF16 (https://github.com/modular/modular/issues/7142), with the same words in their configs.
"""


def method(fields: Fields, dtype: ScaleDtype, family: str) -> Method:
    """How a config says that matrices are packed; `dtype` is that of the model's other tensors. Raises Unsure."""
    name = fields.get("quant_method")
    read = METHODS.get(name) if isinstance(name, str) else None
    if read is None:
        raise Unsure(f"its quant_method {shown(name)} is none of {', '.join(METHODS)}")
    if name == "fp8" and family not in FP32_SCALES:
        raise Unsure("whether scales are fp32 or bf16 is not said: state release.packing in the spec")
    return read(fields, dtype)


def _fp8(fields: Fields, dtype: ScaleDtype) -> Method:
    """transformers' FineGrainedFP8Config: blocks, or a scale per matrix; scales are fp32 there."""
    _only(fields, "fmt", (None, "e4m3", "float8_e4m3fn"))
    _only(fields, "scale_fmt", (None, "float"))
    _only(fields, "expert_dtype", (None, "fp8"))
    _only(fields, "modules_to_convert", (None, []))
    scheme = fields.get("activation_scheme", "dynamic")
    block = fields.get("weight_block_size", [128, 128])
    patterns = _patterns(fields, "modules_to_not_convert", "ignored_layers")
    if block is None:
        _only(fields, "activation_scheme", ("dynamic", "static"))
        packing: Packing = Fp8(per="matrix", input_scale=scheme == "static")
    else:
        _only(fields, "activation_scheme", (None, "dynamic"))
        rows, columns = _block("weight_block_size", block)
        packing = Fp8Blocks(rows=rows, columns=columns)
    return Method(packing=packing, patterns=patterns)


def _gptq(fields: Fields, dtype: ScaleDtype) -> Method:
    _only(fields, "lm_head", (None, False))
    _only(fields, "dynamic", (None, {}))
    _only(fields, "modules_in_block_to_quantize", (None,))
    _only(fields, "checkpoint_format", (None, "gptq", "gptq_v2"))
    bits, group = fields.get("bits"), fields.get("group_size")
    if bits not in (2, 3, 4, 8):
        raise Unsure(f"its bits are {shown(bits)}")
    return Method(
        packing=Gptq(bits=bits, group=_group(group)), patterns=_patterns(fields, "modules_to_not_convert") or ()
    )


def _awq(fields: Fields, dtype: ScaleDtype) -> Method:
    _only(fields, "version", (None, "gemm", "GEMM"))
    _only(fields, "zero_point", (None, True))
    _only(fields, "bits", (4,))
    group = _group(fields.get("group_size"))
    if group is None:
        raise Unsure("it has one group for a whole row")
    return Method(packing=Awq(group=group), patterns=_patterns(fields, "modules_to_not_convert") or ())


def _mxfp4(fields: Fields, dtype: ScaleDtype) -> Method:
    return Method(packing=Mxfp4(), patterns=_patterns(fields, "modules_to_not_convert"), experts_alone=True)


def _fbgemm(fields: Fields, dtype: ScaleDtype) -> Method:
    return Method(packing=Fp8(per="row"), patterns=_patterns(fields, "modules_to_not_convert"))


def _compressed(fields: Fields, dtype: ScaleDtype) -> Method:
    """compressed-tensors 0.20: scales have the dtype of the matrix that was packed."""
    groups = fields.get("config_groups")
    only = next(iter(groups.values())) if isinstance(groups, dict) and len(groups) == 1 else None
    if not isinstance(only, dict) or only.get("targets") != ["Linear"]:
        raise Unsure("its config_groups are not one group whose targets are Linear")
    _only(fields, "kv_cache_scheme", (None,))
    _only(fields, "sparsity_config", (None, {}))
    _only(only, "output_activations", (None,))
    form = fields.get("format") or only.get("format")
    weights, inputs = only.get("weights"), only.get("input_activations")
    if not isinstance(weights, dict) or not (inputs is None or isinstance(inputs, dict)):
        raise Unsure("its group does not say how weights are packed")
    static = inputs is not None and inputs.get("dynamic") in (None, False)
    packing = _packing(str(form), weights, inputs or {}, static=static, dtype=dtype)
    return Method(packing=packing, rule=by_name_or_expression, patterns=_patterns(fields, "ignore") or (), head=True)


def _packing(form: str, weights: Fields, inputs: Fields, *, static: bool, dtype: ScaleDtype) -> Packing:
    bits, kind, strategy = weights.get("num_bits"), weights.get("type"), weights.get("strategy")
    group = _group(weights.get("group_size"))
    symmetric = weights.get("symmetric") is not False
    per_row = {"tensor": "matrix", "channel": "row"}.get(str(strategy))
    match form, bits, kind:
        case (("float-quantized" | "naive-quantized"), 8, "float") if strategy == "block":
            if not static:
                rows, columns = _block("block_structure", weights.get("block_structure"))
                return Fp8Blocks(rows=rows, columns=columns, scale=dtype)
        case (("float-quantized" | "naive-quantized"), 8, "float") if per_row == "matrix":
            if not static or inputs.get("strategy") == "tensor":
                return Fp8(per="matrix", scale=dtype, input_scale=static)
        case (("float-quantized" | "naive-quantized"), 8, "float") if per_row == "row":
            if not static:
                return Fp8(per="row", scale=dtype)
        case "pack-quantized", (4 | 8), "int" if strategy in ("group", "channel") and not inputs:
            if weights.get("actorder") in (None, "weight", "static") and (group is not None) == (strategy == "group"):
                return Integers(
                    bits=4 if bits == 4 else 8, group=group, scale=dtype, zero_point=not symmetric, shape=True
                )
        case "int-quantized", 8, "int" if strategy == "channel" and symmetric:
            if not static:
                return Integers(bits=8, scale=dtype)
        case "nvfp4-pack-quantized", 4, "float" if group == 16 and symmetric:
            return Nvfp4(input_scale=bool(inputs) and inputs.get("dynamic") is not True)
    raise Unsure(f"the layout of its format {form!r} with {bits} bits, {kind}, per {strategy} is not known here")


def _modelopt(fields: Fields, dtype: ScaleDtype) -> Method:
    """NVIDIA's ModelOpt, as vLLM's loader names the tensors: scales per matrix in fp32, one of the inputs too."""
    algorithm = fields.get("quant_algo")
    packings: dict[Any, Packing] = {"FP8": Fp8(per="matrix", input_scale=True), "NVFP4": Nvfp4()}
    if algorithm not in ("FP8", "NVFP4"):
        raise Unsure(f"its quant_algo {shown(algorithm)} is none of FP8, NVFP4")
    _only(fields, "group_size", (None, 16))
    note = "scales of the KV cache, two a layer where the release has some, are not among the weights"
    patterns = _patterns(fields, "ignore", "exclude_modules") or ()
    return Method(packing=packings[algorithm], rule=by_wildcard, patterns=patterns, head=True, note=note)


METHODS: Mapping[str, Callable[[Fields, ScaleDtype], Method]] = MappingProxyType(
    {
        "fp8": _fp8,
        "gptq": _gptq,
        "awq": _awq,
        "mxfp4": _mxfp4,
        "fbgemm_fp8": _fbgemm,
        "compressed-tensors": _compressed,
        "modelopt": _modelopt,
    }
)


def _only(fields: Fields, key: str, values: tuple[Any, ...]) -> None:
    if not any(fields.get(key) == value and type(fields.get(key)) is type(value) for value in values):
        raise Unsure(f"its {key} is {shown(fields.get(key))}")


def _block(key: str, value: Any) -> tuple[int, int]:
    """Rows and columns that share a scale."""
    if not (isinstance(value, list) and len(value) == 2 and all(type(n) is int and n > 0 for n in value)):
        raise Unsure(f"its {key} is {shown(value)}")
    return value[0], value[1]


def _group(value: Any) -> int | None:
    """A number of columns; None where a row is one group, which -1 stands for."""
    if value is None or value == -1:
        return None
    if type(value) is not int or value < 1:
        raise Unsure(f"its group_size is {shown(value)}")
    return value


def _patterns(fields: Fields, *keys: str) -> tuple[str, ...] | None:
    for key in keys:
        found = fields.get(key)
        if found is not None:
            if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
                raise Unsure(f"its {key} is {shown(found)}")
            return tuple(found)
    return None
