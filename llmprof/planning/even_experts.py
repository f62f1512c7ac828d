"""Experts on ranks in a bound: as if tokens were dealt out evenly over the ranks, which a router can do.

What few tokens are sent to are the first experts (`routing.py`), so that the first rank would have all of the work of
a step. No bound may rest on that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import lcm

from llmprof.predict.formats import float_format
from llmprof.routing import Routing
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec, Expert, Moe, NoAttention, NoFfn
from llmprof.workload import Dtypes, Workload


def as_divided(sharding: Sharding, routing: Routing, mixtures: Iterable[Moe], dtypes: Dtypes) -> Sharding:
    """The same ranks with a part of each expert, where they share whole ones evenly: each has as much to do.

    `sharding` itself where there are none to share, or where the ranks do not divide them.
    """
    ranks, pack = sharding.tensor_parallel, lcm(2, dtypes.group_size) if dtypes.weights == "int4" else 1
    if sharding.expert_parallel == 1 or sharding.sends_tokens or routing.kind != "balanced":
        return sharding
    divided = all(each.expert.d_ff % (ranks * pack) == 0 for each in mixtures)
    return replace(sharding, expert_parallel=1) if divided else sharding


def deals_unevenly(workload: Workload, sharding: Sharding, mixtures: Iterable[Moe]) -> bool:
    """Whether some rank that tokens are sent to has more of a step than others; `workload` is of one replica."""
    if workload.phase != "decode" or workload.routing.kind != "balanced" or sharding.pipeline_parallel > 1:
        return False
    tokens = workload.batch * workload.new_tokens * sharding.data_parallel
    return any(tokens * each.top_k % each.n_experts for each in mixtures)


def without_experts(arch: ArchSpec, *, shared: bool) -> ArchSpec:
    """`arch` without its experts, but for those that run for every token if `shared`, nor layers of nothing else."""

    def left(ffn: Moe) -> Expert | NoFfn:
        return (ffn.shared if shared else None) or NoFfn()

    main = arch.main
    made = (replace(each, ffn=left(each.ffn)) if isinstance(each.ffn, Moe) else each for each in main.layers)
    layers = tuple(each for each in made if not isinstance(each.attention, NoAttention) or each.ffn != NoFfn())
    return replace(arch, stacks=(*arch.stacks[:-1], replace(main, layers=layers)))


def sent_bytes(arch: ArchSpec, workload: Workload, replicas: int) -> float:
    """What leaves a rank in a pass of one replica if its tokens go to all ranks evenly, and comes back."""
    size = float_format(workload.dtypes.activations).bits // 8
    rows = workload.batch * workload.new_tokens * (replicas - 1) / replicas
    ways = sum(2 * layer.ffn.top_k for layer in arch.main.layers if isinstance(layer.ffn, Moe))
    return ways * rows * arch.d_model * size
