"""Small sharded models, and what one of several real processes does with them. Run by the tests of sharding.

The processes talk through gloo on CPU tensors. Each compares its part of the sharded twin's output and cache with the
unsharded twin's, and returns the account that it counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from llmprof.measure.sharded.account import count, mesh_of
from llmprof.sharding import Sharding, StageAccount
from llmprof.spec.arch import ArchSpec, GatedDeltaNet, Mamba2
from llmprof.twin import sharded_experts, sharded_parts, sharded_plan, sharded_ring, sharded_routes, sharded_styles
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.twin.sharded import build_sharded
from llmprof.workload import QUANTISED, Execution, Workload
from tests.faults import planted
from tests.importing import EVERYTHING
from tests.sharded_specs import AFTER_PAST, DECODE, DENSE, LONG, MIXED, PREFILL, RINGS, packed, spec

TOLERANCE = 1e-5
"""Of the largest value. Sums over ranks are taken in another order than a matrix product takes them: each of the few
dozen sums on the way to a value may be off by some units of 2^-24 = 6e-8 of its largest summand."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model, a pass and the way in which it is spread."""

    name: str
    workload: Workload
    sharding: Sharding

    @property
    def even(self) -> bool:
        """Whether as many tokens go to the experts of every rank: those of PREFILL and AFTER_PAST fill all experts."""
        return self.sharding.expert_parallel == 1 or self.workload.phase == "prefill"


def _tensor(
    n: int, *, rows: bool = False, stages: int = 1, replicas: int = 1, experts: int = 1, ring: int = 1
) -> Sharding:
    return Sharding(
        tensor_parallel=n,
        sequence_parallel=rows,
        pipeline_parallel=stages,
        data_parallel=replicas,
        expert_parallel=experts,
        context_parallel=ring,
    )


FEW_HEADS = ("grouped", "parallel", "alibi")
"""Dense models with fewer KV heads than four ranks."""

CASES: dict[int, tuple[Case, ...]] = {
    2: (
        *(Case(name, DECODE, _tensor(2)) for name in (DENSE if EVERYTHING else ("learned", *FEW_HEADS))),
        *(Case(name, AFTER_PAST, _tensor(2, rows=True)) for name in DENSE),
        *(Case(name, PREFILL, _tensor(2)) for name in (DENSE if EVERYTHING else ("grouped",))),
        *(Case(name, DECODE, _tensor(1, stages=2)) for name in ("learned", "undivided")),
        Case("deep", DECODE, _tensor(1, stages=2)),
        Case("grouped", PREFILL, Sharding(pipeline_parallel=2, pipeline_layers=(3, 1))),
        Case("undivided", AFTER_PAST, _tensor(1, replicas=2)),
        Case("grouped", PREFILL, _tensor(1, replicas=2)),
        *(Case(name, DECODE, _tensor(2)) for name in MIXED),
        *(Case(name, AFTER_PAST, _tensor(2)) for name in (MIXED if EVERYTHING else ("states", "parallel-experts"))),
        *(Case(name, PREFILL, _tensor(2, rows=True, experts=2)) for name in MIXED),
        *(Case(name, PREFILL, _tensor(1, replicas=2, experts=2)) for name in ("experts", "latent", "sinks")),
        Case("experts", DECODE, _tensor(1, replicas=2, experts=2)),
        *(Case("grouped", packed(AFTER_PAST, form), _tensor(2)) for form in QUANTISED),
        *(Case("latent", packed(PREFILL, form), _tensor(2, experts=2)) for form in QUANTISED),
        *(Case(name, LONG, _tensor(1, ring=2)) for name in (RINGS if EVERYTHING else RINGS[:2])),
    ),
    4: (
        *(Case(name, DECODE, _tensor(4)) for name in (DENSE if EVERYTHING else FEW_HEADS[:2])),
        *(
            Case(name, AFTER_PAST, _tensor(4, rows=True))
            for name in (DENSE if EVERYTHING else ("grouped", "two-norms"))
        ),
        *(Case(name, PREFILL, _tensor(2, rows=True, stages=2)) for name in (DENSE if EVERYTHING else DENSE[::2])),
        Case("learned", DECODE, _tensor(2, stages=2)),
        Case("grouped", PREFILL, _tensor(2, replicas=2)),
        Case("grouped", DECODE, _tensor(1, stages=4)),
        Case("grouped", DECODE, _tensor(1, stages=2, replicas=2)),
        *(
            Case(name, DECODE, _tensor(4, experts=2))
            for name in (MIXED if EVERYTHING else ("experts", "states", "parallel-experts"))
        ),
        *(Case(name, AFTER_PAST, _tensor(2, rows=True, replicas=2, experts=4)) for name in ("experts", "latent")),
        Case("experts", PREFILL, replace(_tensor(2, stages=2, experts=2), pipeline_layers=(1, 3))),
        Case("latent", DECODE, _tensor(1, stages=2, replicas=2, experts=2)),
        Case("grouped", packed(PREFILL, "int8"), _tensor(4)),
        Case("experts", packed(PREFILL, "int4"), _tensor(4, experts=2)),
        *(Case(name, LONG, _tensor(1, ring=4)) for name in (RINGS if EVERYTHING else RINGS[2:])),
        *(
            Case(name, LONG, _tensor(2, ring=2, experts=2 if name == "experts" else 1))
            for name in (RINGS if EVERYTHING else RINGS[::3])
        ),
        Case("learned", LONG, _tensor(1, stages=2, ring=2)),
        Case("parallel", LONG, _tensor(1, replicas=2, ring=2)),
    ),
}
"""By the number of processes; more of them with LLMPROF_EVERY=1."""


