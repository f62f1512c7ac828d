"""Constants of `eager.py` out of timed kernels: least squares of log ratios, and their errors on what was held out.

scipy and numpy are imported when something is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log
from statistics import median

from llmprof.latency.accuracy import quantile
from llmprof.latency.eager import FAMILY, Constants
from llmprof.work import Family, Work

FOLDS = 5
FEWEST = 5
"""A kind with fewer points is fitted with its family alone."""
COVERED = 0.9
"""The share of held-out points that the interval holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A kernel that was timed, in seconds."""

    work: Work
    seconds: float


# What is fitted for each family. Weights are read from memory, as in a model, so that a product has one bandwidth; what
# moves memory computes nothing.
_FITTED: dict[Family, tuple[str, ...]] = {
    "matmul": ("t0", "flops_per_s", "cached_bytes_per_s", "overlap"),
    "batched": ("t0", "per_product", "flops_per_s", "cached_bytes_per_s", "overlap"),
    "core": ("t0", "per_product", "flops_per_s", "cached_bytes_per_s", "overlap"),
    "memory": ("t0", "cached_bytes_per_s", "slowdown", "cache_bytes"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    least: float
    start: float
    most: float
    absent: float
    """What stands where it is not fitted: no cost, nothing to compute, one bandwidth, one after the other."""


_RANGES = {
    "t0": _Range(least=1e-8, start=5e-6, most=1e-2, absent=0.0),
    "per_product": _Range(least=1e-10, start=1e-7, most=1e-3, absent=0.0),
    "flops_per_s": _Range(least=1e7, start=5e11, most=1e16, absent=inf),
    "cached_bytes_per_s": _Range(least=1e6, start=2e10, most=1e15, absent=inf),
    "slowdown": _Range(least=1.0, start=3.0, most=60.0, absent=1.0),
    "cache_bytes": _Range(least=1e4, start=1e7, most=1e9, absent=1.0),
    "overlap": _Range(least=0.9, start=2.0, most=12.0, absent=1.0),
}


def fit(samples: Sequence[Sample]) -> dict[tuple[str, str], Constants]:
    """Constants by family and kind: every kind with enough points, and each family as a whole under `FAMILY`.

    ValueError for a family with fewer points than `FEWEST`.
    """
    found: dict[tuple[str, str], Constants] = {}
    families = dict.fromkeys(sample.work.family for sample in samples)
    for family in families:
        together = [sample for sample in samples if sample.work.family == family]
        if len(together) < FEWEST:
            raise ValueError(f"{len(together)} points of {family}: at least {FEWEST} are needed")
        found[family, FAMILY] = _judged(family, together)
        if family == "matmul":
            continue  # kinds of one product differ by a bias: they are fitted together
        for kind in dict.fromkeys(sample.work.kind for sample in together):
            own = [sample for sample in together if sample.work.kind == kind]
            if len(own) >= FEWEST:
                found[family, kind] = _judged(family, own)
    for kind in ("mm", "addmm", "convolution"):
        if ("matmul", FAMILY) in found:
            found["matmul", kind] = found["matmul", FAMILY]
    return found


def _judged(family: Family, samples: Sequence[Sample]) -> Constants:
    """Constants fitted to all samples, with the errors of constants that were fitted without them."""
    ratios = [
        log(sample.seconds / made.seconds(sample.work)) for made, held in _folds(family, samples) for sample in held
    ]
    outside = (1 - COVERED) / 2
    low, high = quantile(ratios, outside), quantile(ratios, 1 - outside)
    errors = [abs(exp(-ratio) - 1) for ratio in ratios]
    constants = _fitted(family, samples)
    return replace(
        constants,
        low=min(exp(low), 1.0),
        high=max(exp(high), 1.0),
        points=len(ratios),
        error=median(errors),
    )


def _folds(family: Family, samples: Sequence[Sample]) -> Iterator[tuple[Constants, Sequence[Sample]]]:
    """Every sample is held out once: by its place in a list that is sorted by size, so that folds span all sizes."""
    ordered = sorted(samples, key=lambda sample: (sample.work.bytes + sample.work.flops, sample.seconds))
    folds = min(FOLDS, len(ordered))
    for fold in range(folds):
        held = ordered[fold::folds]
        rest = [sample for index, sample in enumerate(ordered) if index % folds != fold]
        yield _fitted(family, rest), held


def _fitted(family: Family, samples: Sequence[Sample]) -> Constants:
    """Least squares of log ratios; `soft_l1`, because a machine that was busy for a moment must not move the rest."""
    import numpy as np
    from scipy.optimize import least_squares

    free = _FITTED[family]
    quickest = min(sample.seconds for sample in samples)

    def constants(logs: Sequence[float]) -> Constants:
        values = {name: each.absent for name, each in _RANGES.items()}
        values.update((name, exp(value)) for name, value in zip(free, logs, strict=True))
        return Constants(**values, low=1.0, high=1.0, points=0, error=0.0)

    def residuals(logs: Sequence[float]) -> list[float]:
        made = constants(logs)
        return [log(made.seconds(sample.work) / sample.seconds) for sample in samples]

    start = {name: _RANGES[name].start for name in free}
    start["t0"] = min(max(quickest / 2, _RANGES["t0"].least), _RANGES["t0"].most)
    bounds = tuple([log(getattr(_RANGES[name], end)) for name in free] for end in ("least", "most"))
    found = least_squares(
        residuals, np.log([start[name] for name in free]), bounds=bounds, loss="soft_l1", f_scale=0.1, max_nfev=300
    )
    return constants([float(value) for value in found.x])
