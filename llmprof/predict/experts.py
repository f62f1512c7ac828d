"""A mixture of experts: the module `ffn` of kind `moe` (reference-experts.md, section 2).

Which experts a token goes to is a table of the workload (`llmprof/routing.py`). Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

from llmprof.errors import InputError
from llmprof.predict import constants
from llmprof.predict.ffn import activate, expert_leaves, plain
from llmprof.predict.leaf import Leaves, Parameter, matrix
from llmprof.predict.linear import linear, matmul
from llmprof.predict.router import route, router_parameters
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Axes, Tensor
from llmprof.routing import loads
from llmprof.spec.arch import Expert, Moe

MOST_DRAWN = 2**20
"""Tokens that a random table is drawn for: a draw takes some microseconds."""


def moe_leaves(spec: Moe, d: int) -> Leaves:
    """The leaves below `ffn`, in the order of the call tree."""
    leaves: Leaves = {"router": router_parameters(spec, d)}
    if spec.latent is None:
        leaves["experts"] = _expert_parameters(spec, expert_leaves(spec.expert, d))
    else:
        leaves["latent_down"] = matrix("elatent", spec.latent, "d", d, bias=False)
        leaves["experts"] = _expert_parameters(spec, expert_leaves(spec.expert, spec.latent, rows="elatent"))
        leaves["latent_up"] = matrix("d", d, "elatent", spec.latent, bias=False)
    if spec.shared is not None:
        for path, parameters in expert_leaves(spec.shared, d, "shared").items():
            leaves[f"shared.{path}"] = parameters
        if spec.shared_gate:
            leaves["shared_gate"] = matrix("one", 1, "d", d, bias=False)
        leaves["join"] = ()
    return leaves


def _expert_parameters(spec: Moe, one: Leaves) -> tuple[Parameter, ...]:
    """The matrices and biases of `one` expert for all, each kind stacked: `gate` [E, F, D], `gate_bias` [E, F], .."""
    made = []
    for path, parameters in one.items():
        for parameter in parameters:
            name = path if parameter.name == "weight" else f"{path}_bias"
            axes = {"experts": spec.n_experts, **parameter.axes}
            made.append(Parameter(name, axes, packable=parameter.packable, chosen=spec.top_k))
    return tuple(made)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Which experts rows go to: constants (reference-experts.md, section 1), and how many experts have each load."""

    chosen: Tensor
    slots: Tensor
    order: Tensor
    loads: Counter[int]


def table_of(side: Side, spec: Moe) -> Table:
    """That of all rows and all experts."""
    routed = prod(side.rows.values()) * spec.top_k
    made = (constants.chosen(side, spec), constants.slots(side, spec, routed), constants.order(side, spec, routed))
    return Table(*made, loads_of(side, spec))


def mixture(tape: Tape, side: Side, spec: Moe, x: Tensor, table: Table | None = None) -> Tensor:
    """What the module `ffn` does with x [b, t, d]. `table` is that of all experts unless told otherwise."""
    table = table or table_of(side, spec)
    return beside_shared(tape, spec, x, _routed(tape, side, spec, x, table))


def beside_shared(tape: Tape, spec: Moe, x: Tensor, y: Tensor) -> Tensor:
    """y, what the experts made of x, and what runs for every token."""
    if spec.shared is None:
        return y
    with tape.module("shared", x):
        s = plain(tape, spec.shared, x)
    if spec.shared_gate:
        with tape.module("shared_gate", x, s):
            g = tape.run("sigmoid", matmul(tape, x, tape.cast_parameters()))
            s = tape.run("mul", s, g)
    with tape.module("join", y, s):
        return tape.run("add", y, s)


def _routed(tape: Tape, side: Side, spec: Moe, x: Tensor, table: Table) -> Tensor:
    """The router, and on x [b, t, d] the experts that it chose, between two matrices where they see a latent width."""
    w = route(tape, side, spec, x, table.chosen, table.slots)
    if spec.latent is None:
        return _experts(tape, spec, x, w, table)
    y = _experts(tape, spec, linear(tape, "latent_down", x), w, table)
    return linear(tape, "latent_up", y)


def _experts(tape: Tape, spec: Moe, x: Tensor, w: Tensor, table: Table) -> Tensor:
    """The leaf `experts`: every expert that has tokens on its rows of x [b, t, d], weighted by w [routed].

    x is [b, t, elatent] where the experts see a latent width, and so is what comes of it.
    """
    with tape.module("experts", x, w):
        xs = rows_of(tape, x, table.order)
        if spec.weigh == "input":
            tape.in_place("mul_", xs, w)
        return each_expert(tape, spec, xs, w if spec.weigh == "output" else None, table, x.axes)


def rows_of(tape: Tape, x: Tensor, order: Tensor) -> Tensor:
    """The rows of x that `order` names, one after another."""
    *_, (seen, width) = x.axes.items()
    return tape.gather("index_select", x, order, {**order.axes, seen: width})


def each_expert(tape: Tape, spec: Moe, xs: Tensor, w: Tensor | None, table: Table, axes: Axes) -> Tensor:
    """Every expert that has some on its rows of xs, weighted by w if it is given, added up with these `axes`."""
    y = tape.run("zeros", axes=axes)
    for load, times in table.loads.items():
        # Experts of one load launch the same kernels, and nothing of one is alive in the next.
        for _ in tape.rounds(times):
            _expert(tape, spec, load, xs, w, table.order, y)
    tape.touch((xs,))
    return y


def _expert(tape: Tape, spec: Moe, load: int, xs: Tensor, w: Tensor | None, order: Tensor, y: Tensor) -> None:
    """One expert on its `load` rows of xs; adds its output to y."""
    row = f"load{load}"
    mine = _parameters_of_one(tape)
    x = xs.sliced("routed", load, row)
    o = _through(tape, spec.expert, mine, x)
    if w is not None:
        tape.in_place("mul_", o, w.sliced("routed", load, row))
    tape.scatter("index_add_", y, order.sliced("routed", load, row), o)


def _parameters_of_one(tape: Tape) -> dict[str, Tensor]:
    """One expert's slice of each parameter of the leaf, cast where its dtype differs, by name."""
    mine = {}
    for parameter in tape.parameters():
        own = Tensor(parameter.name, parameter.without("experts"), parameter.format, parameter.storage, None)
        mine[parameter.name] = own if own.format.packed else tape.cast(own)
    return mine


def _through(tape: Tape, spec: Expert, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    """The matrices and the activation of one expert on its rows, all in one leaf."""

    def product(name: str, rows: Tensor) -> Tensor:
        bias = parameters.get(f"{name}_bias")
        return matmul(tape, rows, (parameters[name],) if bias is None else (parameters[name], bias))

    gate = product("gate", x) if "gate" in parameters else None
    return product("down", activate(tape, spec, gate, product("up", x)))


def loads_of(side: Side, spec: Moe) -> Counter[int]:
    """How many experts have each load, largest first; without those that have no tokens.

    Raises InputError where more tokens would have to be drawn for than anybody waits for.
    """
    routing, tokens = side.setting.workload.routing, prod(side.rows.values())
    if routing.kind == "random" and tokens > MOST_DRAWN:
        raise InputError(
            f"routing {routing} draws the experts of every token, and {tokens:,} are more than {MOST_DRAWN:,}; "
            "use fewer tokens, or balanced"
        )
    found = Counter(loads(routing, tokens, spec.top_k, spec.n_experts))
    return Counter({load: found[load] for load in sorted(found, reverse=True) if load})
