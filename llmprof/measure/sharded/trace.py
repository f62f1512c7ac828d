"""Sees every op that a rank's pass dispatches: its kernels with the leaf that launches each, and its collectives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmprof.measure.live import LiveBytes
from llmprof.measure.ops import Kind, kind_of
from llmprof.measure.sharded.collectives import CollectiveCounter
from llmprof.measure.trace import Launch, Observer, StrayKernel, _open, tensors_in
from llmprof.twin.leaf import Leaf
from llmprof.twin.sharded_move import watched_by


class RankTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """Active around a pass of one rank's part of a twin.

    `live` and `observers` are shown the kernels, `live` the results of collectives too, and `collectives` the calls.
    """

    def __init__(self, collectives: CollectiveCounter, live: LiveBytes, observers: Sequence[Observer]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # it has no types
        self._collectives = collectives
        self._live = live
        self._observers = (live, *observers)
        self._path: list[str] = [""]
        self._leaves: frozenset[str] = frozenset()
        self._moving = False

    # --- whose ops they are -----------------------------------------------------------------------

    @contextmanager
    def along(self, model: nn.Module) -> Iterator[None]:
        """Know the module of `model` that runs, its hooks included, and hear of its collectives."""
        self._leaves = frozenset(path for path, module in model.named_modules() if isinstance(module, Leaf))
        handles = []
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(path), prepend=True))
            handles.append(module.register_forward_hook(lambda *_: self._left()))
        try:
            with watched_by(self):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, path: str) -> Any:
        return lambda *_: self._path.append(path)

    def _left(self) -> None:
        self._path.pop()

    # --- collectives ------------------------------------------------------------------------------

    @contextmanager
    def within(self) -> Iterator[None]:
        """While a collective is made: what it launches to put its data in order is its own."""
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    def made(self, result: Tensor) -> None:
        """A collective has ended, its operand is still alive: a place where the peak is looked for."""
        op = torch.ops._c10d_functional.wait_tensor.default
        self._live.observe(Launch(self._path[-1], op, Kind.PLAIN, (), (), (result,)))

    # --- kernels ----------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # DTensor's own rules come first; what they call comes by here again
        options = dict(kwargs or {})
        path = self._path[-1]
        if func.namespace != "aten":
            out = func(*args, **options)
            self._collectives.observe(path, func, args, out)
            return out
        if self._moving:
            return func(*args, **options)
        kind = kind_of(func, path)
        if kind is Kind.COMPOSITE:
            with self:
                return _open(func, args, options)
        out = func(*args, **options)
        inputs = tuple(tensors_in((args, tuple(options.values()))))
        launch = Launch(path, func, kind, args, inputs, tuple(tensors_in(out)), options)
        if launch.is_kernel and path not in self._leaves:
            raise StrayKernel(func)
        for observer in self._observers:
            observer.observe(launch)
        return out
