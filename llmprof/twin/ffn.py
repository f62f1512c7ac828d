"""Feed-forward networks: their activations and the order of their matrices. Experts have a file of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.leaf import Branch, Material, TensorLeaf
from llmprof.twin.linear import layer_matrix
from llmprof.twin.passes import StackPass
from llmprof.twin.projections import Site
from llmprof.twin.xielu import Xielu

Activation = Callable[[list[Tensor]], Tensor]
"""Takes its operands out of the list, so that each can die with its last use: lifetimes are counted."""


def _in_one(kernel: Callable[[Tensor], Tensor], operands: list[Tensor]) -> Tensor:
    return kernel(operands.pop())


def _scaled_swish(beta: float, operands: list[Tensor]) -> Tensor:
    x = operands.pop()
    return torch.sigmoid(x * beta) * x


def _squared_relu(operands: list[Tensor]) -> Tensor:
    y = F.relu(operands.pop())
    return y * y


def _gated(of_gate: Activation, operands: list[Tensor]) -> Tensor:
    up = operands.pop()
    return of_gate(operands) * up


def _clamped(beta: float, limit: float, operands: list[Tensor]) -> Tensor:
    """GPT-OSS's: swish(min(gate, limit)) * (min(max(up, -limit), limit) + 1)."""
    up = operands.pop()
    gate = operands.pop().clamp(max=limit)
    up = up.clamp(min=-limit, max=limit)
    swished = gate * beta
    swished = torch.sigmoid(swished)
    swished = gate * swished
    del gate
    up = up + 1.0
    return swished * up


def swish(beta: float) -> Activation:
    """x * sigmoid(beta x): one kernel where beta is 1, three elsewhere."""
    return partial(_in_one, F.silu) if beta == 1.0 else partial(_scaled_swish, beta)


def activation(spec: arch.Expert) -> Activation:
    """The activation of `spec`. Its operands are what comes of `up`; in a gated network, of `gate` and of `up`."""
    match spec.kind:
        case "relu":
            return partial(_in_one, F.relu)
        case "gelu":
            return partial(_in_one, F.gelu)
        case "gelu-tanh":
            return partial(_in_one, partial(F.gelu, approximate="tanh"))
        case "swish":
            return swish(spec.beta)
        case "relu2":
            return _squared_relu
        case "xielu":
            raise AssertionError("its numbers are in a module of its own")
        case "glu":
            return partial(_gated, partial(_in_one, torch.sigmoid))
        case "reglu":
            return partial(_gated, partial(_in_one, F.relu))
        case "geglu":
            return partial(_gated, partial(_in_one, F.gelu))
        case "geglu-tanh":
            return partial(_gated, partial(_in_one, partial(F.gelu, approximate="tanh")))
        case "swiglu":
            return partial(_gated, swish(spec.beta))
        case "swiglu-clamped":
            assert spec.limit is not None, "the rules of the language want one"
            return partial(_clamped, spec.beta, spec.limit)
        case never:
            assert_never(never)


class Act(TensorLeaf):
    """act(x), elementwise."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class GatedAct(TensorLeaf):
    """act(gate) * up, elementwise."""

    def __init__(self, function: Activation) -> None:
        super().__init__()
        self.function = function

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.function([gate, up])


def act_module(spec: arch.Mlp, material: Material) -> TensorLeaf:
    """What stands between two matrices: a function, or one with numbers of its own."""
    if spec.kind == "xielu":
        return Xielu(material)
    function = activation(spec)
    return Act(lambda x: function([x]))


class Mlp(Branch):
    """down(act(up(x))): `[.., D] -> [.., D]`."""

    def __init__(self, spec: arch.Mlp, site: Site) -> None:
        super().__init__()
        d, material, gain = site.d_model, site.material, site.gain
        self.up = layer_matrix(d, spec.d_ff, bias=spec.bias, material=material, gain=gain)
        self.act = act_module(spec, material)
        self.down = layer_matrix(spec.d_ff, d, bias=spec.bias, material=material, gain=gain)

    def forward(self, x: Tensor, run: StackPass) -> Tensor:
        return self.down(self.act(self.up(x)))


class Glu(Branch):
    """down(act(gate(x)) * up(x)): `[.., D] -> [.., D]`; the gate is computed first."""

    def __init__(self, spec: arch.Glu, site: Site) -> None:
        super().__init__()
        d, material, gain = site.d_model, site.material, site.gain
        self.gate = layer_matrix(d, spec.d_ff, bias=spec.bias, material=material, gain=gain)
        self.up = layer_matrix(d, spec.d_ff, bias=spec.bias, material=material, gain=gain)
        self.act = GatedAct(activation(spec))
        self.down = layer_matrix(spec.d_ff, d, bias=spec.has_down_bias, material=material, gain=gain)

    def forward(self, x: Tensor, run: StackPass) -> Tensor:
        return self.down(self.act(self.gate(x), self.up(x)))


def dense_module(spec: arch.Expert, site: Site) -> Mlp | Glu:
    """The module of a feed-forward network that every token goes through."""
    match spec:
        case arch.Mlp():
            return Mlp(spec, site)
        case arch.Glu():
            return Glu(spec, site)
        case never:
            assert_never(never)


def ffn_module(spec: arch.Ffn, site: Site) -> Branch:
    """The module `ffn` of the layer at `site`: `forward(x, run)` takes and returns `[B, T, D]`."""
    match spec:
        case arch.Mlp() | arch.Glu():
            return dense_module(spec, site)
        case arch.Moe():
            from llmprof.twin.experts import Mixture

            return Mixture(spec, site)
        case arch.ChannelMix():
            from llmprof.twin.channel_mix import ChannelMix

            return ChannelMix(spec, site)
        case arch.NoFfn():
            raise AssertionError("a layer without a feed-forward has no module for it")
        case never:
            assert_never(never)
