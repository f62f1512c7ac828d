"""Across generated architectures of the dense family, a whole training step is what was predicted, tolerance 0.

Backward, what is saved by leaf, the peak, gradients and optimiser; with and without dropout and recomputation. Sizes are
tiny, so that the peak falls anywhere.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from llmprof.errors import InputError
from llmprof.spec.arch import ArchSpec
from llmprof.training_rules import without_rule
from llmprof.twin.core import NoFusedKernel
from llmprof.workload import RECOMPUTE, Dtypes, Recompute
from tests.confirming import BF16, FP32
from tests.strategies import archs
from tests.test_training_step import Attention, differing, rows

SETTINGS: list[tuple[str, Dtypes]] = [("meta", BF16), ("cpu", FP32), ("cpu", BF16)]
"""Not fp32 on meta, whose LayerNorm lays its gradient as no kernel does (docs/reference-training.md, section 5)."""


@pytest.mark.slow
@settings(max_examples=40)
@given(
    arch=archs(),
    setting=st.sampled_from(SETTINGS),
    attention=st.sampled_from(["fused", "unfused"]),
    batch=st.sampled_from([1, 2, 3]),
    recompute=st.sampled_from(RECOMPUTE),
    dropout=st.sampled_from([0.0, 0.1]),
)
def test_a_step_of_any_dense_architecture(
    arch: ArchSpec, setting: tuple[str, Dtypes], attention: Attention, batch: int, recompute: Recompute, dropout: float
) -> None:
    assume(arch.head.kind != "none" and without_rule(arch) is None)
    device, dtypes = setting
    try:
        found = rows(
            arch, attention=attention, device=device, batch=batch, dtypes=dtypes, recompute=recompute, dropout=dropout
        )
    except (NoFusedKernel, InputError) as reason:
        event(f"{type(reason).__name__}")
        assert isinstance(reason, InputError) or attention == "fused"
        return
    event(f"{arch.structure} {recompute}")
    assert differing(found) == []
