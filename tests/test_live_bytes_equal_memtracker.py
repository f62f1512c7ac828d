"""Live bytes are those of torch's own tracker: `torch.distributed._tools.mem_tracker.MemTracker`, tolerance 0.

It too follows storages by weak references under a dispatch mode, but is other people's code. Its hooks on modules are
taken out: they hold gradients of a module with several inputs until all have arrived, and so change what they measure
(torch 2.13.0, `register_multi_grad_hook`; seen in T5's and BART's decoder layers, 2026-11-30).
"""

from __future__ import annotations

from typing import Any

import pytest
from torch.distributed._tools import mem_tracker

from llmprof.measure.training import measure_training
from llmprof.objectives import default_objective, training_workload
from llmprof.twin.build import build
from llmprof.twin.training import TrainingSession
from llmprof.workload import Dtypes, Execution, Recompute
from tests.confirming import BF16, FP32
from tests.test_training_step import ARCHS, TEXT, Attention


class _WithoutHooks:
    """What `MemTracker` asks of its tracker of modules, where no module is watched."""

    is_bw = False
    parents: frozenset[str] = frozenset()

    def register_user_hooks(self, *hooks: object) -> None:
        """No module is watched."""

    def clear_user_hooks(self) -> None:
        """None was."""

    def __enter__(self) -> _WithoutHooks:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing was entered."""


@pytest.mark.parametrize(
    ("name", "attention", "device", "dtypes", "recompute", "dropout"),
    [
        ("gpt2", "unfused", "meta", BF16, "none", 0.1),
        ("gpt2", "fused", "cpu", FP32, "none", 0.0),
        ("llama", "unfused", "cpu", FP32, "selective", 0.0),
        ("llama", "fused", "meta", BF16, "full", 0.1),
        ("chatglm", "fused", "meta", FP32, "selective", 0.0),
        ("t5", "fused", "meta", FP32, "full", 0.1),
        ("t5", "unfused", "meta", FP32, "none", 0.0),
        ("bart", "unfused", "meta", BF16, "none", 0.1),
        ("bert", "unfused", "meta", FP32, "full", 0.1),
    ],
)
def test_the_peak_of_a_step(
    name: str,
    attention: Attention,
    device: str,
    dtypes: Dtypes,
    recompute: Recompute,
    dropout: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mem_tracker, "ModTracker", _WithoutHooks)
    arch = ARCHS[name]
    work = training_workload(
        arch,
        default_objective(arch),
        text=TEXT,
        batch=2,
        prefix_tokens=None,
        dtypes=dtypes,
        recompute=recompute,
        dropout=dropout,
    )
    execution = Execution(attention=attention, kernels="cpu" if device == "cpu" else "cuda")
    twin = build(arch, dtypes=dtypes, device=device)
    ours = measure_training(twin, work, execution, text=TEXT).ledger.at("", "peak_live_bytes")
    session = TrainingSession(twin, work, execution, text=TEXT)
    with session.training():
        tracker: Any = mem_tracker.MemTracker()
        tracker.track_external(*twin.parameters(), *twin.buffers(), *session.constants)
        with tracker:
            output = session.forward()
            assert output.loss is not None
            gradients = session.gradients(output.loss)
    assert gradients
    constants = {tensor.untyped_storage()._cdata for tensor in session.constants}
    stored = {tensor.untyped_storage()._cdata: tensor for tensor in (*twin.parameters(), *twin.buffers())}
    beside = sum(x.untyped_storage().nbytes() for address, x in stored.items() if address not in constants)
    (theirs,) = (snapshot["Total"] for snapshot in tracker.get_tracker_snapshot("peak").values())
    assert theirs - beside == ours
