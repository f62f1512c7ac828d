"""What each kernel saves for its backward, and what its backward launches: one rule per kind, in one table.

What is saved is torch's choice (tools/autograd/derivatives.yaml of torch 2.13; docs/reference-training.md, section 4),
and so is what is launched (`formulas.py`). Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llmprof.predict.op import Op
from llmprof.predict.tensor import Tensor
from llmprof.predict.training import formulas, fused_rules

Needs = Callable[[Tensor], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """`saves`: what is saved, given which inputs take a gradient; `back`: what backward launches.

    `inner`: all but so many last axes of the result are one axis to the kernel. A gradient that no view can show so is
    copied, in the node of the view, before `back`.
    """

    back: formulas.Back
    saves: Callable[[Op, Needs], tuple[Tensor, ...]] = lambda op, needs: ()
    inner: int | None = None


# --- what is saved --------------------------------------------------------------------------------------


def _input(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    return (op.reads[0],)


def _result(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    return (op.writes[0],)


def _other(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    """Of two factors, each where the other takes a gradient; of one and a number, none."""
    if len(op.reads) == 1:
        return ()
    x, y = op.reads
    return tuple(factor for factor, learned in ((y, x), (x, y)) if needs(learned))


def _factors(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    assert op.contraction is not None
    left, right = op.contraction.left, op.contraction.right
    return tuple(factor for factor, learned in ((right, left), (left, right)) if needs(learned))


def _statistics(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    return (*op.reads, *op.writes[1:])


def _mask(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    return (op.writes[1],)


def _index(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    return (op.reads[0],)


def _loss(op: Op, needs: Needs) -> tuple[Tensor, ...]:
    targets, picked = op.reads
    assert picked.of is not None
    return (picked.of, targets, op.writes[1])


RULES: Mapping[str, Rule] = {
    "mm": Rule(formulas.mm, _factors, inner=1),
    "addmm": Rule(formulas.addmm, _factors, inner=1),
    "bmm": Rule(formulas.bmm, _factors, inner=2),
    "baddbmm": Rule(formulas.baddbmm, _factors, inner=2),
    "add": Rule(formulas.add),
    "add_": Rule(formulas.add),
    "mul": Rule(formulas.mul, _other),
    "mul_": Rule(formulas.mul, _other),
    "div_": Rule(formulas.of_gradient("div")),
    "neg": Rule(formulas.of_gradient("neg")),
    "tanh_": Rule(formulas.of_result("tanh_backward"), _result),
    "relu": Rule(formulas.of_result("threshold_backward"), _result),
    "sigmoid": Rule(formulas.of_result("sigmoid_backward"), _result),
    "gelu": Rule(formulas.of_input("gelu_backward"), _input),
    "gelu-tanh": Rule(formulas.of_input("gelu_backward"), _input),
    "silu": Rule(formulas.of_input("silu_backward"), _input),
    "cast": Rule(formulas.cast),
    "clone": Rule(formulas.same),
    "copy_": Rule(formulas.same),
    "cat": Rule(formulas.cat),
    "pow": Rule(formulas.square_by_power, _input),
    "square": Rule(formulas.square, _input),
    "mean": Rule(formulas.mean),
    "rsqrt": Rule(formulas.rsqrt, _result),
    "layer_norm": Rule(formulas.layer_norm, _statistics),
    "native_dropout": Rule(formulas.dropout, _mask),
    "softmax": Rule(formulas.softmax_backward("_softmax_backward_data"), _result),
    "_log_softmax": Rule(formulas.softmax_backward("_log_softmax_backward_data"), _result),
    "embedding": Rule(formulas.embedding, _index),
    "index_select": Rule(formulas.index_select, _index),
    "nll_loss_forward": Rule(formulas.nll, _loss),
    **{kernel: Rule(fused_rules.attention, fused_rules.saves) for kernel in ("flash", "efficient", "cpu", "none")},
}
"""Kind of kernel -> its rule. A kind without a line here makes the figures of an architecture absent (NoRule)."""
