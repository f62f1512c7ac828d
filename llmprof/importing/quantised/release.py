"""The `release` of a spec from what a config says of its files: their dtype and what is packed in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.jsontext import shown
from llmprof.importing.quantised.unsure import Unsure
from llmprof.spec.arch import ArchSpec
from llmprof.spec.release import FloatDtype

DTYPES: Mapping[Any, FloatDtype] = MappingProxyType(
    {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
)
KEY = "quantization_config"
KEYS = (KEY, "quantization")
"""MLX writes what it packed under a name of its own, alone or beside the usual one (mlx-lm 0.21, recalled)."""


def release(c: Config, arch: Callable[[], ArchSpec]) -> Doc | None:
    """What the files hold, or None where the config does not say it for sure; why not is then a remark of `c`.

    `arch` makes the architecture of the config; it is asked where something is packed.
    """
    key = next((key for key in KEYS if c.has(key)), KEY)
    quantised = c.raw(key) if c.has(key) else _of_the_tower(c, key)
    dtype = next((DTYPES[said] for said in _dtypes(c) if isinstance(said, str) and said in DTYPES), None)
    try:
        _refuse_two_dtypes(c)
    except Unsure as error:
        c.remark(f"nothing is said of the bytes in the files: {error} (`llmprof compare` reads them off the files)")
        return None
    if quantised is None:
        return None if dtype is None else {"dtype": dtype}
    from llmprof.importing.quantised.packed import packed  # most configs pack nothing, and need none of it

    tower = c.raw("text_config")
    family = tower.get("model_type") if isinstance(tower, dict) else c.raw("model_type")
    try:
        doc, note = packed(quantised, arch, dtype, family, in_a_tower=tower is not None)
    except Unsure as error:
        c.remark(
            f"{key} is left out, so nothing is said of the bytes in the files: {error} (`llmprof compare` reads them "
            "off the files themselves)"
        )
        return None
    if note is not None:
        c.remark(note)
    return doc


def _dtypes(c: Config) -> list[Any]:
    """What is said of the dtype, by the config itself or for its tower of text."""
    keys = ("dtype", "torch_dtype")
    return [*(c.raw(key) for key in keys), *(_of_the_tower(c, key) for key in keys)]


def _refuse_two_dtypes(c: Config) -> None:
    """Unsure where the field's two names say two things."""
    said = [value for value in (c.raw("dtype"), c.raw("torch_dtype")) if value is not None]
    if len({DTYPES.get(value, value) if isinstance(value, str) else str(value) for value in said}) > 1:
        raise Unsure(f"dtype is {shown(said[0])} and torch_dtype is {shown(said[1])}")


def _of_the_tower(c: Config, key: str) -> Any:
    """What is said for the tower of text, where the config has one (Kimi K2.5 says there how it is packed)."""
    tower = c.raw("text_config")
    return tower.get(key) if isinstance(tower, dict) else None
