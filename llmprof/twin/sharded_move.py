"""Where tensors go from rank to rank: every collective of a sharded twin is made here, and can be watched.

A collective is one thing with an operand and a result, whatever ops it takes: gathers along other dimensions than the
first put their parts in order by copies, which are its own business (docs/reference-sharding.md, section 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._functional_collectives import AsyncCollectiveTensor, all_to_all_single
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement


class Watcher(Protocol):
    """Somebody who counts what a rank does."""

    def within(self) -> AbstractContextManager[None]:
        """Entered while a collective is made: ops that are dispatched there are its own."""

    def made(self, result: Tensor) -> None:
        """Called with the result of a collective, while its operand is alive."""


_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` of every collective of the enclosed passes."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def _made(make: Callable[[], Tensor]) -> Tensor:
    watcher = _WATCHER.get()
    if watcher is None:
        return _there(make())
    with watcher.within():
        result = _there(make())
    watcher.made(result)
    return result


def _there(x: Tensor) -> Tensor:
    """x, once it has arrived."""
    return x.wait() if isinstance(x, AsyncCollectiveTensor) else x


def redistributed(x: Tensor, mesh: DeviceMesh, have: Placement, want: Placement) -> Tensor:
    """A rank's part of the tensor that the ranks of `mesh` have as `have`, once they have it as `want`."""
    if have == want:
        return x

    def make() -> Tensor:
        whole = DTensor.from_local(x, mesh, [have], run_check=False)
        return whole.redistribute(placements=[want]).to_local()

    return _made(make)


def exchanged(x: Tensor, mesh: DeviceMesh, *, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    """Rows of `x` go to the ranks of `mesh`, the first `sent[0]` to the first of them; those that come in return.

    They stand in the order of the ranks that they come from, `received[i]` of rank i.
    """
    return _made(lambda: all_to_all_single(x, list(received), list(sent), mesh))


def received(sender: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor that the rank `sender` sends."""

    def make() -> Tensor:
        x = torch.empty(shape, dtype=dtype, device=device)
        dist.recv(x, src=sender)
        return x

    return _made(make)


def passed_on(x: Tensor, *, to: int, source: int, first: bool) -> Tensor:
    """x goes to the rank `to`, and as much comes from the rank `source`.

    `first`: x goes before anything comes. Of the ranks of a ring some have to, and others must not.
    """

    def make() -> Tensor:
        came = torch.empty_like(x)
        if first:
            dist.send(x, dst=to)
        dist.recv(came, src=source)
        if not first:
            dist.send(x, dst=to)
        return came

    return _made(make)
