"""FLOP counters of other people, called as witnesses, each held to what it cannot count.

Neither is believed further than it says. torch's FlopCounterMode counts 0 for an op that is not in its
registry, without a word (its SDPA on CPU is one); so the ops that really ran are compared with the registry.
fvcore counts multiply-accumulates for contractions and its own figures for norms; so its numbers
are converted operator by operator, and only contractions are kept. A total with anything missing is a lower
bound and names what is missing; a referee that cannot run at all says so and does not raise.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from llmprof.measure.contractions import may_contract

Bound = Literal["exact", "lower"]


class Runnable(Protocol):
    """What a referee needs of a session: a model, a pass over it, and a way back."""

    @property
    def twin(self) -> nn.Module:
        """The model whose submodules have the paths of the ledger."""

    def run(self) -> object:
        """One forward pass without gradients."""

    def restore(self) -> object:
        """Undo what a pass changes."""

    @property
    def caches(self) -> Mapping[str, torch.Tensor]:
        """What a pass writes beside its outputs, by path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Referee:
    """What one witness says of the matmul FLOPs (2 per multiply-accumulate) of a pass.

    `value` is None where it could not testify; `reason` then says why. A ``lower`` bound has left
    out the ops in `not_counted`; `lower_paths` are the module paths, "" being the whole, in which
    they ran. `by_path` has the FLOPs of each path that has any, with everything below it; they are exact on all other
    paths. `dropped` names what the witness counted and we left out, because it is no contraction.
    """

    name: str
    value: int | None
    bound: Bound
    not_counted: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    lower_paths: frozenset[str] = frozenset()
    reason: str = ""
    by_path: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def flop_counter(session: Runnable, formulas: Mapping[Any, Callable[..., int]] | None = None) -> Referee:
    """The dense count of `torch.utils.flop_counter.FlopCounterMode` over one pass of `session`.

    `formulas` are of ops that its registry does not have: op -> FLOPs by the shapes of its arguments.
    """
    name = f"torch {torch.__version__} FlopCounterMode"
    counter = FlopCounterMode(display=False, custom_mapping=dict(formulas or {}))
    seen = _Dispatched(lambda: counter.mod_tracker.parents)
    try:
        # The counter is entered last, so it sees each op first and passes on what it has decomposed.
        with _restored(session), torch.no_grad(), seen, counter:
            session.run()
    except Exception as error:
        return _unmeasured(name, error)
    registered = {_name(op) for op in counter.flop_registry}
    missing = {op: modules for op, modules in seen.modules.items() if op not in registered and may_contract(op)}
    prefix = f"{type(session.twin).__name__}."

    def paths(modules: Iterable[str]) -> Iterator[tuple[str, str]]:
        yield "", "Global"
        yield from ((module.removeprefix(prefix), module) for module in modules if module.startswith(prefix))

    counts = {module: sum(by_op.values()) for module, by_op in counter.get_flop_counts().items()}
    reason = f"counts 0 for {', '.join(sorted(missing))}, which ran and are not in its registry" if missing else ""
    return Referee(
        name=name,
        value=counter.get_total_flops(),
        bound="lower" if missing else "exact",
        not_counted=tuple(sorted(missing)),
        lower_paths=frozenset(path for modules in missing.values() for path, _ in paths(modules)),
        reason=reason,
        by_path=MappingProxyType({path: counts[module] for path, module in paths(counts) if counts.get(module)}),
    )


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The ops that reach a kernel, each with the modules in which it did."""

    supports_higher_order_operators = True

    def __init__(self, within: Callable[[], set[str]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._within = within
        self.modules: dict[str, set[str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.modules.setdefault(_name(func), set()).update(self._within())
        return func(*args, **(kwargs or {}))


def _name(op: Any) -> str:
    packet = getattr(op, "overloadpacket", op)
    return str(packet)


# What fvcore counts, and the FLOPs in one of its units. Read in fvcore 0.1.5.post20221221, nn/jit_handles.py:
# each of these handlers multiplies the sizes of the contraction once ("one fused multiply-add as one flop").
_FVCORE_FLOPS_PER_UNIT = {"addmm": 2, "bmm": 2, "conv": 2, "einsum": 2, "linear": 2, "matmul": 2, "mm": 2}
# Counted by fvcore with figures of its own, and no contraction.
_FVCORE_NO_CONTRACTION = {
    "adaptive_avg_pool2d",
    "batch_norm",
    "grid_sampler",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "upsample_bilinear2d",
    "upsample_nearest2d",
}


def fvcore_flops(session: Runnable) -> Referee:
    """The contractions that fvcore's `FlopCountAnalysis` finds in a jit trace of one pass, in FLOPs.

    fvcore traces with shapes alone and works on ``meta``, except where an op has no trace: the CUDA flash
    attention returns symbolic integers, which the tracer of torch refuses.
    """
    name = "fvcore FlopCountAnalysis"
    try:
        with _quiet():
            analysis_of: Callable[..., Any] = importlib.import_module("fvcore.nn").FlopCountAnalysis
    except ImportError as error:
        return Referee(name=name, value=None, bound="lower", reason=f"fvcore cannot be imported: {error}")
    try:
        with _restored(session), _without_new_hooks(session.twin), torch.no_grad(), _quiet():
            analysis = analysis_of(_Pass(session), ())
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            counted: dict[str, Mapping[str, int]] = dict(analysis.by_module_and_operator())
            skipped = {module: set(analysis.unsupported_ops(module)) for module in counted}
    except Exception as error:
        return _unmeasured(name, error)
    # Lists and holders of modules are never called, so they are nobody's paths.
    called = {f"twin.{path}" for path, module in session.twin.named_modules() if _has_forward(module)}
    missing: set[str] = set()
    lower_paths: set[str] = set()
    by_path: dict[str, int] = {}
    for module, units in counted.items():
        if module and module not in called:
            continue
        path = module.removeprefix("twin.")
        unknown = set(units) - set(_FVCORE_FLOPS_PER_UNIT) - _FVCORE_NO_CONTRACTION
        gone = {op.replace("::", ".") for op in skipped[module] if may_contract(op)} | {f"aten.{op}" for op in unknown}
        missing |= gone
        if gone:
            lower_paths.add(path)
        if total := _fvcore_total(units):
            by_path[path] = total
    return Referee(
        name=name,
        value=_fvcore_total(counted[""]),
        bound="lower" if missing else "exact",
        not_counted=tuple(sorted(missing)),
        lower_paths=frozenset(lower_paths),
        dropped=tuple(sorted(set(counted[""]) & _FVCORE_NO_CONTRACTION)),
        reason=f"has no count for {', '.join(sorted(missing))}" if missing else "",
        by_path=MappingProxyType(by_path),
    )


def _has_forward(module: nn.Module) -> bool:
    return type(module).forward is not nn.Module.forward


def _fvcore_total(counted: Mapping[str, int]) -> int:
    return sum(int(count) * _FVCORE_FLOPS_PER_UNIT.get(op, 0) for op, count in counted.items())


class _Pass(nn.Module):
    """A session as a module without inputs, which is what a jit trace takes."""

    def __init__(self, session: Runnable) -> None:
        super().__init__()
        self.twin = session.twin
        self._session = session

    def forward(self) -> tuple[torch.Tensor, ...]:
        # The trace drops what no output depends on, and some rows go nowhere but into a cache.
        return (*_tensors(self._session.run()), *self._session.caches.values())


def _tensors(output: object) -> Iterator[torch.Tensor]:
    """The tensors in `output`; a jit trace cannot return the record that holds them."""
    if is_dataclass(output):
        output = [getattr(output, part.name) for part in fields(output)]
    return (leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor))


@contextmanager
def _restored(session: Runnable) -> Iterator[None]:
    session.restore()
    try:
        yield
    finally:
        session.restore()


@contextmanager
def _without_new_hooks(model: nn.Module) -> Iterator[None]:
    """Take away the hooks that fvcore leaves on every module when its trace fails."""
    tables = [hooks for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks)]
    before = [set(hooks) for hooks in tables]
    try:
        yield
    finally:
        for hooks, old in zip(tables, before, strict=True):
            for key in set(hooks) - old:
                del hooks[key]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what fvcore and the tracer print: what they could not count is in the result."""
    log = logging.getLogger("fvcore.nn.jit_analysis")
    disabled, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = disabled


def _unmeasured(name: str, error: Exception) -> Referee:
    line = (str(error).strip().splitlines() or [""])[0]
    return Referee(name=name, value=None, bound="lower", reason=f"could not run: {type(error).__name__}: {line}")