def count_cases() -> list[StageAccount]:
    """Be one of several ranks: the account of it that was counted in every case of so many."""
    meshes: dict[tuple[int, ...], DeviceMesh] = {}
    counted = []
    for case in CASES[dist.get_world_size()]:
        s = case.sharding
        shape = (s.data_parallel, s.pipeline_parallel, s.context_parallel, s.tensor_parallel)
        if shape not in meshes:
            meshes[shape] = mesh_of(s)
        counted.append(_counted(case, meshes[shape]))
    return counted


@dataclass(frozen=True, slots=True)
class Fault:
    """`old` becomes `new` in `function` of the twin, which no longer computes what one device does in `case`."""

    function: Callable[..., Any]
    old: str
    new: str
    case: Case


FAULTS = (
    Fault(sharded_parts.keep_rows, "whole.detach() / count", "whole.detach()", Case("grouped", PREFILL, _tensor(2))),
    Fault(
        sharded_parts.OwnRows.forward,
        "found.masked_fill_(foreign.unsqueeze(-1), 0.0)",
        "pass",
        Case("learned", DECODE, _tensor(2)),
    ),
    Fault(
        sharded_plan._grouped,
        "range(rank * attention.queries.number, (rank + 1) * attention.queries.number)",
        "range(attention.queries.number)",
        Case("alibi", PREFILL, _tensor(2)),
    ),
    Fault(sharded_styles.SummedResidual.forward, "a + f", "a + a", Case("parallel", PREFILL, _tensor(2))),
    Fault(sharded_styles.OwnPositions._apply, "[rank]", "[0]", Case("learned", PREFILL, _tensor(2, rows=True))),
    Fault(sharded_experts._cut, "own / pieces", "own", Case("sinks", PREFILL, _tensor(2))),
    Fault(
        sharded_experts.keep_own_experts,
        "block=block",
        "block=0",
        Case("experts", PREFILL, _tensor(2, experts=2)),
    ),
    Fault(
        sharded_routes._sent,
        "torch.argsort(torch.cat(here), stable=True)",
        "torch.arange(sum(counts))",
        Case("experts", PREFILL, _tensor(1, replicas=2, experts=2)),
    ),
    Fault(
        build_sharded,
        "ends[stage - 1] if stage",
        "ends[stage - 1] - 1 if stage",
        Case("deep", PREFILL, _tensor(1, stages=2)),
    ),
    Fault(sharded_ring.own_chunks, "2 * ranks - 1 - rank", "ranks + rank", Case("parallel", LONG, _tensor(1, ring=2))),
    Fault(
        sharded_ring.RingCore._attend, "sigmoid(apart)", "sigmoid(-apart)", Case("learned", LONG, _tensor(1, ring=2))
    ),
    Fault(sharded_ring.RingCore._attend, "% ranks < rank", "% ranks > rank", Case("learned", LONG, _tensor(1, ring=2))),
)
"""Each leaves shapes as they are, so that no rank waits for another in vain."""


def count_and_notice() -> tuple[list[StageAccount], list[bool]]:
    """Be one of several ranks: its accounts, and if there are two whether it notices each of the faults."""
    return count_cases(), _notice_faults() if dist.get_world_size() == 2 else []


