"""The router of a mixture of experts (reference-experts.md, section 2).

It runs in full, and its choice is thrown away: which experts a token goes to is an input of the workload
(`llmprof/routing.py`). What it hands on are the weights of the experts that the table chose. Axis legend: see
`tensor.py`. Scores and weights are in fp32 until the last but one kernel.
"""

from __future__ import annotations

from llmprof.predict import constants
from llmprof.predict.formats import BOOL, FP32, INT64
from llmprof.predict.leaf import Parameter, matrix
from llmprof.predict.linear import matmul
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Axes, Home, Tensor, new
from llmprof.spec.arch import Moe


def router_parameters(spec: Moe, d: int) -> tuple[Parameter, ...]:
    """`weight` [E, D] and, where there is one, `bias` [E]; never quantised. A correction bias is no parameter."""
    return matrix("experts", spec.n_experts, "d", d, bias=spec.router_bias, packable=False)


def route(tape: Tape, side: Side, spec: Moe, x: Tensor, chosen: Tensor, slots: Tensor) -> Tensor:
    """The leaf `router` on x [b, t, d]: the weights [routed] of the rows that `slots` name, in the order of experts."""
    with tape.module("router", x):
        logits = tape.cast(matmul(tape, x, tape.cast_parameters()), FP32)
        if spec.scores == "sparsemixer":
            return _laid(tape, spec, _one_after_another(tape, logits, chosen), slots)
        p = logits if spec.scores == "softmax-chosen" else tape.run(spec.scores, logits, fmt=FP32)
        _choose(tape, side, spec, p)
        return _weights(tape, spec, p, chosen, slots)


def _one_after_another(tape: Tape, logits: Tensor, chosen: Tensor) -> Tensor:
    """The weights [b, t, top_k] of two experts, each of a softmax over those near the best (`sparsemixer`)."""
    rows = logits.without("experts")
    scores, made = logits, []
    for choice in range(2):
        at = new("at", rows, INT64, Home.ACTIVATION)
        best = tape.run("max", scores, axes=rows, fmt=FP32, aux=[at], over=scores)
        size = tape.run("maximum", tape.run("abs", logits, fmt=FP32), best, fmt=FP32)
        short = tape.run("sub", best, logits, axes=logits.axes, fmt=FP32)
        short = tape.run("div", short, size, fmt=FP32)
        far = tape.run("gt", short, fmt=BOOL)
        near = tape.run("softmax", tape.run("masked_fill", scores, far, fmt=FP32), fmt=FP32)
        column = chosen.sliced("top_k", 1, "choice")
        made.append(tape.gather("gather", near, column, {**rows, "choice": 1}))
        if choice == 0:
            scores = tape.run("clone", logits, fmt=FP32)
            tape.scatter_scalar(scores, column)
    weights = tape.run("cat", *made, axes={**rows, "top_k": 2}, fmt=FP32)
    tape.touch((logits, scores))
    return weights


def _choose(tape: Tape, side: Side, spec: Moe, p: Tensor) -> None:
    """Steps 4 to 6: the choice of `top_k` experts from p, which nothing takes."""
    c = p
    if spec.correction_bias:
        c = tape.run("add", c, constants.correction_bias(spec), fmt=FP32)
    if spec.n_groups > 1:
        c = _in_groups(tape, spec, c)
    _top(tape, c, {**c.without("experts"), "top_k": spec.top_k})


def _in_groups(tape: Tape, spec: Moe, c: Tensor) -> Tensor:
    """Step 5: c without the groups that a token does not choose from, whose scores become 0."""
    rows, members = c.without("experts"), spec.n_experts // spec.n_groups
    grouped = c.seen_as(**rows, egroups=spec.n_groups, members=members)
    best, places = _top(tape, grouped, {**grouped.without("members"), "best": min(2, members)})
    g = tape.reduce("sum", best, "best", fmt=FP32)
    tape.touch((places,))  # both outputs of this `topk` live until the sum has been taken
    best, places = _top(tape, g, {**rows, "picks": spec.groups_per_token})
    mask = tape.run("zeros", axes=g.axes, fmt=FP32)
    tape.scatter_scalar(mask, places)
    tape.touch((best,))  # likewise until their indices have been taken
    return tape.run("mul", grouped, mask, fmt=FP32).seen_as(**c.axes)


def _top(tape: Tape, x: Tensor, axes: Axes) -> tuple[Tensor, Tensor]:
    """`topk` of fp32: values and indices with these axes."""
    places = new("places", axes, INT64, Home.ACTIVATION)
    return tape.run("topk", x, axes=axes, fmt=FP32, aux=[places]), places


def _weights(tape: Tape, spec: Moe, p: Tensor, chosen: Tensor, slots: Tensor) -> Tensor:
    """Steps 7 to 11: what the chosen experts' outputs (or inputs) are multiplied by, laid in the order of experts."""
    w = tape.gather("gather", p, chosen, {**p.without("experts"), "top_k": spec.top_k})
    if spec.scores == "softmax-chosen":
        w = tape.run("softmax", w, fmt=FP32)
    if spec.normalise:
        w = tape.run("div", w, tape.reduce("sum", w, "top_k", fmt=FP32), fmt=FP32)
    return _laid(tape, spec, w, slots)


def _laid(tape: Tape, spec: Moe, w: Tensor, slots: Tensor) -> Tensor:
    """Steps 9 to 11: the weights scaled, in the activations' format, and in the order of experts."""
    if spec.scale != 1.0:
        tape.in_place("mul_", w)
    w = tape.cast(w)
    return tape.gather("index_select", w, slots, slots.axes)
