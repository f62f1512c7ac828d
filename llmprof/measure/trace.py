"""Sees every op that a pass dispatches, with the leaf that dispatched it, and shows it to the counters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from llmprof.measure.ops import Kind, kind_of
from llmprof.twin.model import Twin


@dataclass(frozen=True, slots=True)
class Launch:
    """One dispatched op. It holds tensors whose lifetimes are counted, so no observer may keep it."""

    path: str
    op: OpOverload
    kind: Kind
    args: tuple[Any, ...]
    inputs: tuple[Tensor, ...]
    """Every tensor among the arguments, in their order."""
    outputs: tuple[Tensor, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """The arguments that were given by name."""

    @property
    def is_kernel(self) -> bool:
        """Whether anything runs: views and allocations launch nothing."""
        return self.kind is not Kind.VIEW and self.kind is not Kind.ALLOCATION


class Observer(Protocol):
    """A counter of something."""

    def observe(self, launch: Launch) -> None:
        """Called after each op, while its inputs and outputs are alive."""


class StrayKernel(RuntimeError):
    """A kernel that was launched outside of every leaf."""

    def __init__(self, op: OpOverload) -> None:
        super().__init__(f"{op} was launched by no leaf, but leaves launch all kernels")


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """Runs each op as it would have run, then shows it to the observers.

    `path` is the leaf that is running, "" where none is.
    """

    def __init__(self, observers: Sequence[Observer], path: str = "") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # it has no types
        self.path = path
        self._observers = observers

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kind = kind_of(func, self.path)
        if kind is Kind.COMPOSITE:
            with self:
                return _open(func, args, kwargs or {})
        out = func(*args, **(kwargs or {}))
        launch = Launch(
            self.path,
            func,
            kind,
            args,
            tuple(tensors_in((args, tuple((kwargs or {}).values())))),
            tuple(tensors_in(out)),
            kwargs or {},
        )
        if launch.is_kernel and not self.path:
            raise StrayKernel(func)
        for observer in self._observers:
            observer.observe(launch)
        return out


def _open(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the body of an op that launches others, so that they are dispatched one by one."""
    name = str(func._schema.name) + (f".{func._schema.overload_name}" if func._schema.overload_name else "")
    if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"):
        return func.decompose(*args, **kwargs)
    # One body for all backends, but that `meta` has another, which no device runs.
    assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeExplicitAutograd"), name
    return func.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), *args, **kwargs)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor of an argument or a result, lists and tuples opened, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


@contextmanager
def tracing(twin: Twin, observers: Sequence[Observer]) -> Iterator[None]:
    """Show every op of the enclosed passes of `twin` to `observers`, in order.

    Never under `inference_mode`, which hides the decomposition of composite ops. To the forward pass of a training
    session autograd adds views alone; its backward is shown by `tracing_backward`.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("ops cannot be counted under inference_mode: composite ops would hide their kernels")
    mode = DispatchMode(observers)

    def attribute(path: str, leaf: nn.Module) -> list[Any]:
        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            mode.path = path

        def leave(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            mode.path = ""

        return [leaf.register_forward_pre_hook(enter), leaf.register_forward_hook(leave, always_call=True)]

    hooks = [hook for path, leaf in twin.leaves for hook in attribute(path, leaf)]
    try:
        with mode:
            yield
    finally:
        for hook in hooks:
            hook.remove()


BACKWARD = "backward"
"""The path of everything that a backward pass launches: autograd does not run module by module."""


@contextmanager
def tracing_backward(observers: Sequence[Observer]) -> Iterator[None]:
    """Show every op of the enclosed backward passes to `observers`; UnknownOp where no rule says what one does."""
    with DispatchMode(observers, BACKWARD):
        yield


@contextmanager
def tracing_step(observers: Sequence[Observer]) -> Iterator[None]:
    """Show every op of the enclosed steps of an optimiser to `observers`, at the path ``optimizer``."""
    with DispatchMode(observers, "optimizer"):
        yield
