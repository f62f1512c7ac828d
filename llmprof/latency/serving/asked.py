"""What a row of served runs asks: which engine serves which model on what, with how many requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llmprof import device as catalogue
from llmprof.device_figures import Device
from llmprof.errors import InputError
from llmprof.latency.compose import Composer, Layout, Precision
from llmprof.latency.compose_bounds import DeviceKernels
from llmprof.latency.constants import DeviceModel
from llmprof.latency.local import NOTHING, Local
from llmprof.latency.op import Dtype
from llmprof.latency.serving.budgets import budget
from llmprof.latency.serving.names import Named, named
from llmprof.latency.serving.rows import Row
from llmprof.latency.serving.scheduler import Scheduler
from llmprof.latency.serving.serve import Demanded
from llmprof.latency.serving.stacks import Stack, stack_of
from llmprof.latency.serving.steps import Steps
from llmprof.latency.systems import device_of
from llmprof.spec.arch import ArchSpec, Moe
from llmprof.spec.nodes import short

CACHES: dict[str, Dtype] = {
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "bf16",
    "float16": "bf16",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
}

TOGETHER, WHOLE = ("agg", "aggregated", "ifb"), "static"
"""Modes that are predicted, as aiconfigurator calls them: prompts and answers on the same workers under the engine's
scheduler, and one batch that is taken in at once and answered to the end."""

Room = Callable[[Named, Device, Layout, int], int | None]
"""(model, device, layout, tokens of a request) -> sequences that a replica has room for; None where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A row, understood. `replicas` are copies of the attention, `slots` what one of them was started for and has room
    for; `dense`: no layer has experts."""

    stack: Stack
    steps: Steps
    demand: Demanded
    replicas: int
    slots: int
    dense: bool


class Desk:
    """Understands rows, and keeps what times the passes of those that share a model, a device and a layout.

    What was measured locally comes before what the catalogue has.
    """

    def __init__(self, room: Room | None = None, local: Local = NOTHING) -> None:
        self._room, self._local = room, local
        self._known: dict[tuple[str, str, Layout, Precision, str], Steps] = {}

    def asked(self, row: Row) -> Asked:
        """What `row` asks. InputError where it cannot be predicted, saying why."""
        mode = row.mode.lower()
        if mode != WHOLE and mode not in TOGETHER:
            raise InputError(
                f"mode is {short(row.mode)!r}: prompts and answers on workers of their own, whose numbers these "
                "columns do not have, are not predicted; only agg and static are"
            )
        device, served = self._local.device(system(row.system)), _served(row)
        stack = self._local.stack(stack_of(row.backend, row.version), row.version, device)
        stack = stack.with_tokens(budget(stack.engine, device))
        tokens = row.prompt_tokens + row.output_tokens
        fits = None if self._room is None else self._room(served, device, row.layout, tokens)
        return Asked(
            stack=stack.as_measured if mode != WHOLE else _static(stack, row),
            steps=self._steps(row, stack, device, served),
            demand=Demanded(
                prompt_tokens=row.prompt_tokens, output_tokens=row.output_tokens, concurrency=row.concurrency
            ),
            replicas=row.layout.attention_copies,
            slots=row.batch if fits is None else min(row.batch, fits),
            dense=_dense(served.arch),
        )

    def _steps(self, row: Row, stack: Stack, device: Device, served: Named) -> Steps:
        key = (served.arch.label, device.name, row.layout, served.precision, stack.engine)
        if key not in self._known:
            self._known[key] = Steps(
                Composer(
                    served.arch,
                    kernels=DeviceKernels(DeviceModel.of(device)),
                    layout=row.layout,
                    precision=served.precision,
                    engine=stack.engine,
                )
            )
        return self._known[key]


def system(name: str) -> Device:
    """The device of a `system` column: ``h100_sxm``. InputError for one that the catalogue does not have."""
    found = device_of(name)
    return catalogue.find(name.replace("_", "-")) if found is None else found


def _served(row: Row) -> Named:
    found = named(row.model_path)
    if row.kv_dtype and row.kv_dtype.lower() != "auto":
        cache = CACHES.get(row.kv_dtype.lower())
        if cache is None:
            raise InputError(f"kv_dtype is {short(row.kv_dtype)!r}; expected auto, {', '.join(CACHES)}")
        found = replace(found, precision=replace(found.precision, kv_cache=cache))
    return found


def _static(stack: Stack, row: Row) -> Stack:
    """The engine with passes that hold the prompts of a whole batch, and no slot left empty."""
    return replace(stack, scheduler=Scheduler(name="static", tokens=row.batch * row.prompt_tokens))


def _dense(arch: ArchSpec) -> bool:
    return not any(isinstance(layer.ffn, Moe) for layer in arch.main.layers)
