"""Feed-forward blocks: two matrices around an activation, or three with a gate (reference-execution.md, sections 5, 7).

Activations of experts too (reference-experts.md, section 2). Axis legend: see `tensor.py`. N F values between the
matrices.
"""

from __future__ import annotations

from typing import assert_never

from llmprof.predict.formats import BOOL
from llmprof.predict.leaf import Leaves, Parameter, matrix
from llmprof.predict.linear import linear
from llmprof.predict.lowering import Kept
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.spec.arch import ChannelMix, Expert, Ffn, Glu, Mlp, Moe, NoFfn


def expert_leaves(spec: Expert, d: int, axis: str = "f", rows: str = "d") -> Leaves:
    """The matrices of a plain feed-forward around its activation, on rows of width `d`.

    `axis` is what the width between the matrices is called, `rows` what that of the rows is.
    """
    into = matrix(axis, spec.d_ff, rows, d, bias=spec.bias)
    match spec:
        case Mlp():
            down = matrix(rows, d, axis, spec.d_ff, bias=spec.bias)
            learned = (Parameter("alpha_p", {"one": 1}), Parameter("alpha_n", {"one": 1}))
            return {"up": into, "act": learned if spec.kind == "xielu" else (), "down": down}
        case Glu():
            down = matrix(rows, d, axis, spec.d_ff, bias=spec.has_down_bias)
            return {"gate": into, "up": into, "act": (), "down": down}
    assert_never(spec)


def feed_forward(tape: Tape, side: Side, spec: Ffn, x: Tensor, held: Kept) -> Tensor:
    """The module `ffn` on x [b, t, d]. `held` is what it keeps between tokens."""
    with tape.module("ffn", x):
        match spec:
            case Mlp() | Glu():
                return plain(tape, spec, x)
            case Moe():
                from llmprof.predict.experts import mixture

                return mixture(tape, side, spec, x)
            case ChannelMix():
                from llmprof.predict.channel_mix import channel_mix

                return channel_mix(tape, side, x, held)
            case NoFfn():
                raise AssertionError("a layer without feed-forward has none to lower")
        assert_never(spec)


def plain(tape: Tape, spec: Expert, x: Tensor) -> Tensor:
    """The leaves `gate`, `up`, `act` and `down` below the current module, on x [b, t, d]."""
    match spec:
        case Mlp():
            up = linear(tape, "up", x)
            with tape.module("act", up):
                hidden = activate(tape, spec, None, up)
        case Glu():
            gate = linear(tape, "gate", x)
            up = linear(tape, "up", x)
            with tape.module("act", gate, up):
                hidden = activate(tape, spec, gate, up)
        case other:
            assert_never(other)
    return linear(tape, "down", hidden)


def activate(tape: Tape, spec: Expert, gate: Tensor | None, up: Tensor) -> Tensor:
    """What stands between the matrices, in the current leaf. `gate` is None for two matrices."""
    match spec:
        case Mlp():
            assert gate is None, spec
            return _activate_mlp(tape, spec, up)
        case Glu():
            assert gate is not None, spec
            if spec.kind == "swiglu-clamped":
                return _clamped(tape, gate, up)
            return tape.run("mul", _activate_gate(tape, spec, gate), up)
    assert_never(spec)


def _activate_mlp(tape: Tape, spec: Mlp, x: Tensor) -> Tensor:
    match spec.kind:
        case "relu" | "gelu" | "gelu-tanh":
            return tape.run(spec.kind, x)
        case "swish":
            return _swish(tape, x, spec.beta)
        case "relu2":
            return tape.run("square", tape.run("relu", x))
        case "xielu":
            return _xielu(tape, x)
    assert_never(spec.kind)


def _xielu(tape: Tape, x: Tensor) -> Tensor:
    """a x^2 above 0, b (exp(x) - 1 - x) below, and beta x besides (reference-options.md, section 8)."""
    alpha_p, alpha_n = tape.cast_parameters()
    a = tape.run("softplus", alpha_p)
    b = tape.run("add", tape.run("softplus", alpha_n))
    straight = tape.run("mul", x)
    above = tape.run("mul", tape.run("square", x), a)
    below = tape.run("expm1", tape.run("clamp", x))
    below = tape.run("mul", tape.run("sub", below, x), b)
    positive = tape.run("gt", x, fmt=BOOL)
    return tape.run("add", tape.run("where", positive, above, below), straight)


def _activate_gate(tape: Tape, spec: Glu, x: Tensor) -> Tensor:
    match spec.kind:
        case "glu":
            return tape.run("sigmoid", x)
        case "reglu":
            return tape.run("relu", x)
        case "geglu":
            return tape.run("gelu", x)
        case "geglu-tanh":
            return tape.run("gelu-tanh", x)
        case "swiglu":
            return _swish(tape, x, spec.beta)
        case "swiglu-clamped":
            raise AssertionError("its two inputs are cut together")
    assert_never(spec.kind)


def _swish(tape: Tape, x: Tensor, beta: float) -> Tensor:
    """x sigmoid(beta x): `silu` where beta is 1, else three kernels."""
    if beta == 1.0:
        return tape.run("silu", x)
    return tape.run("mul", tape.run("sigmoid", tape.run("mul", x)), x)


def _clamped(tape: Tape, gate: Tensor, up: Tensor) -> Tensor:
    """g sigmoid(beta g) (u + 1), g cut above and u on both sides; never `silu`, whatever beta."""
    g = tape.run("clamp", gate)
    u = tape.run("clamp", up, cost=2)
    s = tape.run("mul", g, tape.run("sigmoid", tape.run("mul", g)))
    return tape.run("mul", s, tape.run("add", u))
