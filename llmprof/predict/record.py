"""The machine contract of `count --format json`: one flat record per architecture and workload."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from llmprof.predict.api import Prediction, parameters, predict
from llmprof.predict.formula import whole_or_float
from llmprof.predict.model import Program
from llmprof.predict.released import released
from llmprof.predict.sram import shared_memory
from llmprof.predict.touched import expert_figures
from llmprof.predict.unconfirmed import RELEASED, SRAM
from llmprof.spec.arch import ArchSpec, Mla
from llmprof.workload import Execution, Workload

Record = dict[str, Any]


UNFUSED = Execution(attention="unfused")


def both(arch: ArchSpec, workload: Workload, unfused: Execution = UNFUSED) -> tuple[Prediction, Prediction]:
    """The pass with its cores fused, and as `unfused` says; leaves around the cores are grouped alike in both."""
    fused = replace(unfused, attention="fused")
    return predict(arch, workload, fused), predict(arch, workload, unfused)


def count_record(arch: ArchSpec, workload: Workload, unfused: Execution = UNFUSED) -> Record:
    """Every figure of one forward pass, in base units, for the kernels of a CUDA device.

    `unfused` names the op list of the unfused cores, and how the leaves around all cores are grouped.

    FLOPs are those of the fused execution, `matmul_flops_dense_unfused` those of the other: they differ where the two
    are different algorithms. `matmul_flops_dense_per_token` is per new token, an integer where it divides.
    `kv_cache_bytes` are those of the whole batch; `kv_cache_bytes_per_token` is what one more token of one sequence
    takes in self-attention while no window is full, on average where several tokens share a row.
    `recurrent_state_bytes` is what the whole batch keeps of a fixed size, beside the cache. Totals are
    weights + cache + recurrent state + activation peak; where leaves are grouped neither they nor the peak are defined
    (None). `weight_bytes_released` is what the files of the release hold
    of the same parameters, `weight_bytes_released_mtp` of the layers that predict further tokens; None where the spec
    does not state how. The SRAM figures are None where FlashAttention-2 has no kernel.
    `unconfirmed` maps the keys of this record to reasons.

    Raises what `predict` raises.
    """
    return record_of(*both(arch, workload, unfused))


def record_of(fused: Prediction, unfused: Prediction) -> Record:
    """The record of two predictions of one architecture and workload."""
    arch, workload = fused.arch, fused.workload
    count = parameters(arch)
    files = released(arch)
    sram = shared_memory(fused.program)
    cost, experts = fused.cost, expert_figures(fused, unfused)
    held = fused.weight_bytes + fused.kv_cache_bytes + fused.recurrent_state_bytes
    peaks = None if fused.execution.grouping == "compiled" else (fused.peak_live_bytes, unfused.peak_live_bytes)
    return {
        "name": arch.name,
        "variant": arch.variant,
        "phase": workload.phase,
        "batch": workload.batch,
        "new_tokens": workload.new_tokens,
        "context": workload.context,
        "source_tokens": workload.source_tokens,
        "prefix_tokens": workload.prefix_tokens,
        "logits": workload.logits,
        "routing": str(workload.routing) if experts else None,
        "latent": workload.latent if _has_latents(arch) else None,
        "mtp": workload.mtp,
        "params_total": count.total,
        "params_embedding": count.embedding,
        "params_non_embedding": count.non_embedding,
        "params_active": count.active,
        "params_mtp": count.mtp,
        "matmul_flops_dense": cost.matmul_flops,
        "matmul_flops_dense_unfused": unfused.cost.matmul_flops,
        "matmul_flops_causal": cost.causal_flops,
        "matmul_flops_dense_per_token": per_token(cost.matmul_flops, workload),
        "vector_flops": cost.vector_flops,
        "kv_cache_bytes": fused.kv_cache_bytes,
        "kv_cache_bytes_self": fused.kv_cache_bytes_self,
        "kv_cache_bytes_cross": fused.kv_cache_bytes_cross,
        "kv_cache_bytes_per_token": kv_bytes_per_token(fused.program),
        "recurrent_state_bytes": fused.recurrent_state_bytes,
        "weight_bytes": fused.weight_bytes,
        "weight_bytes_released": None if files is None else files.model,
        "weight_bytes_released_mtp": None if files is None else files.mtp,
        "activation_peak_bytes_fused": None if peaks is None else peaks[0],
        "activation_peak_bytes_unfused": None if peaks is None else peaks[1],
        "total_bytes_fused": None if peaks is None else held + peaks[0],
        "total_bytes_unfused": None if peaks is None else held + peaks[1],
        "hbm_bytes_fused": cost.hbm_bytes,
        "hbm_bytes_unfused": unfused.cost.hbm_bytes,
        **{key: experts[key].value if experts else None for key in _OF_EXPERTS},
        "hbm_level": "op-level",
        "grouping": unfused.execution.grouping,
        "unfused_reference": unfused.kernel,
        "fused_kernel": fused.kernel,
        "sram_bytes_fused": None if sram is None else sram.nbytes,
        "sram_kernel": None if sram is None else sram.kernel,
        "sram_tile_footprint_bytes": None if sram is None else sram.footprint.value,
        "arithmetic_intensity_fused": cost.matmul_flops / cost.hbm_bytes,
        "arithmetic_intensity_unfused": unfused.cost.matmul_flops / unfused.cost.hbm_bytes,
        "weight_dtype": workload.dtypes.weights,
        "activation_dtype": workload.dtypes.activations,
        "kv_dtype": workload.dtypes.kv_cache,
        "unconfirmed": _unconfirmed(fused, unfused, with_sram=sram is not None, with_experts=bool(experts)),
    }


def _has_latents(arch: ArchSpec) -> bool:
    """Whether a layer attends to latents, so that the form in which they are read is asked."""
    return any(isinstance(layer.attention, Mla) for stack in arch.stacks for layer in stack.layers)


def per_token(flops: int, workload: Workload) -> int | float:
    """FLOPs per new token of the batch; a float only where they do not divide (a shared encoder, logits=last)."""
    tokens = workload.batch * workload.new_tokens
    whole, rest = divmod(flops, tokens)
    return flops / tokens if rest else whole


def kv_bytes_per_token(program: Program) -> int | float:
    """Self-attention cache bytes that one token of one sequence adds while no window is full.

    A float only where it is not whole: several tokens share a row of compressed keys.
    """
    total = Fraction(0)
    for group in program.groups:
        for row, tokens in group.growth.values():
            total += group.count * Fraction(row.nbytes, tokens)
    return whole_or_float(total)


def keeps_in_kv_dtype(prediction: Prediction) -> bool:
    """Whether anything is kept in the KV cache's dtype, where that is another than the activations'.

    An encoder keeps nothing, and a state that tokens are added to is kept in the activations' dtype.
    """
    program = prediction.program
    caches = (group.cache(path) for group in program.groups for path in ("attn", "cross_attn"))
    return any(tensor.format == program.setting.cache for tensors in caches for tensor in tensors.values())


def heeds_kv_dtype(arch: ArchSpec, workload: Workload) -> bool:
    """Whether the dtype of the KV cache means something: it is the activations', or something is kept in it."""
    if workload.dtypes.kv_cache == workload.dtypes.activations:
        return True
    return keeps_in_kv_dtype(predict(arch, workload, Execution(attention="fused")))


