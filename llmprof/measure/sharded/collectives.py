"""Records the collectives that really are dispatched: path, kind, calls, bytes.

torch's `CommDebugMode` counts calls, without bytes and without sends.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import Tensor

from llmprof.sharding import Collective, CollectiveKind, Sharding

_KINDS: dict[str, CollectiveKind | None] = {
    "_c10d_functional::all_reduce": "all-reduce",
    "_c10d_functional::all_gather_into_tensor": "all-gather",
    "_c10d_functional::reduce_scatter_tensor": "reduce-scatter",
    "_c10d_functional::all_to_all_single": "all-to-all",
    "c10d::send": "send",
    "c10d::recv_": None,
    "_c10d_functional::wait_tensor": None,
    "_c10d_functional::_wrap_tensor_autograd": None,
}
"""None: sends nothing. An op outside of `aten` that is not here stops a measurement."""


class CollectiveCounter:
    """What one rank of a `sharding` sends."""

    def __init__(self, sharding: Sharding) -> None:
        self.sharding = sharding
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

    def observe(self, path: str, op: Any, args: tuple[Any, ...], out: Any) -> None:
        """Note what `op`, which is none of `aten`, has sent at `path`; RuntimeError where no rule says."""
        name = op._schema.name
        if name not in _KINDS:
            raise RuntimeError(f"{name} was dispatched at {path!r}, and no rule says what it sends")
        kind = _KINDS[name]
        if kind is not None:
            self._calls[path, kind].append(self._sizes(kind, args, out))

    def _sizes(self, kind: CollectiveKind, args: tuple[Any, ...], out: Any) -> tuple[int, int]:
        """Payload and wire bytes of one call (docs/reference-sharding.md, section 5)."""
        match kind:
            case "all-reduce":
                n = self.sharding.tensor_parallel
                return _bytes(args[0]), 2 * (n - 1) * -(-args[0].numel() // n) * args[0].element_size()
            case "all-gather":
                # Without the part that the rank has itself.
                return _bytes(out), _bytes(out) - _bytes(args[0])
            case "reduce-scatter":
                return _bytes(args[0]), _bytes(args[0]) - _bytes(out)
            case "all-to-all":
                x = self.sharding.expert_parallel
                return _bytes(args[0]), (x - 1) * -(-args[0].numel() // x) * args[0].element_size()
            case "send":
                payload = sum(_bytes(tensor) for tensor in args[0])
                return payload, payload


def _bytes(tensor: Tensor) -> int:
    assert isinstance(tensor, Tensor)
    return tensor.numel() * tensor.element_size()
