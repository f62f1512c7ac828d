"""Constants out of times that known constants made, and intervals out of known ratios."""

from __future__ import annotations

from dataclasses import replace
from math import log
from random import Random

import pytest

from llmprof import device
from llmprof.errors import InputError
from llmprof.latency.constants import Bound
from llmprof.latency.estimate import kernel_seconds
from llmprof.latency.figures import fitted
from llmprof.latency.fit import Measured, fit, interval
from llmprof.latency.op import MlaDecode, Op
from tests.unit.latency_samples import GEMM, ROUND, kernel

pytest.importorskip("scipy")

STEPS: list[Op] = [
    MlaDecode(batch=b, context=s, heads=h) for b in (1, 16, 128, 1024) for s in (64, 1024, 16384) for h in (8, 32, 128)
]


def test_constants_are_found_again_from_another_start() -> None:
    h100 = device.find("h100-sxm-80gb")
    found = h100.latency
    assert found is not None
    truth = next(each for each in found.kernels if (each.op, each.dtype) == ("mla-decode", "bf16"))
    figures = fitted(found, h100)
    random = Random(1)
    points = [
        Measured(op=op, seconds=kernel_seconds(op, Bound(kernel=truth, figures=figures)) * random.uniform(0.97, 1.03))
        for op in STEPS
    ]
    start = replace(truth, constants={**truth.constants, "t0": 30.0, "e_c": 0.4, "e_b": 0.5})
    result = fit(points, figures, start)
    for name in ("t0", "e_c", "e_b"):
        assert result.kernel.constants[name] == pytest.approx(truth.constants[name], rel=0.05)
    assert result.count == len(STEPS)
    assert result.median < 3
    assert result.p90 < 6
    low, high = result.kernel.long
    assert 0.9 < low < 1 < high < 1.1


def test_too_few_times_are_refused() -> None:
    with pytest.raises(InputError, match="gemm bf16: found 1 times, expected at least 20"):
        fit([Measured(op=STEPS[0], seconds=1e-3)], ROUND, kernel("gemm", GEMM, form="searched"))


def test_an_interval_leaves_a_twentieth_beyond_either_end() -> None:
    ratios = [log(1 + (n - 50) / 100) for n in range(1, 100)]  # 0.51 to 1.49
    for given, low, high in ((ratios, 0.55, 1.45), ([log(1.2), log(1.3)], 1.0, 1.3), ([log(0.5)], 0.5, 1.0)):
        # The 5th of 99 from either end; of few, the ends; and the time itself is always within.
        assert list(interval(given)) == pytest.approx([low, high])
