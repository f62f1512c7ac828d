"""The account of one rank, counted: its parameters, its cache and what it sends in a pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.testing._internal.distributed.fake_pg import FakeStore

from llmprof.errors import DeviceError
from llmprof.ledger import Basis, Entry, Ledger
from llmprof.measure.cache import kept_bytes
from llmprof.measure.sharded.collectives import CollectiveCounter
from llmprof.sharding import Sharding, StageAccount, check_sharding
from llmprof.spec.arch import ArchSpec
from llmprof.twin.model import Twin
from llmprof.twin.passes import Output
from llmprof.twin.session import Session
from llmprof.twin.sharded import MESH_DIMENSIONS, build_sharded
from llmprof.workload import Execution, Workload


def accounts_on_meta(arch: ArchSpec, workload: Workload, sharding: Sharding) -> tuple[StageAccount, ...]:
    """The account of every stage, each run on `meta` in this one process, in a group of ranks that does not exist.

    DeviceError where this process is in a real group. InputError: `check_sharding`.
    """
    check_sharding(arch, workload, sharding)
    accounts = []
    for stage in range(sharding.pipeline_parallel):
        with _group_without_peers(stage * sharding.tensor_parallel, sharding):
            mesh = mesh_of(sharding)
            twin, mine = build_sharded(arch, workload, sharding, mesh)
            session = Session(twin, mine, Execution(attention="unfused"))
            account, _ = count(session, mesh, sharding)
            accounts.append(account)
    return tuple(accounts)


def mesh_of(sharding: Sharding, device_type: str = "cpu") -> DeviceMesh:
    """The mesh of all ranks of the group that this process is in."""
    shape = (sharding.data_parallel, sharding.pipeline_parallel, sharding.tensor_parallel)
    return init_device_mesh(device_type, shape, mesh_dim_names=MESH_DIMENSIONS)


def count(session: Session, mesh: DeviceMesh, sharding: Sharding) -> tuple[StageAccount, Output]:
    """Run `session`, of this process's part of a twin, once: its account, and what came out."""
    counter = CollectiveCounter(sharding.tensor_parallel)
    with counter.along(session.twin), counter:
        out = session.run()
    entries = [*_weights(session.twin)]
    entries += [
        Entry(path=path, quantity=quantity, value=value, basis=Basis.COUNTED)
        for path, quantity, value in kept_bytes(session)
    ]
    account = StageAccount(
        stage=mesh.get_local_rank("pipeline"), ledger=Ledger(entries), collectives=counter.collectives
    )
    return account, out


def _weights(twin: Twin) -> Iterator[Entry]:
    """Values and bytes of the parts of parameters that this rank has, a shared one at the first leaf that has it."""
    counted: set[int] = set()
    for path, leaf in twin.leaves:
        params = stored = 0
        for parameter in leaf.parameters(recurse=False):
            if id(parameter) in counted:
                continue
            counted.add(id(parameter))
            part: Any = parameter.to_local() if isinstance(parameter, DTensor) else parameter
            params += part.numel()
            stored += part.numel() * part.element_size()
        yield Entry(path=path, quantity="params", value=params, basis=Basis.COUNTED)
        yield Entry(path=path, quantity="weight_bytes", value=stored, basis=Basis.COUNTED)


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
