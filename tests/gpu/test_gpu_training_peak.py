"""The sensed peak of a training step on a GPU, against the live tensors that are counted one by one."""

from __future__ import annotations

import pytest
from small_model import ARCH, BF16

from llmprof.measure.training import measure_training
from llmprof.measure.training_peak import sense_training_peak
from llmprof.objectives import training_workload
from llmprof.twin.build import build
from llmprof.twin.training import TrainingSession
from llmprof.workload import Execution

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("attention", ["fused", "unfused"])
def test_what_was_requested_is_at_least_the_live_tensors_and_little_more(attention: str) -> None:
    workload = training_workload(ARCH, "causal-lm", text=256, batch=2, prefix_tokens=None, dtypes=BF16)
    execution = Execution(attention=attention)  # type: ignore[arg-type]
    twin = build(ARCH, dtypes=BF16, device="cuda")
    counted = measure_training(twin, workload, execution, text=256).ledger.at("", "peak_live_bytes")
    sensed = sense_training_peak(TrainingSession(twin, workload, execution, text=256))
    assert counted is not None
    assert sensed.peak_bytes is not None
    assert sensed.requested_bytes is None or counted <= sensed.requested_bytes <= counted + 64 * 2**20
