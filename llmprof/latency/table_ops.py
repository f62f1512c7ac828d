"""What the columns of a table of measured ops say: the op of one row.

The columns are listed in `table.py`. InputError says which column, what was found and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import isfinite

from llmprof.errors import InputError
from llmprof.latency.mla import LONGEST_LATENT
from llmprof.latency.op import (
    Collective,
    CollectiveKind,
    DecodeAttention,
    Dtype,
    Gemm,
    MlaDecode,
    MlaPrefill,
    Moe,
    Op,
    PrefillAttention,
    Routing,
)

DTYPES: dict[str, Dtype] = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "fp16": "fp16",
    "half": "fp16",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
    "fp8_static": "fp8",
    "fp8_ootb": "fp8",
    "fp8_per_tensor": "fp8",
    "fp8_per_channel": "fp8",
    "fp8_per_token": "fp8",
    "fp8_block": "fp8_block",
    "fp8_blockwise": "fp8_block",
    "int8": "int8",
    "int8_wo": "int8",
    "w8a16": "int8",
    "int4": "int4",
    "int4_wo": "int4",
    "w4a16": "int4",
    "nvfp4": "fp4",
    "fp4": "fp4",
    "mxfp4": "fp4",
    "w4a16_mxfp4": "int4",
    "w4a8_mxfp4_mxfp8": "fp4",
}
"""How tables write the dtypes of `llmprof.latency.op`."""

ENGINES = {"vllm": "vllm", "trtllm": "trtllm", "tensorrtllm": "trtllm", "sglang": "sglang"}
"""Names of engines without what is between their parts, and as constants are filed under."""

NOTHING = {"nan", "none", "null", "na", "n/a", "<na>"}
"""What programs write into a cell that has no value; in a column that an op needs it is no number either."""

COLLECTIVES: dict[str, CollectiveKind] = {
    "allreduce": "allreduce",
    "all_reduce": "allreduce",
    "allgather": "allgather",
    "all_gather": "allgather",
    "reducescatter": "reducescatter",
    "reduce_scatter": "reducescatter",
    "alltoall": "alltoall",
    "all_to_all": "alltoall",
    "p2p": "p2p",
}

COPIES: dict[str, float] = {"fp8_block": 1, "fp4": 1}
"""Different weights that were multiplied in turn while one product was timed; 6 where nothing else is said
(ai-dynamo/aiconfigurator, collector/vllm/collect_gemm.py, read 2026-11-30)."""

LATENT = {"flash_attn_mla", "flashmla"}
"""Kernels that short prompts run through as steps do, in vLLM; its others compute keys and values of prompts for each
head, whatever the backend is called (`query_len_support` of its backends; recalled, and the first as tables show)."""

ALWAYS_GATED = {"vllm_fused_moe"}
"""Kernels that were timed with the three matrices of a gated expert for every model (the same repository, before its
collector knew experts of two matrices)."""


def whole(fields: Mapping[str, str], name: str, default: int | None = None, least: int = 1) -> int:
    """A whole number, ``16`` or ``16.0``."""
    text = fields.get(name, "")
    if default is not None and not given(text):
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value != int(value) or not least <= value <= 2**53:
        raise InputError(f"{name}: found {text[:40]!r}, expected a whole number from {least}")
    return int(value)


def given(text: str) -> str:
    """The text of a cell in lower case, empty where it says that there is none."""
    found = text.lower()
    return "" if found in NOTHING else found


def _dtype(fields: Mapping[str, str], name: str, default: Dtype | None = None) -> Dtype:
    text = given(fields.get(name, "")).removeprefix("torch.").replace("-", "_")
    if default is not None and (not text or (name == "kv_dtype" and text == "auto")):  # the cache as the model
        return default
    if text not in DTYPES:
        raise InputError(f"{name}: found {text[:40]!r}, expected one of {', '.join(DTYPES)}")
    return DTYPES[text]


def _engine(fields: Mapping[str, str]) -> str | None:
    text = given(fields.get("framework", ""))
    return ENGINES.get(re.sub("[^a-z0-9]", "", text), text) or None


def _gemm(fields: Mapping[str, str]) -> Gemm:
    dtype = _dtype(fields, "dtype", "bf16")
    m, n, k = (whole(fields, name) for name in ("m", "n", "k"))
    return Gemm(m=m, n=n, k=k, dtype=dtype, weight_copies=COPIES.get(dtype, 6), engine=_engine(fields))


def _heads(fields: Mapping[str, str]) -> tuple[int, int]:
    heads = whole(fields, "h")
    kv_heads = whole(fields, "g", heads)
    if heads % kv_heads:
        raise InputError(f"h and g: found {heads} query heads, which {kv_heads} key/value heads do not divide")
    return heads, kv_heads


def _decode(fields: Mapping[str, str]) -> DecodeAttention:
    heads, kv_heads = _heads(fields)
    return DecodeAttention(
        batch=whole(fields, "b"),
        context=whole(fields, "s"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=whole(fields, "d", 128),
        kv_dtype=_dtype(fields, "kv_dtype", _dtype(fields, "dtype", "bf16")),
        window=whole(fields, "window", 0, least=0),
        warm=True,
        engine=_engine(fields),
    )


def _prefill(fields: Mapping[str, str]) -> PrefillAttention:
    heads, kv_heads = _heads(fields)
    return PrefillAttention(
        batch=whole(fields, "b"),
        new_tokens=whole(fields, "s"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=whole(fields, "d", 128),
        prefix=whole(fields, "prefix", 0, least=0),
        kv_dtype=_dtype(fields, "kv_dtype", _dtype(fields, "dtype", "bf16")),
        window=whole(fields, "window", 0, least=0),
        engine=_engine(fields),
    )


def _mla_decode(fields: Mapping[str, str]) -> MlaDecode:
    return MlaDecode(
        batch=whole(fields, "b"),
        context=whole(fields, "s"),
        heads=whole(fields, "h"),
        kv_dtype=_dtype(fields, "kv_dtype", "bf16"),
        engine=_engine(fields),
    )


def _mla_prefill(fields: Mapping[str, str]) -> MlaPrefill:
    tokens, dtype = whole(fields, "s"), _dtype(fields, "kv_dtype", "bf16")
    # vLLM names the kernel of a prompt, which says where it runs; names of others do not.
    kernel = given(fields.get("kernel", "")) if _engine(fields) == "vllm" else ""
    return MlaPrefill(
        batch=whole(fields, "b"),
        new_tokens=tokens,
        heads=whole(fields, "h"),
        prefix=whole(fields, "prefix", 0, least=0),
        kv_dtype=dtype,
        latent=kernel in LATENT and tokens <= LONGEST_LATENT[dtype in {"bf16", "fp16"}] if kernel else None,
        engine=_engine(fields),
    )


def _moe(fields: Mapping[str, str]) -> Moe:
    experts, per_token = whole(fields, "E"), whole(fields, "topk")
    d_model, d_ff = whole(fields, "D"), whole(fields, "I")
    tp, ep = whole(fields, "moe_tp", 1), whole(fields, "moe_ep", 1)
    if per_token > experts or ep > experts:
        raise InputError(f"topk and moe_ep: found {per_token} and {ep} of {experts} experts")
    routing, skew = _routing(fields.get("routing", ""))
    return Moe(
        tokens=whole(fields, "m"),
        experts=experts,
        experts_per_token=per_token,
        d_model=d_model,
        d_ff=d_ff,
        tp=tp,
        ep=ep,
        dtype=_dtype(fields, "dtype", "bf16"),
        routing=routing,
        skew=skew,
        gated=fields.get("kernel", "") in ALWAYS_GATED or gated(experts, per_token, d_model, d_ff),
        warm=True,
        engine=_engine(fields),
    )


def _routing(text: str) -> tuple[Routing, float]:
    """``balanced``, ``uniform`` or nothing; ``power_law_1.2`` is a power law of that exponent."""
    text = given(text)
    if text in {"", "balanced", "uniform"}:
        return "balanced", 0.0
    found = re.fullmatch(r"power_law_([0-9]+(?:\.[0-9]+)?)(?:_eplb)?", text)
    if found is None or not 0 < float(found.group(1)) < 10:
        raise InputError(f"routing: found {text[:40]!r}, expected balanced, or power_law_1.2 with any exponent")
    return "power_law", float(found.group(1))


@lru_cache(maxsize=1024)
def gated(experts: int, per_token: int, d_model: int, d_ff: int) -> bool:
    """Whether experts of these sizes have three matrices: no column says so, but a model of the catalogue may.

    Without one they have, as nearly all do.
    """
    from llmprof import catalog
    from llmprof.spec.arch import Mlp
    from llmprof.spec.arch import Moe as Mixture

    width = re.compile(rf"d_ff: {d_ff:_}\b|d_ff: {d_ff}\b")
    many = re.compile(rf"n_experts: {experts}\b")
    for entry in catalog.entries():
        text = entry.path.read_text(encoding="utf-8")
        if not width.search(text) or not many.search(text):
            continue
        arch = entry.load().arch()
        for layer in (layer for stack in arch.stacks for layer in stack.layers):
            ffn = layer.ffn
            if not isinstance(ffn, Mixture):
                continue
            alike = (ffn.n_experts, ffn.top_k, ffn.expert.d_ff) == (experts, per_token, d_ff)
            if alike and d_model in {arch.d_model, ffn.latent}:
                return not isinstance(ffn.expert, Mlp)
    return True


def _collective(kind: CollectiveKind) -> Callable[[Mapping[str, str]], Collective]:
    def made(fields: Mapping[str, str]) -> Collective:
        count, moved = whole(fields, "num_gpus", least=2), whole(fields, "bytes")
        return Collective(kind=kind, bytes=moved, devices=count, engine=_engine(fields))

    return made


OPS: dict[str, Callable[[Mapping[str, str]], Op]] = {
    "gemm": _gemm,
    "decode_attn": _decode,
    "prefill_attn": _prefill,
    "mla_decode": _mla_decode,
    "mla_prefill": _mla_prefill,
    "moe": _moe,
    **{name: _collective(kind) for name, kind in COLLECTIVES.items()},
}
CACHED = {"decode_attn", "prefill_attn", "mla_decode", "mla_prefill"}
"""Ops whose constants go by the dtype of the cache."""
