"""The backward of single kernels and short runs of them: what is saved, what is launched, what lives how long.

Sizes: rows t = 3, d = 4 inputs and f = 5 outputs, all in bf16 (2 bytes). X is 3 x 4 x 2 = 24 bytes, Y 3 x 5 x 2 = 30,
W 5 x 4 x 2 = 40.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from llmprof.predict.formats import BF16, FP32, INT64, Format
from llmprof.predict.op import Op
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Axes, Home, Tensor, new
from llmprof.predict.training import lifetimes
from llmprof.predict.training.engine import Engine, Kept, NoRule, Walked
from llmprof.predict.training.recompute import Region
from llmprof.predict.training.rules import RULES

T, D, F = {"t": 3}, {"d": 4}, {"f": 5}
X, Y, W = 24, 30, 40


def tape() -> Tape:
    return Tape(BF16, lambda path: (), keeps=True)


def given(axes: Axes, fmt: Format = BF16, home: Home = Home.INPUT, name: str = "x") -> Tensor:
    return new(name, axes, fmt, home)


def weight(axes: Axes, name: str = "weight") -> Tensor:
    return given(axes, home=Home.WEIGHT, name=name)


def back(t: Tape, result: Tensor, *inputs: Tensor) -> Walked:
    """The backward of a tape from a gradient of its result that is somebody else's."""
    gradient = new("g", result.axes, result.format, Home.INPUT)
    return Engine({}).walk(t.items, [(result, gradient)], inputs, ())


def launched(walked: Walked) -> list[tuple[str, int, int]]:
    return [(op.kind, op.read_bytes, op.write_bytes) for op in walked.ops]


def saved(walked: Walked) -> list[str]:
    return [each.tensor.name for each in walked.kept if isinstance(each, Kept)]


# --- kernels one by one ----------------------------------------------------------------------------------


def linear(t: Tape, x: Tensor) -> Tensor:
    return t.contract(x, weight({**F, **D}), "t f", kind="mm")


def biased(t: Tape, x: Tensor) -> Tensor:
    return t.contract(x, weight({**F, **D}), "t f", kind="addmm", addend=weight(F, "bias"))


def layer_norm(t: Tape, x: Tensor) -> Tensor:
    statistics = [new(name, T, FP32, Home.ACTIVATION) for name in ("mean", "rstd")]
    return t.run("layer_norm", x, weight(D), weight(D, "bias"), aux=statistics)


def looked_up(t: Tape, x: Tensor) -> Tensor:
    table = weight({"v": 9, **D})
    rows = Tensor("rows", {**T, **D}, BF16, table.storage, None, of=table, via="gather")
    return t.run("embedding", given(T, INT64, Home.CONSTANT, "ids"), rows, axes=rows.axes, fmt=BF16)


