"""The ends of a training pass: the rows that carry loss, and the loss itself (docs/objectives.md, section 2).

Axis legend: see `tensor.py`; p positions with loss of one sequence. Either leaf is of training alone.
"""

from __future__ import annotations

from llmprof.predict.formats import FP32, INT64
from llmprof.predict.leaf import Leaves
from llmprof.predict.setting import Setting
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Home, Tensor, new
from llmprof.workload import Workload

ROWS, LOSS = "loss_rows", "loss"


def with_loss(leaves: Leaves, workload: Workload) -> Leaves:
    """The leaves of a model with those that `workload` adds, in the order of the call tree; neither has parameters."""
    if workload.phase != "train":
        return leaves
    first = next(path for path in ("head.dense", "head.proj", "lm_head") if path in leaves)
    made: Leaves = {}
    for path, parameters in leaves.items():
        if path == first and _selects(workload):
            made[ROWS] = ()
        made[path] = parameters
    made[LOSS] = ()
    return made


def loss_rows(tape: Tape, setting: Setting, x: Tensor) -> Tensor:
    """The leaf `loss_rows`: the rows [b, p, d] of x [b, t, d] that carry loss; x itself where all of them do."""
    if not _selects(setting.workload):
        return x
    with tape.module(ROWS, x):
        rows = _rows(setting)
        return tape.gather("index_select", x, setting.constant(("positions",), rows, INT64), {**rows, "d": x.axes["d"]})


def loss(tape: Tape, setting: Setting, logits: Tensor) -> Tensor:
    """The leaf `loss`: the mean cross-entropy of logits [b, t or p, v] in fp32, a scalar."""
    with tape.module(LOSS, logits):
        log_probabilities = tape.run("_log_softmax", tape.cast(logits, FP32), fmt=FP32)
        rows = {name: size for name, size in logits.axes.items() if name != "v"}
        targets = setting.constant(("targets",), rows, INT64)
        picked = Tensor("picked", rows, FP32, log_probabilities.storage, None, of=log_probabilities, via="gather")
        total_weight = new("total weight", {}, FP32, Home.ACTIVATION)
        return tape.run("nll_loss_forward", targets, picked, axes={}, fmt=FP32, aux=[total_weight], over=targets)


def _selects(workload: Workload) -> bool:
    """Whether fewer positions than all carry loss."""
    return workload.loss_tokens < workload.new_tokens


def _rows(setting: Setting) -> dict[str, int]:
    """The axes of the rows with loss."""
    return {"b": setting.b, "p": setting.workload.loss_tokens}
