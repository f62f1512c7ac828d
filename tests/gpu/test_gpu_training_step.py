"""A training step on CUDA tensors: backward, what is saved, the peak and the optimiser are those that are predicted."""

from __future__ import annotations

import pytest

from llmprof.workload import RECOMPUTE, Recompute
from tests.confirming import BF16, FP32
from tests.test_training_step import ARCHS, Attention, differing, rows

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("attention", ["fused", "unfused"])
@pytest.mark.parametrize("name", ARCHS)
def test_a_step_of_every_structure(name: str, attention: Attention, recompute: Recompute) -> None:
    for batch, dtypes, dropout in ((2, BF16, 0.1), (1, FP32, 0.0)):
        found = rows(
            ARCHS[name],
            attention=attention,
            device="cuda",
            batch=batch,
            dtypes=dtypes,
            recompute=recompute,
            dropout=dropout,
        )
        assert differing(found) == [], batch
