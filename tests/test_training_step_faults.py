"""Faults planted in the prediction of a training step: the join with what was measured finds each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmprof.ledger import Verdict
from llmprof.predict.training import formulas as f
from llmprof.predict.training import fused_rules, lifetimes, optimizer, recompute, rules, saved
from llmprof.predict.training.engine import _Walk
from llmprof.predict.training.recorder import Recorder
from tests.faults import planted
from tests.test_training_step import ARCHS, rows

Fault = tuple[str, Callable[..., Any], str, str, str, dict[str, Any]]
"""An architecture, a piece of the source of a function and what stands in its place, what must differ, the setting."""

FAULTS: dict[str, Fault] = {
    "a bias without a gradient": ("bert", f.addmm, "p.give(p.op.reads[0], grad)", "pass", "hbm_bytes_backward", {}),
    "a weight that is not multiplied again": (
        "llama", f.mul, "p.run(\"mul\", p.grad, p.saved(y), axes=p.grad.axes)", "p.grad", "hbm_bytes_backward", {},
    ),
    "a LayerNorm that reads its bias": (
        "bert", f.layer_norm, "*parameters[:1]", "*parameters", "hbm_bytes_backward", {},
    ),
    "a power in one kernel": (
        "llama", f.square_by_power, "p.run(\"mul\", power)", "power", "hbm_bytes_backward", {},
    ),
    "a table of which rows alone are written": (
        "bert", f.embedding, "(made, touched))", "(touched,))", "hbm_bytes_backward", {},
    ),
    "a gradient in the place of another": (
        "llama", _Walk._hand_on, "self.slots[id(tensor)] = gradient if old is None else",
        "self.slots[id(tensor)] = gradient if True else", "hbm_bytes_backward", {},
    ),
    "heads that are rows without a copy": (
        "bert", Recorder.reshaped, "self.clone(path, x).seen_as", "x.seen_as", "hbm_bytes_backward", {},
    ),
    "a fused kernel that does not save its result": (
        "bert", fused_rules.saves, "made.o, ", "", "saved_bytes", {"attention": "fused"},
    ),
    "a mask that is saved with its input": (
        "bert", rules._mask, "(op.writes[1],)", "(op.writes[1], op.reads[0])", "saved_bytes", {"dropout": 0.1},
    ),
    "a storage that is saved twice": ("llama", saved._first, " and storage not in seen", "", "saved_bytes", {}),
    "what is saved is let go at once": (
        "llama", _Walk.back_through, "held: Sequence[Tensor] = kept", "held: Sequence[Tensor] = ()", "peak_live_bytes",
        {},
    ),
    "logits and loss die": (
        "gpt2", lifetimes.peak, "(*held, *walked.learned.values())", "walked.learned.values()", "peak_live_bytes", {},
    ),
    "gradients of parameters die": (
        "bert", lifetimes._place_backward, "if storage in learned else", "if False else", "peak_live_bytes", {},
    ),
    "what runs again is not launched": (
        "llama", recompute.Again.launch, "tape.ops.append(op)", "pass", "hbm_bytes_backward", {"recompute": "full"},
    ),
    "what runs again keeps all that it reads": (
        "t5", recompute._from_outside, "tensor.storage not in made and", "", "saved_bytes", {"recompute": "selective"},
    ),
    "no master weights": ("bert", optimizer.state_bytes, "STATES + MASTER", "STATES", "optimizer_bytes", {}),
    "casts that take no room": ("bert", optimizer.cast_bytes, "else 4 * values", "else 0", "optimizer_peak_bytes", {}),
    "masters that are not copied back": (
        "bert", optimizer.step_bytes, "(e + 4) + (4 + e)", "(e + 4)", "hbm_bytes_optimizer", {},
    ),
    "a parameter that is not missed": (
        "bert", optimizer._take, "if tensor.home is Home.WEIGHT", "if tensor.home is Home.WEIGHT and tensor.of",
        "gradient_bytes", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_prediction_differs(fault: str) -> None:
    name, function, old, new, quantity, how = FAULTS[fault]
    with planted(function, old, new):
        found = rows(ARCHS[name], **how)
    assert quantity in {row.quantity for row in found if row.verdict is Verdict.DIFFERS}
