"""Which predicted quantities nothing independent confirms, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llmprof.workload import QUANTISED, Dtypes

VECTOR = "the published table of costs per element is a convention, and no instrument counts it"
SRAM = "equal to a brute-force walk of FlashAttention-2's tiles; no hardware counter has been held against it yet"
DRAM = (
    "equal to a simulated cache of whole tensors, least recently used; no hardware counter has been held against it yet"
)
EXPERTS_ORDER = "experts with unlike numbers of tokens are taken largest first, not in the order in which they run"
L2_TO_SM = "matrix products are taken to run in tiles of 128 x 128, and nothing else to be loaded twice by an SM"
RELEASED = "the layout that the spec states; `llmprof compare SPEC FILE` holds the release's own files against it"
PACKED = "no kernel of the reference computes in {formats}; traffic as if one read the packed values and scales"
GROUPED = "groups of leaves are held against inductor's own count, whole compiled passes are not"
NO_KERNEL = "no fused kernel of the reference runs this attention (soft cap, or head_dim); flash's bytes are assumed"


def unconfirmed_quantities(
    dtypes: Dtypes, kernels: Collection[str], *, cached: bool, grouped: bool = False
) -> Mapping[str, str]:
    """Quantity -> reason, for a pass that launches these kernels; `cached`: its model keeps something in a cache.

    `grouped`: leaves around its cores share kernels, and it has no peak.
    """
    reasons = {"vector_flops": VECTOR}
    because = traffic_reasons(dtypes, kernels, cached=cached)
    if because:
        reasons["hbm_bytes"] = reasons["peak_live_bytes"] = "; ".join(because)
    if grouped:
        reasons["hbm_bytes"] = "; ".join((*because, GROUPED))
        reasons.pop("peak_live_bytes", None)
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