def _notice_faults() -> list[bool]:
    noticed = []
    for fault in FAULTS:
        mesh = mesh_of(fault.case.sharding)
        with planted(fault.function, fault.old, fault.new):
            try:
                _counted(fault.case, mesh)
            except AssertionError:
                noticed.append(True)
            else:
                noticed.append(False)
    return noticed


def fail() -> None:
    """Be a rank that does not end well."""
    raise ValueError("no cases for these ranks")


def _counted(case: Case, mesh: DeviceMesh) -> StageAccount:
    """The account of this process, once its output and its cache are what the unsharded twin has."""
    # A ring has fused kernels alone.
    attention: Literal["fused", "unfused"] = "fused" if case.sharding.context_parallel > 1 else "unfused"
    arch, execution = spec(case.name), Execution(attention=attention, kernels="cpu")
    whole = Session(build(arch, dtypes=case.workload.dtypes, device="cpu", seed=3), case.workload, execution)
    twin, mine = build_sharded(arch, case.workload, case.sharding, mesh, device="cpu", seed=3)
    part = Session(twin, mine, execution)
    part.inputs["tokens"].copy_(_of_rank(whole.inputs["tokens"], mesh, dim=1))
    for path, cache in part.caches.items():
        cache.copy_(_own(path, whole.caches[path], mesh, arch))
    account, out = count(part, mesh, case.sharding)
    expected = whole.run()
    for path, cache in part.caches.items():
        _same(cache, _own(path, whole.caches[path], mesh, arch), f"{case}: {path}")
    if out.logits is not None:
        assert expected.logits is not None
        _same(out.logits, _of_rank(expected.logits, mesh, dim=1), f"{case}: logits")
    else:
        assert account.stage < case.sharding.pipeline_parallel - 1, case
    return account


def _of_rank(x: torch.Tensor, mesh: DeviceMesh, *, dim: int) -> torch.Tensor:
    """The sequences of this process's replica, and the chunks that it has of their tokens, which are along `dim`."""
    ranks, rank = mesh["context"].size(), mesh.get_local_rank("context")
    mine = x.chunk(mesh["data"].size())[mesh.get_local_rank("data")]
    if ranks == 1:
        return mine
    chunks = mine.chunk(2 * ranks, dim)
    return torch.cat([chunks[rank], chunks[-1 - rank]], dim)


def _own(path: str, kept: torch.Tensor, mesh: DeviceMesh, arch: ArchSpec) -> torch.Tensor:
    """Of a cache or a state the sequences, the tokens and the heads of this rank.

    Keys and values are `[B, K, S, h]`, where heads that are replicated are repeated, states of cores `[B, H, ..]`,
    inputs of convolutions `[B, channels, ..]`, of several slices; all others are whole on every rank.
    """
    n, rank = mesh["tensor"].size(), mesh.get_local_rank("tensor")
    match path.split("."):
        case [*_, "cache", "k" | "v"]:
            mine = _of_rank(kept, mesh, dim=2)
            return mine.repeat_interleave(max(n // mine.shape[1], 1), dim=1).chunk(n, dim=1)[rank]
        case [*_, "core", "state"]:
            return _of_rank(kept, mesh, dim=2).chunk(n, dim=1)[rank]
        case ["layers", index, *_, "conv", "state"] if n > 1:
            slices = torch.split(_of_rank(kept, mesh, dim=2), _slices(arch.main.layers[int(index)].attention), dim=1)
            return torch.cat([each.chunk(n, dim=1)[rank] for each in slices], dim=1)
    return _of_rank(kept, mesh, dim=1)


def _slices(mixer: object) -> list[int]:
    """How wide the parts of what a convolution takes are: of queries, keys and values, or of values, b and c."""
    if isinstance(mixer, GatedDeltaNet):
        keys = mixer.n_key_heads * mixer.key_dim
        return [keys, keys, mixer.n_heads * mixer.value_dim]
    assert isinstance(mixer, Mamba2), mixer
    return [mixer.d_inner, mixer.n_groups * mixer.d_state, mixer.n_groups * mixer.d_state]


def _same(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    torch.testing.assert_close(
        found, expected, rtol=0.0, atol=TOLERANCE * expected.abs().max().item(), msg=lambda text: f"{what}: {text}"
    )
