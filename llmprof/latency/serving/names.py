"""Which architecture and formats a served model's path stands for: ``Qwen/Qwen3-32B-FP8`` is qwen3-32b in fp8.

A path that is an alias of a spec is that spec, in the formats of its release. Otherwise what releases append for a
format is taken off, and the rest has to be an alias, of the same owner or, as quantised copies are often another's, of
exactly one spec. Nothing is taken for what it is not: a path that fits no alias is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.latency.compose_pass import Precision
from llmprof.latency.op import Dtype
from llmprof.spec.arch import ArchSpec
from llmprof.spec.nodes import Scalar, Seq, short
from llmprof.spec.release import Fp8, Fp8Blocks, Integers, Mxfp4, Nvfp4, Release
from llmprof.spec.source import read_file
from llmprof.spec.yamlload import parse

SUFFIXES: tuple[tuple[str, Dtype], ...] = (
    (r"-fp8-block", "fp8_block"),
    (r"-fp8(-dynamic)?", "fp8"),
    (r"-(nvfp4|fp4|mxfp4)", "fp4"),
    (r"-(awq|gptq|awq-int4|gptq-int4|int4|w4a16)", "int4"),
    (r"-(gptq-int8|int8|w8a16)", "int8"),
    (r"-bf16", "bf16"),
)
"""What names of releases end in, and the format of their matrices.

https://docs.vllm.ai/projects/llm-compressor/en/latest/steps/choosing-scheme/ (W4A16, FP8-Dynamic, FP8-Block, NVFP4) and
https://qwen.readthedocs.io/en/latest/quantization/gptq.html (GPTQ-Int4, GPTQ-Int8, AWQ), both recalled.
"""
STATIC = ("nvidia", "neuralmagic", "redhatai")
"""Owners whose releases in fp8 store the scales of activations (ModelOpt, and llm-compressor's FP8 scheme: the page
above, recalled), unless their names end in what says that these are found while serving."""
DYNAMIC = "-dynamic"
FP8_IN_BLOCKS = ("qwen", "deepseek-ai")
"""Owners whose fp8 releases have a scale per block of 128 x 128 (config.json of
https://huggingface.co/Qwen/Qwen3-32B-FP8, recalled)."""
FP8_CACHE = ("nvidia",)
"""Owners whose fp8 and fp4 releases state an fp8 cache, which engines then keep: NVIDIA ModelOpt writes
``kv_cache_quant_algo: FP8`` (https://huggingface.co/nvidia/Llama-3.1-8B-Instruct-FP8, recalled)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An architecture and the formats in which it is served."""

    arch: ArchSpec
    precision: Precision


@lru_cache(maxsize=256)
def named(path: str) -> Named:
    """What `path`, an owner and a repository or the name of a spec, stands for. InputError where nothing fits it."""
    if path == catalog.STDIN:
        raise InputError(
            f"model_path {short(path)!r}: expected a model of the catalogue; a table reads no standard input"
        )
    try:
        arch = catalog.find(path).arch(catalog.split(path)[1])
    except InputError as error:
        found = _without_suffix(path)
        if found is None:
            raise InputError(f"model_path {short(path)!r}: {error}") from error
        return found
    if re.search("-bf16$", path.lower()):
        return Named(arch=arch, precision=Precision())
    return Named(arch=arch, precision=of_release(arch.release))


def of_release(release: Release | None) -> Precision:
    """The formats of published files; 16 bits where none are stated. InputError for a packing without times."""
    if release is None or release.packing is None:
        return Precision()
    match release.packing:
        case Fp8Blocks():
            dtype: Dtype = "fp8_block"
        case Fp8():
            dtype = "fp8"
        case Mxfp4() | Nvfp4():
            dtype = "fp4"
        case Integers(bits=bits):
            dtype = "int4" if bits == 4 else "int8"
        case other:
            dtype = "int4" if getattr(other, "bits", 4) == 4 else "int8"
    # A release that spares the attention packs experts alone, where it has any.
    spared = any(".attn" in pattern for pattern in release.spared)
    return Precision(dense="bf16" if spared else dtype, experts=dtype)


def _without_suffix(path: str) -> Named | None:
    owner, _, repository = path.rpartition("/")
    for pattern, dtype in SUFFIXES:
        match = re.search(f"{pattern}$", repository.lower())
        if match is None:
            continue
        arch = _called(owner, repository[: match.start()])
        if arch is None:
            return None
        static = owner.lower() in STATIC and not repository.lower().endswith(DYNAMIC)
        return Named(arch=arch, precision=_precision(owner.lower(), dtype, static=static))
    return None


def _precision(owner: str, dtype: Dtype, *, static: bool) -> Precision:
    if dtype == "fp8" and owner in FP8_IN_BLOCKS:
        dtype = "fp8_block"
    found = Precision(dense=dtype, experts=dtype, static=static and dtype == "fp8")
    return replace(found, kv_cache="fp8") if owner in FP8_CACHE and dtype in ("fp8", "fp4") else found


def _called(owner: str, repository: str) -> ArchSpec | None:
    """The one spec of this repository, under its owner or else under any."""
    wanted = repository.lower()
    fits = {}
    for entry in catalog.entries():
        text = read_file(entry.path)
        if wanted not in text.lower():
            continue
        for alias in _aliases(text, str(entry.path)):
            if alias == f"{owner.lower()}/{wanted}":
                return entry.load().arch()
            if alias.rpartition("/")[2] == wanted:
                fits[entry.name] = entry
    return next(iter(fits.values())).load().arch() if len(fits) == 1 else None


def _aliases(text: str, file: str) -> list[str]:
    written = parse(text, file=file).get("aliases")
    items = written.items if isinstance(written, Seq) else ()
    return [item.text.lower() for item in items if isinstance(item, Scalar)]
