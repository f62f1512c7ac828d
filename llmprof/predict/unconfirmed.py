"""Which predicted quantities nothing independent confirms, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llmprof.workload import QUANTISED, Dtypes

VECTOR = "the published table of costs per element is a convention, and no instrument counts it"
SRAM = "equal to a brute-force walk of FlashAttention-2's tiles; no hardware counter has been held against it yet"
RELEASED = "the layout that the spec states; `llmprof compare SPEC FILE` holds the release's own files against it"
PACKED = "no kernel of the reference computes in {formats}; traffic as if one read the packed values and scales"
NO_KERNEL = "no fused kernel of the reference runs this attention (soft cap, or head_dim); flash's bytes are assumed"


def unconfirmed_quantities(dtypes: Dtypes, kernels: Collection[str], *, cached: bool) -> Mapping[str, str]:
    """Quantity -> reason, for a pass that launches these kernels; `cached`: its model keeps something in a cache."""
    reasons = {"vector_flops": VECTOR}
    because = traffic_reasons(dtypes, kernels, cached=cached)
    if because:
        reasons["hbm_bytes"] = reasons["peak_live_bytes"] = "; ".join(because)
    return reasons


def traffic_reasons(dtypes: Dtypes, kernels: Collection[str], *, cached: bool) -> tuple[str, ...]:
    """Why bytes moved and the activation peak are not confirmed; empty where they are."""
    reasons = []
    stored = (dtypes.weights, dtypes.kv_cache) if cached else (dtypes.weights,)
    formats = dict.fromkeys(each for each in stored if each in QUANTISED)
    if formats:
        reasons.append(PACKED.format(formats=" and ".join(formats)))
    if "none" in kernels:
        reasons.append(NO_KERNEL)
    return tuple(reasons)
