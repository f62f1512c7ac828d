"""A mixture of experts of which a rank has some (docs/reference-sharding.md, section 9). Axis legend: see
`predict/tensor.py`.

With *shared tokens* every rank has all rows, and runs its own experts on those that go to them. With *sent tokens* it
has rows of its own, sends them to the ranks of their experts, and gets back what these made of them.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from llmprof.predict import constants
from llmprof.predict.experts import Table, beside_shared, each_expert, mixture, rows_of
from llmprof.predict.ffn import feed_forward
from llmprof.predict.layer import Feed
from llmprof.predict.lowering import Kept
from llmprof.predict.router import route
from llmprof.predict.setting import Side
from llmprof.predict.sharding.loads import own_loads, rows_of_experts
from llmprof.predict.sharding.tape import RankTape
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.sharding import Sharding
from llmprof.spec.arch import Ffn, Moe


def feed_of(sharding: Sharding) -> Feed:
    """How a rank lowers the feed-forward of a layer."""

    def feed(tape: Tape, side: Side, spec: Ffn, x: Tensor, held: Kept) -> Tensor:
        if not isinstance(spec, Moe) or sharding.expert_parallel == 1:
            return feed_forward(tape, side, spec, x, held)
        with tape.module("ffn", x):
            if not sharding.sends_tokens:
                return mixture(tape, side, spec, x, _own_table(side, spec, sharding.expert_parallel))
            assert isinstance(tape, RankTape), tape
            return _mixture_of_sent(tape, side, spec, x, sharding)

    return feed


def _own_table(side: Side, spec: Moe, blocks: int) -> Table:
    """That of the first block's experts alone: of `slots` and `order` only the entries of rows that go to them."""
    found = own_loads(side.setting.workload.routing, prod(side.rows.values()), spec, blocks)
    routed = rows_of_experts(found)
    made = (constants.chosen(side, spec), constants.slots(side, spec, routed), constants.order(side, spec, routed))
    return Table(*made, found)


def _mixture_of_sent(tape: RankTape, side: Side, spec: Moe, x: Tensor, sharding: Sharding) -> Tensor:
    """The module `ffn` on the rank's own rows x [b, t, d]; all else than the experts is whole."""
    routing, tokens = side.setting.workload.routing, sharding.data_parallel * prod(side.rows.values())
    found = own_loads(routing, tokens, spec, sharding.expert_parallel)
    own = replace(side, tokens=x.axes[side.row])
    handed, got = prod(own.rows.values()) * spec.top_k, rows_of_experts(found)
    chosen, slots = constants.chosen(own, spec), constants.slots(own, spec, handed)
    order, arrived = constants.order(own, spec, handed), constants.arrived(own, spec, got)
    w = route(tape, own, spec, x, chosen, slots)
    with tape.module("experts", x, w):
        xs = rows_of(tape, x, order)
        if spec.weigh == "input":
            tape.in_place("mul_", xs, w)
        dispatched = tape.collective("all-to-all", xs, {**xs.axes, "routed": got})
        mine = Table(chosen, slots, arrived, found)
        y = each_expert(tape, spec, rows_of(tape, dispatched, arrived), None, mine, dispatched.axes)
        z = tape.collective("all-to-all", y, xs.axes)
        if spec.weigh == "output":
            tape.in_place("mul_", z, w)
        o = tape.run("zeros", axes=x.axes)
        tape.scatter("index_add_", o, order, z)
    return beside_shared(tape, spec, x, o)
