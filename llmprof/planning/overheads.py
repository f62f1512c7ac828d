"""What a device holds beside a model and its caches: each part can be said by whoever has measured it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from llmprof.device import Device
from llmprof.errors import InputError
from llmprof.planning import assumptions
from llmprof.planning.assumptions import Assumption, VllmRules
from llmprof.planning.terms import Term

CONTEXT, MODULES, WORKSPACES = "runtime context", "kernel modules", "library workspaces"
GRAPHS, COMMUNICATION, KEPT_FREE = "graphs", "communication", "kept free by the engine"

GIVEN = "as it was given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """Bytes of one device, each None where the assumption of docs/planning.md is meant.

    `context_bytes`: what the driver takes before anything is loaded. `module_bytes`: kernels that are loaded and what
    libraries keep outside torch. `workspace_bytes`: what libraries of matrix products keep within. `graph_bytes`:
    captured graphs. `communication_bytes`: buffers of collectives. `kept_free_bytes`: what the engine leaves alone.
    """

    context_bytes: int | None = None
    module_bytes: int | None = None
    workspace_bytes: int | None = None
    graph_bytes: int | None = None
    communication_bytes: int | None = None
    kept_free_bytes: int | None = None

    def check(self) -> None:
        """Raise InputError where a figure is negative."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 0:
                raise InputError(f"{field.name} is {value:,}; memory that is taken is at least 0 bytes")


def is_cuda(device: Device) -> bool:
    """Whether kernels of CUDA run on it, of which alone public figures of these terms are known."""
    return device.architecture is not None and device.architecture.startswith("sm")


def overhead_terms(
    given: Overheads, device: Device, capacity: int, *, rules: VllmRules | None, communicates: bool
) -> tuple[Term, ...]:
    """The terms that no model decides, of one device of `capacity` bytes.

    `rules` are those of the vLLM that runs there, which captures graphs and keeps a part of the device free; None for
    no engine. `communicates`: whether its collectives have buffers, which takes a second device of the replica.
    """
    serves = rules is not None
    given.check()
    terms = [
        _term(CONTEXT, given.context_bytes, device, assumptions.CONTEXT),
        _term(MODULES, given.module_bytes, device, assumptions.MODULES),
        _term(WORKSPACES, given.workspace_bytes, device, _workspace(device)),
    ]
    graphs = _term(GRAPHS, given.graph_bytes, device, assumptions.GRAPHS)
    terms.append(graphs if serves or given.graph_bytes is not None else _nothing(GRAPHS, "no graph is captured"))
    buffers = _term(COMMUNICATION, given.communication_bytes, device, _buffers(device))
    alone = not communicates and given.communication_bytes is None
    terms.append(_nothing(COMMUNICATION, "a replica of one device sends nothing") if alone else buffers)
    terms.append(_kept_free(given, device, capacity, terms, rules))
    return tuple(terms)


def _term(name: str, given: int | None, device: Device, assumed: Assumption) -> Term:
    if given is not None:
        return Term(name=name, bytes=given, basis="unconfirmed", note=GIVEN)
    if not is_cuda(device):
        note = f"no public figure is known for {device.vendor} devices other than those of CUDA: taken as 0"
        if device.memory is None:
            note = "does not apply: a CPU has no context, kernels or graphs of its own"
        return Term(name=name, bytes=0, basis="unconfirmed", note=note)
    return Term(name=name, bytes=assumed.value, basis="unconfirmed", note=assumed.note)


def _nothing(name: str, note: str) -> Term:
    return Term(name=name, bytes=0, basis="confirmed", note=note)


def _workspace(device: Device) -> Assumption:
    digits = (device.architecture or "").removeprefix("sm")
    later = digits.isdigit() and int(digits) >= 90
    return assumptions.WORKSPACE_SM90 if later else assumptions.WORKSPACE


def _buffers(device: Device) -> Assumption:
    link = device.interconnect
    nvlink = link is not None and link.kind == "nvlink"
    return assumptions.COMMUNICATION_NVLINK if nvlink else assumptions.COMMUNICATION_PCIE


def _kept_free(given: Overheads, device: Device, capacity: int, terms: list[Term], rules: VllmRules | None) -> Term:
    """What vLLM does not request, less what lies in it: the context always, and graphs where they are not requested."""
    if given.kept_free_bytes is not None:
        return Term(name=KEPT_FREE, bytes=given.kept_free_bytes, basis="unconfirmed", note=GIVEN)
    if rules is None:
        return _nothing(KEPT_FREE, "no engine is meant")
    if device.memory is None or device.vendor not in ("nvidia", "amd"):
        note = f"does not apply: vLLM itself has no worker for {device.vendor} devices that keeps a part free"
        return Term(name=KEPT_FREE, bytes=0, basis="unconfirmed", note=note)
    part, whole = rules.utilisation
    unrequested = capacity - -(-capacity * part // whole)
    inside = (CONTEXT,) if rules.graphs_requested else (CONTEXT, GRAPHS)
    within = sum(term.bytes for term in terms if term.name in inside)
    return Term(
        name=KEPT_FREE,
        bytes=max(0, unrequested - within),
        basis="unconfirmed",
        note=f"1 - gpu_memory_utilization ({part / whole}), less the {' and the '.join(inside)} ({rules.source})",
    )
