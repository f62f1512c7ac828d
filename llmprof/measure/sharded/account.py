"""The account of one rank, counted: its parameters and cache, the kernels that it launches, and what it sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.testing._internal.distributed.fake_pg import FakeStore

from llmprof.errors import DeviceError
from llmprof.measure.bytes import ByteCounter
from llmprof.measure.flops import FlopCounter
from llmprof.measure.live import LiveBytes
from llmprof.measure.run import Counted, unreadable, weights_and_caches
from llmprof.measure.sharded.collectives import CollectiveCounter
from llmprof.measure.sharded.trace import RankTrace
from llmprof.sharding import Sharding, StageAccount, check_sharding
from llmprof.spec.arch import ArchSpec
from llmprof.twin.core import NoFusedKernel
from llmprof.twin.passes import Output
from llmprof.twin.session import Session
from llmprof.twin.sharded import MESH_DIMENSIONS, build_sharded
from llmprof.workload import Execution, Workload


def accounts_on_meta(arch: ArchSpec, workload: Workload, sharding: Sharding) -> tuple[StageAccount, ...]:
    """The account of the first rank of every stage, with fused attention.

    Each is run on `meta` in this one process, in a group of ranks that does not exist. What no fused kernel computes is
    run unfused; bytes of its cores, and the peak, are then `unmeasured`.

    DeviceError where this process is in a real group. InputError: `check_sharding`.
    """
    check_sharding(arch, workload, sharding)
    accounts = []
    for stage in range(sharding.pipeline_parallel):
        with _group_without_peers(stage * sharding.tensor_parallel * sharding.context_parallel, sharding):
            mesh = mesh_of(sharding)
            twin, mine = build_sharded(arch, workload, sharding, mesh)
            try:
                session = Session(twin, mine, Execution(attention="fused"))
            except NoFusedKernel as reason:
                session = Session(twin, mine, Execution(attention="unfused"))
                account, _ = count(session, mesh, sharding, not_fused=str(reason))
            else:
                account, _ = count(session, mesh, sharding)
            accounts.append(account)
    return tuple(accounts)


def mesh_of(sharding: Sharding, device_type: str = "cpu") -> DeviceMesh:
    """The mesh of all ranks of the group that this process is in."""
    s = sharding
    shape = (s.data_parallel, s.pipeline_parallel, s.context_parallel, s.tensor_parallel)
    return init_device_mesh(device_type, shape, mesh_dim_names=MESH_DIMENSIONS)


def count(
    session: Session, mesh: DeviceMesh, sharding: Sharding, *, not_fused: str | None = None
) -> tuple[StageAccount, Output]:
    """Run `session`, of this process's part of a twin, once: its account, and what came out.

    `not_fused`: why bytes of its cores and its peak are not those that are asked for.
    """
    twin, collectives = session.twin, CollectiveCounter(sharding)
    flops, traffic = FlopCounter(), ByteCounter()
    stage = mesh.get_local_rank("pipeline")
    live = LiveBytes(excluded=weights_and_caches(session), constants=_constants(session, stage))
    trace = RankTrace(collectives, live, (flops, traffic))
    with trace.along(twin), trace:
        out = session.run()
    counted = Counted(session, flops, traffic, live)
    unmeasured = {(path, quantity): reason for path, quantity, reason in unreadable(session)}
    unmeasured.update(counted.without_causal())
    if not_fused is not None:
        unmeasured["", "peak_live_bytes"] = not_fused
        unmeasured.update(((core, "hbm_bytes"), not_fused) for core in session.kernels)
    ledger = counted.ledger(unmeasured)
    account = StageAccount(stage=stage, ledger=ledger, collectives=collectives.collectives, unmeasured=unmeasured)
    return account, out


def _constants(session: Session, stage: int) -> Iterator[Tensor]:
    """Those that some kernel of the stage takes: what is embedded belongs to the first."""
    run = session.prepared.stacks[-1]
    assert run is not None
    embedded = () if stage == 0 else (run.tokens, run.positions)
    yield from (each for each in session.constants if all(each is not other for other in embedded))


@contextmanager
def _group_without_peers(rank: int, sharding: Sharding) -> Iterator[None]:
    """A process group in which this process is `rank`, and collectives return at once."""
    if dist.is_initialized():
        raise DeviceError("this process is in a process group already; count sharded twins on meta outside of it")
    dist.init_process_group("fake", rank=rank, world_size=sharding.ranks, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()
        # Torch finds its conclusions about equal placements again by the shape of the mesh, and with them the name of
        # a group that is no more.
        _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]  # it has no types