Case = tuple[Callable[[Tape, Tensor], Tensor], list[str], list[tuple[str, int, int]]]
CASES: dict[str, Case] = {
    # dW = G' X, then dX = G W
    "linear": (linear, ["weight", "x"], [("mm", Y + X, W), ("mm", Y + W, X)]),
    # with a bias in the other order, and the sum of G over its rows
    "biased": (biased, ["weight", "x"], [("mm", Y + W, X), ("mm", Y + X, W), ("sum", Y, 10)]),
    # G, x, the statistics and the weight; the bias is not read
    "layer_norm": (
        layer_norm,
        ["x", "weight", "bias", "mean", "rstd"],
        [("native_layer_norm_backward", X + X + 2 * 12 + 8, X + 8 + 8)],
    ),
    "gelu": (lambda t, x: t.run("gelu", x), ["x"], [("gelu_backward", 2 * X, X)]),
    "silu": (lambda t, x: t.run("silu", x), ["x"], [("silu_backward", 2 * X, X)]),
    "relu": (lambda t, x: t.run("relu", x), ["relu"], [("threshold_backward", 2 * X, X)]),
    "sigmoid": (lambda t, x: t.run("sigmoid", x), ["sigmoid"], [("sigmoid_backward", 2 * X, X)]),
    "softmax": (lambda t, x: t.run("softmax", x), ["softmax"], [("_softmax_backward_data", 2 * X, X)]),
    "neg": (lambda t, x: t.run("neg", x), [], [("neg", X, X)]),
    "mul by a number": (lambda t, x: t.run("mul", x), [], [("mul", X, X)]),
    # x * w: dw = G x, then dx = G w, then the sum of the first over the rows
    "mul by a weight": (
        lambda t, x: t.run("mul", x, weight(D)),
        ["weight", "x"],
        [("mul", 2 * X, X), ("mul", X + 8, X), ("sum", X, 8)],
    ),
    "mul by a constant": (
        lambda t, x: t.run("mul", x, given(D, home=Home.CONSTANT, name="cos")),
        ["cos"],
        [("mul", X + 8, X)],
    ),
    # relu squared as x * x: a product as either factor, and their sum
    "square": (lambda t, x: t.run("square", x), ["x"], [("mul", 2 * X, X), ("mul", 2 * X, X), ("add", 2 * X, X)]),
    "cast": (lambda t, x: t.cast(x, FP32), [], [("cast", 2 * X, X)]),
    # x ** 2 in fp32 terms: x ** 1, times 2, times G
    "pow": (lambda t, x: t.run("pow", x), ["x"], [("pow", X, X), ("mul", X, X), ("mul", 2 * X, X)]),
    "rsqrt": (lambda t, x: t.run("rsqrt", x), ["rsqrt"], [("pow", X, X), ("mul", X, X), ("mul", 2 * X, X)]),
    # the gradient of a row's mean is spread over the row: 3 values are read, 12 written
    "mean": (lambda t, x: t.run("mean", x, axes=T, over=x), [], [("div", 6, X)]),
    "add": (lambda t, x: t.run("add", x, t.run("neg", x)), [], [("neg", X, X), ("add", 2 * X, X)]),
    "add times alpha": (
        lambda t, x: t.run("add", given({**T, **D}, home=Home.CONSTANT), x, alpha=2.0),
        [],
        [("mul", X, X)],
    ),
    # a bias of the second of two axes: the sum over the first
    "add of a weight": (lambda t, x: t.run("add", x, weight(D)), [], [("sum", X, 8)]),
    "dropout": (
        lambda t, x: t.run(
            "native_dropout", x, aux=[new("mask", x.axes, Format("mask", 8, logical=True), Home.ACTIVATION)]
        ),
        ["mask"],
        [("native_dropout_backward", X + 12, X)],
    ),
    # zeros in 9 x 4, and 3 rows added: ids, the rows of G, those of the table
    "embedding": (looked_up, ["ids"], [("embedding_dense_backward", 24 + 2 * X, 72 + X)]),
    "index_select": (
        lambda t, x: t.gather("index_select", x, given({"p": 2}, INT64, Home.CONSTANT, "index"), {"p": 2, **D}),
        ["index"],
        [("new_zeros", 0, X), ("index_add_", 16 + 2 * 16, 16)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_one_kernel_saves_and_what_its_backward_launches(name: str) -> None:
    run, keeps, kernels = CASES[name]
    t = tape()
    x = given({**T, **D})
    walked = back(t, run(t, x), x)
    assert saved(walked) == keeps
    assert launched(walked) == kernels
    if name != "embedding":
        assert walked.gradients[id(x)].axes == x.axes
    assert {key[1]: gradient.axes for key, gradient in walked.learned.items()} == {
        tensor.name: tensor.axes
        for op in t.items
        if isinstance(op, Op)
        for tensor in [made.of or made for made in op.reads]
        if tensor.home is Home.WEIGHT
    }


def test_what_leads_to_no_result_launches_nothing() -> None:
    t = tape()
    x = given({**T, **D})
    linear(t, x)
    assert launched(back(t, t.run("neg", x), x)) == [("neg", X, X)]


def test_a_kernel_without_a_rule_is_named_and_not_guessed() -> None:
    t = tape()
    x = given({**T, **D})
    y = t.run("softplus", t.run("maximum", x))
    with pytest.raises(NoRule, match="maximum, softplus"):
        back(t, y)
    assert {"maximum", "softplus", "topk", "cumsum"}.isdisjoint(RULES)


# --- views and layouts -----------------------------------------------------------------------------------


def heads(t: Tape, *, b: int, x: int) -> tuple[Tensor, list[tuple[str, int, int]]]:
    """Rows of `x` heads of 2, negated as [b, x, t, h] and laid out so: what the way back to the rows costs."""
    rows = given({"b": b, "t": 3, "q": 2 * x})
    seen = t.run("neg", rows).seen_as(b=b, t=3, x=x, h=2).ordered("b", "x", "t", "h")
    return rows, launched(back(t, t.run("clone", seen), rows))


def test_a_gradient_by_heads_is_copied_where_no_view_shows_it_as_rows() -> None:
    n = 2 * 3 * 4 * 2 * 2
    assert heads(tape(), b=2, x=4)[1] == [("clone", n, n), ("neg", n, n)]
    assert heads(tape(), b=2, x=1)[1] == [("neg", n // 4, n // 4)], "one head lies as rows do"


def test_a_slice_goes_back_into_zeros_and_an_expansion_is_summed() -> None:
    t = tape()
    x = given({**T, **D})
    assert launched(back(t, t.run("neg", x.sliced("d", 1, "one")), x)) == [
        ("neg", 6, 6),
        ("slice_backward", 6, X + 6),
    ]
    t = tape()
    assert launched(back(t, t.run("clone", x.expand("g", 2, after="t")), x)) == [("sum", 2 * X, X)]


def test_the_second_operand_of_a_product_gets_its_gradient_as_it_was_taken() -> None:
    t = tape()
    q, k = given({"b": 2, "t": 3, "h": 4}, name="q"), given({"b": 2, "s": 5, "h": 4}, name="k")
    walked = back(t, t.contract(q, k, "b t s", kind="bmm"), q, k)
    assert saved(walked) == ["k", "q"]
    scores, queries, keys = 2 * 3 * 5 * 2, 2 * 3 * 4 * 2, 2 * 5 * 4 * 2
    assert launched(walked) == [("bmm", queries + scores, keys), ("bmm", scores + keys, queries)]
    assert walked.gradients[id(k)].memory == ("b", "h", "s")
    assert walked.gradients[id(q)].memory == ("b", "t", "h")


# --- lifetimes -------------------------------------------------------------------------------------------


def peak(t: Tape, walked: Walked, held: Sequence[Tensor]) -> int:
    t.touch(held)
    return lifetimes.peak(t.items, walked, held)


def test_a_linear_a_gelu_and_a_norm_by_hand() -> None:
    """y = x W', z = gelu(y), n = norm(z): what is saved, what is launched, and the peak."""
    t = tape()
    x = given({**T, **D})
    y = linear(t, x)
    z = t.run("gelu", y)
    statistics = [new(name, T, FP32, Home.ACTIVATION) for name in ("mean", "rstd")]
    n = t.run("layer_norm", z, weight(F, "scale"), weight(F, "shift"), aux=statistics)
    walked = back(t, n, x)
    stats, vector = 2 * 12, 10
    assert saved(walked) == ["weight", "x", "mm", "gelu", "scale", "shift", "mean", "rstd"]
    assert launched(walked) == [
        ("native_layer_norm_backward", Y + Y + stats + vector, Y + vector + vector),
        ("gelu_backward", 2 * Y, Y),
        ("mm", Y + X, W),
        ("mm", Y + W, X),
    ]
    # x, the weights and the gradient of n are the caller's. n is held to the end.
    live = (
        Y,  # mm: y
        2 * Y,  # gelu: y, z
        3 * Y + stats,  # norm: y, z, n, statistics
        4 * Y + stats + 2 * vector,  # its backward: all that, dz and the gradients of its parameters
        4 * Y + 2 * vector,  # gelu's backward: y, n, dz, dy; z and the statistics are let go
        2 * Y + 2 * vector + W,  # the weight's gradient: n, dy, dW; y and dz are let go
        2 * Y + 2 * vector + W + X,  # the input's: and dx
    )
    assert peak(t, walked, [n]) == max(live) == live[3] == 4 * 30 + 24 + 20


def test_two_gradients_and_their_sum_live_together() -> None:
    """x + gelu(x) of rows that a kernel made: the residual's gradient waits for the other."""
    t = tape()
    x = given({**T, **D})
    y = t.run("neg", x)
    result = t.run("add", t.run("gelu", y), y)
    walked = back(t, result, x)
    assert launched(walked) == [("gelu_backward", 2 * X, X), ("add", 2 * X, X), ("neg", X, X)]
    # y and the result; y, the result and gelu's gradient; then that, the sum, and the result; the sum, dx, the result
    assert peak(t, walked, [result]) == max(3 * X, 3 * X, 3 * X, 3 * X) == 72


def test_a_formula_holds_all_that_it_makes_until_it_is_complete() -> None:
    t = tape()
    x = t.run("neg", given({**T, **D}))
    y = t.run("pow", x)
    walked = back(t, y)
    # x, x ** 1, 2 x ** 1, the product; y is let go after the forward pass
    assert peak(t, walked, []) == 4 * X
    assert walked.last[walked.made[0].storage] == 2, "x ** 1 lives through the last product"


def test_gradients_of_parameters_live_to_the_end() -> None:
    t = tape()
    x = given({**T, **D})
    y = x
    for index in range(3):
        y = t.run("mul", y, weight(D, name=f"w{index}"))
    walked = back(t, y, x)
    # x and the first gradient are the caller's. Of the three products y1, y2, y3 the first two are saved.
    live = (
        3 * X,  # y1, y2, y3
        4 * X + 8,  # last sum first: y1, y2, the product that is summed, the gradient of y2, w2's
        4 * X + 2 * 8,  # y1, the gradient of y2, the product, the gradient of y1, w2's and w1's
        3 * X + 3 * 8,  # the gradient of y1, the product, that of x, all three parameters'
    )
    assert lifetimes.peak(t.items, walked, []) == max(live) == 4 * X + 2 * 8


def test_what_is_saved_lives_through_the_sums_but_not_what_was_computed_again() -> None:
    """z = relu(y), w = b + z V': at the sum of the bias, z is still saved, or gone if it was computed again."""

    def at_the_sum(*, again: bool) -> tuple[int, int]:
        t = tape()
        y = given({**T, **D}, name="y")
        z = t.run("relu", y)
        w = t.contract(z, weight({**F, **D}), "t f", kind="addmm", addend=weight(F, "bias"))
        gradient = new("g", w.axes, w.format, Home.INPUT)
        ops = [op for op in t.items if isinstance(op, Op)]
        region = [Region("", 0, ops, [y])] if again else []
        walked = Engine({}).walk(t.items, [(w, gradient)], [y], region)
        kinds = [op.kind for op in walked.ops]
        assert kinds == ["relu", "addmm"] * again + ["mm", "mm", "sum", "threshold_backward"]
        (read,) = (tensor for tensor in walked.ops[kinds.index("mm") + 1].reads if tensor.name == "relu")
        return walked.last[read.storage], kinds.index("sum")

    # relu's result is saved by relu too: it lives on for threshold_backward, either way.
    assert at_the_sum(again=False) == (3, 2)
    assert at_the_sum(again=True) == (5, 4)


def test_a_factor_that_was_computed_again_dies_before_the_sums() -> None:
    def last_of_normalised(*, again: bool) -> tuple[int, int]:
        t = tape()
        x = given({**T, **D})
        y = t.run("neg", x)
        z = t.run("mul", y, weight(D))
        gradient = new("g", z.axes, z.format, Home.INPUT)
        ops = [op for op in t.items if isinstance(op, Op)]
        walked = Engine({}).walk(t.items, [(z, gradient)], [x], [Region("", 0, ops, [x])] if again else [])
        kinds = [op.kind for op in walked.ops]
        first = walked.ops[kinds.index("mul", 2 if again else 0)]
        (read,) = (tensor for tensor in first.reads if tensor.name == "neg")
        return walked.last[read.storage], kinds.index("sum")

    assert last_of_normalised(again=False) == (2, 2)
    assert last_of_normalised(again=True) == (3, 4), "neg, mul, then the two products, then the sum"