def _unconfirmed(fused: Prediction, unfused: Prediction, *, with_sram: bool, with_experts: bool) -> dict[str, str]:
    """Keys of the record -> reason; figures derived from an unconfirmed one are unconfirmed too."""
    reasons: dict[str, str] = {}
    for suffix, prediction in (("fused", fused), ("unfused", unfused)):
        for quantity, why in prediction.unconfirmed.items():
            for key in _KEYS[quantity]:
                if with_experts or "expected" not in key:
                    reasons[key.format(suffix)] = why
    if with_sram:
        other = "" if fused.kernel == "flash" else f"; torch's own fused kernel for this is another: {fused.kernel}"
        reasons["sram_bytes_fused"] = reasons["sram_tile_footprint_bytes"] = SRAM + other
    if fused.arch.release is not None:
        reasons["weight_bytes_released"] = reasons["weight_bytes_released_mtp"] = RELEASED
    return reasons


_OF_EXPERTS = ("experts_touched", "experts_expected", "hbm_bytes_expected_fused", "hbm_bytes_expected_unfused")

_KEYS = {
    "vector_flops": ("vector_flops",),
    "hbm_bytes": ("hbm_bytes_{}", "hbm_bytes_expected_{}", "arithmetic_intensity_{}"),
    "peak_live_bytes": ("activation_peak_bytes_{}", "total_bytes_{}"),
}
