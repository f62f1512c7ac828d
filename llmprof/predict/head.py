"""What follows the last layer: pooler, head and output matrix (reference-execution.md, sections 5 and 7).

Axis legend: see `tensor.py`. x is [b, t, d].
"""

from __future__ import annotations

from llmprof.predict.linear import linear, matmul
from llmprof.predict.norms import normalise
from llmprof.predict.setting import Setting
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.spec.arch import LmHead, MlmHead


def pool(tape: Tape, x: Tensor) -> Tensor:
    """The leaf `pooler`: a biased d x d matrix and tanh on each sequence's first token. Returns [b, d_out]."""
    with tape.module("pooler", x):
        first = Tensor("first", {"b": x.axes["b"], "d": x.axes["d"]}, x.format, x.storage, None)
        return tape.run("tanh", matmul(tape, first, tape.cast_parameters()))


def masked_head(tape: Tape, setting: Setting, spec: MlmHead, x: Tensor) -> Tensor:
    """BERT's dense layer, exact GELU and norm, before the output matrix. Returns [b, t, d]."""
    y = linear(tape, "head.dense", x)
    with tape.module("head.act", y):
        y = tape.run("gelu", y)
    return normalise(tape, setting, "head.norm", spec.norm, y.renamed("d_out", "d"))


def logits(tape: Tape, setting: Setting, spec: LmHead | MlmHead, x: Tensor) -> Tensor:
    """The leaves `head.proj`, where there is one, and `lm_head`, on the rows of x that logits are wanted of.

    Returns [b, t, v], or [b, 1, v] where only the last position of each sequence is wanted.
    """
    input_scale = spec.input_scale if isinstance(spec, LmHead) else None
    output_scale = spec.output_scale if isinstance(spec, LmHead) else None
    softcap = spec.softcap if isinstance(spec, LmHead) else None
    projected = setting.arch.embedding_width is not None
    if projected:
        with tape.module("head.proj", x):
            parameters = tape.cast_parameters()
            x = matmul(tape, _wanted(tape, setting, x), parameters)
    with tape.module("lm_head", x):
        x = rows = tape.across("rows", x)
        parameters = tape.cast_parameters()
        if not projected:
            x = _wanted(tape, setting, x)
        if input_scale is not None:
            x = tape.run("mul", x)
        y = matmul(tape, x, parameters)
        if output_scale is not None:
            y = tape.update("mul_", y)
        if softcap is not None:
            for kind in ("div_", "tanh_", "mul_"):
                y = tape.update(kind, y)
        y = tape.across("columns", y)
        tape.touch((rows,))  # what is gathered for a module lives as long as its input
        return y


def _wanted(tape: Tape, setting: Setting, x: Tensor) -> Tensor:
    """The rows of x that logits are wanted of: all, or a view of each sequence's last, cloned where that is strided."""
    if setting.workload.logits != "last":
        return x
    last = x.sliced("t", 1, "last")
    return tape.run("clone", last) if x.axes["b"] > 1 and x.axes["t"] > 1 else last
