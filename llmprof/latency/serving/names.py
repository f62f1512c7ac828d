"""Which architecture and formats a served model's path stands for: ``Qwen/Qwen3-32B-FP8`` is qwen3-32b in fp8.

A path that is an alias of a spec is that spec, in the formats of its release; so is the same repository of another
owner, as copies are (`spellings`). Otherwise what releases append for a format is taken off, and the rest has to be
such a name of exactly one spec. Nothing is taken for what it is not: a path that fits no name is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.latency.compose_pass import Precision
from llmprof.latency.op import Dtype
from llmprof.latency.serving.spellings import of_path, spec_called
from llmprof.spec.arch import ArchSpec
from llmprof.spec.nodes import short
from llmprof.spec.release import Fp8, Fp8Blocks, Integers, Mxfp4, Nvfp4, Release

SUFFIXES: tuple[tuple[str, Dtype], ...] = (
    (r"-fp8-block", "fp8_block"),
    (r"-fp8(-dynamic|-static|-static-per-?tensor|-kv)?", "fp8"),
    (r"-(nvfp4|fp4|mxfp4)(-v\d)?", "fp4"),
    (r"-(awq|gptq|awq-int4|gptq-int4|int4|w4a16|quantized\.w4a16)", "int4"),
    (r"-(gptq-int8|int8|w8a16|quantized\.w8a16)", "int8"),
    (r"-bf16", "bf16"),
)
"""What names of releases end in, and the format of their matrices.

https://docs.vllm.ai/projects/llm-compressor/en/latest/steps/choosing-scheme/ (W4A16, FP8-Dynamic, FP8-Block, NVFP4) and
https://qwen.readthedocs.io/en/latest/quantization/gptq.html (GPTQ-Int4, GPTQ-Int8, AWQ), both recalled.
"""
UNTIMED = r"-(quantized\.)?w8a8(-int8|-fp8)?"
"""Weights and activations in 8 bits, in names that leave open whether those are integers, of which no product has been
timed, or floats (https://huggingface.co/RedHatAI: ``quantized.w8a8`` are integers, recalled)."""
STATIC = ("nvidia", "neuralmagic", "redhatai", "amd")
"""Owners whose releases in fp8 store the scales of activations (ModelOpt, and llm-compressor's FP8 scheme: the page
above, recalled), unless their names end in what says that these are found while serving."""
DYNAMIC, FIXED = r"-dynamic$", r"-static(-per-?tensor)?$"
"""Endings that say whether the scales of activations are stored, whoever the owner is."""
FFN_ALONE = ("meta-llama",)
"""Owners whose fp8 releases leave the attention in 16 bits (The Llama 3 Herd of Models, section 6.2, recalled; so are
the first and the last layer, which are not told apart here)."""
FP8_IN_BLOCKS = ("qwen", "deepseek-ai")
"""Owners whose fp8 releases have a scale per block of 128 x 128 (config.json of
https://huggingface.co/Qwen/Qwen3-32B-FP8, recalled)."""
FP8_CACHE = ("nvidia",)
"""Owners whose fp8 and fp4 releases state an fp8 cache, which engines then keep: NVIDIA ModelOpt writes
``kv_cache_quant_algo: FP8`` (https://huggingface.co/nvidia/Llama-3.1-8B-Instruct-FP8, recalled)."""
KEPT = r"-fp8-kv$"
"""The ending of releases with scales of an fp8 cache (https://huggingface.co/amd/Llama-3.1-70B-Instruct-FP8-KV,
recalled)."""


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
        found = _spelled(path)
        if found is None:
            raise InputError(f"model_path {short(path)!r}: {error}") from error
        return found
    if re.search("-bf16$", path.lower()):
        return Named(arch=arch, precision=Precision())
    return Named(arch=arch, precision=of_release(arch.release))


def _spelled(path: str) -> Named | None:
    """What a path stands for that is no alias. InputError for a format without times."""
    owner, repository = of_path(path)
    entry = spec_called(owner, repository)
    if entry is not None:
        arch = entry.load().arch()
        return Named(arch=arch, precision=of_release(arch.release))
    if re.search(f"{UNTIMED}$", repository.lower()):
        raise InputError(
            f"model_path {short(path)!r}: weights and activations of 8 bits are integers or floats, and no products of "
            "integers have times; call floats -FP8, and integers that are multiplied in 16 bits -W8A16"
        )
    return _without_suffix(owner, repository)


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


def _without_suffix(owner: str, repository: str) -> Named | None:
    for pattern, dtype in SUFFIXES:
        match = re.search(f"{pattern}$", repository.lower())
        if match is None:
            continue
        entry = spec_called(owner, repository[: match.start()])
        return (
            None if entry is None else Named(arch=entry.load().arch(), precision=_precision(owner, repository, dtype))
        )
    return None


def _precision(owner: str, repository: str, dtype: Dtype) -> Precision:
    owner, repository = owner.lower(), repository.lower()
    fixed = re.search(FIXED, repository) is not None
    if dtype == "fp8" and owner in FP8_IN_BLOCKS and not fixed:
        dtype = "fp8_block"
    static = fixed or (owner in STATIC and not re.search(DYNAMIC, repository))
    kept = re.search(KEPT, repository) or (owner in FP8_CACHE and dtype in ("fp8", "fp4"))
    return Precision(
        dense=dtype,
        experts=dtype,
        attention="bf16" if dtype == "fp8" and owner in FFN_ALONE else None,
        static=static and dtype == "fp8",
        kv_cache="fp8" if kept else "bf16",
    )
