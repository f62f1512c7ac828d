"""Constants of one kernel out of measured times: least squares of log ratios, with the error on what was held out.

Every formula is the one that predicts. Constants start from those of a kernel like it, and stay within `RANGES`. scipy
and numpy are imported when something is fitted (the extra `calibrate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, floor, log
from statistics import median
from typing import TYPE_CHECKING

from llmprof.device_figures import KernelConstants
from llmprof.errors import InputError
from llmprof.latency.accuracy import quantile
from llmprof.latency.constants import Bound
from llmprof.latency.estimate import SHORT, kernel_seconds
from llmprof.latency.figures import Figures
from llmprof.latency.op import Op

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 3
TAIL = 0.05
"""Of held-out ratios on each side of an interval."""

FEWEST_OF_A_KIND = 12
"""With fewer short or long times, both kinds share one interval."""

NOISE = 0.08
"""Log ratios beyond this count less than their square: tables have outliers that no formula of this kind has."""

RANGES: dict[str, tuple[float, float]] = {
    "t0": (0.3, 200),
    "e_c": (0.03, 1),
    "e_b": (0.05, 1),
    "e_w": (0.1, 1),
    "e_p": (0.1, 1),
    "b_sm": (3, 400),
    "tau": (0.01, 40),
    "q": (0, 1),
    "p": (1, 8),
    "t_s": (0.1, 12),
    "hot": (0.02, 1.5),
    "r_l2": (1, 8),
    "k_t": (1e-4, 4),
    "t_q": (0.01, 12),
    "r_row": (1e-4, 20),
    "e_q": (0.05, 3),
    "panel": (10, 1e5),
    "reread": (0.001, 1),
    "t_g": (0.01, 10),
    "e_g": (0.02, 3),
    "t_b": (0.01, 200),
    "q_sm": (0.5, 200),
    "x": (0, 3),
    "y": (0, 1),
    "v": (0, 1),
    "sp": (0, 1),
    "t_d": (0.01, 8),
    "k_d": (0.1, 300),
    "e_diag": (0.001, 4),
    "c_w": (0.1, 10),
    "t_n": (0.001, 10),
    "t_ep": (0.01, 40),
    "e_a": (0.05, 3),
    "a_t": (0.01, 100),
    "mis": (1, 5),
    "t_row": (1e-5, 3),
    "tile": (1, 300),
    **{f"{start}_{n}": (0.3, 2000) for start in ("a1", "a2") for n in (2, 4, 8)},
    **{f"{rate}_{n}": (100, 1e7) for rate in ("c1", "c2") for n in (2, 4, 8)},
}
"""Within which each constant is looked for; what has no range (a number of splits, a choice of form) stays as it is."""

LINEAR = {"q", "x", "y", "v", "sp"}
"""Constants that may be 0; the others are varied by factors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A kernel that was timed, in seconds."""

    op: Op
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Constants of all points, with intervals and errors (in percent) of each third, fitted to the other two."""

    kernel: KernelConstants
    count: int
    median: float
    p90: float


def fit(points: Sequence[Measured], figures: Figures, start: KernelConstants) -> Fitted:
    """The constants of a kernel on a device with these figures, of the form of `start`.

    InputError where there are fewer points than are needed to hold any out.
    """
    free = [name for name in start.constants if name in RANGES]
    if len(points) < 2 * len(free):
        raise InputError(f"{start.op} {start.dtype}: found {len(points)} times, expected at least {2 * len(free)}")
    whole = _fitted(points, figures, start, free)
    ratios: list[tuple[float, float]] = []
    for fold in range(FOLDS):
        rest = [point for number, point in enumerate(points) if number % FOLDS != fold]
        kernel = _fitted(rest, figures, whole, free)
        for point in points[fold::FOLDS]:
            predicted = kernel_seconds(point.op, Bound(kernel=kernel, figures=figures))
            ratios.append((predicted, log(point.seconds / predicted)))
    errors = [abs(exp(-ratio) - 1) * 100 for _, ratio in ratios]
    short = [ratio for predicted, ratio in ratios if predicted < SHORT]
    long = [ratio for predicted, ratio in ratios if predicted >= SHORT]
    both = short + long
    kernel = replace(whole, short=interval(_enough(short, both)), long=interval(_enough(long, both)))
    return Fitted(kernel=kernel, count=len(points), median=median(errors), p90=quantile(errors, 0.9))


def _enough(kind: list[float], both: list[float]) -> list[float]:
    return kind if len(kind) >= FEWEST_OF_A_KIND else both


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The split-conformal factors that hold 90% of log ratios like these, 5% beyond either end, and 1 between them."""
    ordered = sorted(ratios)
    low = ordered[max(0, floor(TAIL * (len(ordered) + 1)) - 1)]
    high = ordered[min(len(ordered) - 1, ceil((1 - TAIL) * (len(ordered) + 1)) - 1)]
    return min(1.0, exp(low)), max(1.0, exp(high))


def _fitted(
    points: Sequence[Measured], figures: Figures, start: KernelConstants, free: Sequence[str]
) -> KernelConstants:
    import numpy as np
    from scipy.optimize import least_squares

    def varied(name: str, value: float) -> float:
        low, high = RANGES[name]
        inside = min(max(value, low), high)
        return inside if name in LINEAR else log(inside)

    def kernel(values: Sequence[float] | NDArray[np.float64]) -> KernelConstants:
        found = {name: float(v) if name in LINEAR else exp(v) for name, v in zip(free, values, strict=True)}
        return replace(start, constants={**start.constants, **found})

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        bound = Bound(kernel=kernel(values), figures=figures)
        return np.array([log(kernel_seconds(point.op, bound) / point.seconds) for point in points])

    lowest = [varied(name, RANGES[name][0]) for name in free]
    highest = [varied(name, RANGES[name][1]) for name in free]
    first = np.clip(
        [varied(name, start.constants[name]) for name in free], np.array(lowest) + 1e-9, np.array(highest) - 1e-9
    )
    found = least_squares(
        residuals, first, bounds=(lowest, highest), loss="soft_l1", f_scale=NOISE, diff_step=1e-3, max_nfev=60
    )
    return kernel(found.x)
