"""Records the collectives that really are dispatched: path, kind, calls, bytes.

torch's `CommDebugMode` counts calls, without bytes and without sends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmprof.sharding import Collective, CollectiveKind

_KINDS: dict[str, CollectiveKind | None] = {
    "_c10d_functional::all_reduce": "all-reduce",
    "_c10d_functional::all_gather_into_tensor": "all-gather",
    "_c10d_functional::reduce_scatter_tensor": "reduce-scatter",
    "c10d::send": "send",
    "c10d::recv_": None,
    "_c10d_functional::wait_tensor": None,
    "_c10d_functional::_wrap_tensor_autograd": None,
}
"""None: sends nothing. An op outside of `aten` that is not here stops a measurement."""


class CollectiveCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """Active around a pass of a twin that is spread over `ranks` tensor-parallel ranks."""

    def __init__(self, ranks: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # it has no types
        self.ranks = ranks
        self._path: list[str] = [""]
        self._calls: dict[tuple[str, CollectiveKind], list[tuple[int, int]]] = defaultdict(list)

    @property
    def collectives(self) -> tuple[Collective, ...]:
        """What has been seen, one record per path and kind."""
        return tuple(
            Collective(
                path=path,
                kind=kind,
                count=len(calls),
                bytes=sum(payload for payload, _ in calls),
                wire_bytes=sum(wire for _, wire in calls),
            )
            for (path, kind), calls in self._calls.items()
        )

    @contextmanager
    def along(self, model: nn.Module) -> Iterator[None]:
        """Know the module of `model` that runs: its hooks, inputs and outputs included."""
        handles = []
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(path), prepend=True))
            handles.append(module.register_forward_hook(lambda *_: self._left()))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, path: str) -> Any:
        return lambda *_: self._path.append(path)

    def _left(self) -> None:
        self._path.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # DTensor's own rules come first; what they call comes by here again
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        if func.namespace != "aten":
            if name not in _KINDS:
                raise RuntimeError(f"{name} was dispatched at {self._path[-1]!r}, and no rule says what it sends")
            kind = _KINDS[name]
            if kind is not None:
                self._calls[self._path[-1], kind].append(self._sizes(kind, args, out))
        return out

    def _sizes(self, kind: CollectiveKind, args: tuple[Any, ...], out: Any) -> tuple[int, int]:
        """Payload and wire bytes of one call (docs/reference-sharding.md, section 5)."""
        n = self.ranks
        match kind:
            case "all-reduce":
                return _bytes(args[0]), 2 * (n - 1) * -(-args[0].numel() // n) * args[0].element_size()
            case "all-gather":
                # Without the part that the rank has itself.
                return _bytes(out), _bytes(out) - _bytes(args[0])
            case "reduce-scatter":
                return _bytes(args[0]), _bytes(args[0]) - _bytes(out)
            case "send":
                payload = sum(_bytes(tensor) for tensor in args[0])
                return payload, payload


def _bytes(tensor: torch.Tensor) -> int:
    assert isinstance(tensor, Tensor)
    return tensor.numel() * tensor.element_size()
