"""Latent attention, experts, mixers, hybrids and every option of gqa: what reaches memory is the same to both halves."""

from __future__ import annotations

from itertools import cycle, islice

import pytest

from llmprof.twin.core import NoFusedKernel
from llmprof.workload import Execution
from tests.families import runs
from tests.importing import EVERYTHING
from tests.memory_levels import levels
from tests.modern import NAMES, modern
from tests.property.test_modern_equal_twin import works

CAPACITIES = ((200, 3_000, None), (700, 20_000), (1_500, 6_000))
"""Below what a layer's activations take, about them, and above."""


@pytest.mark.parametrize("name", NAMES)
def test_below_small_caches(name: str) -> None:
    """Two of the regimes or so, fused and unfused; all of them, on both devices, with LLMPROF_EVERY=1."""
    spec = modern(name)
    regimes = [work for work in works(spec) if runs(spec, work)]
    step = 1 if EVERYTHING else 9
    turns = cycle([("fused", "meta"), ("unfused", "meta"), ("unfused", "cpu")])
    checked = 0
    for work, capacities, (attention, device) in zip(
        islice(regimes, 0, None, step), cycle(CAPACITIES), turns, strict=False
    ):
        try:
            found = levels(
                spec,
                work,
                Execution(attention=attention, kernels="cpu" if device == "cpu" else "cuda"),  # type: ignore[arg-type]
                capacities,
                device=device,
            )
        except NoFusedKernel:
            continue
        assert found.differences() == [], work
        checked += 1
    assert checked
