"""Predict the runs of a table, row by row, and hold the predictions against what was measured.

No measured time is read before every prediction is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from llmprof import device as catalogue
from llmprof.device_figures import Device
from llmprof.errors import InputError, LlmprofError
from llmprof.latency.compose import Composer, Layout, Precision
from llmprof.latency.compose_bounds import DeviceKernels
from llmprof.latency.constants import DeviceModel
from llmprof.latency.op import Dtype
from llmprof.latency.serving.names import Named, named
from llmprof.latency.serving.rows import Row, Runs
from llmprof.latency.serving.serve import Demanded, serve_with
from llmprof.latency.serving.stacks import stack_of
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a row is predicted to measure, in milliseconds, and on which basis; `dense`: no layer has experts."""

    row: Row
    ttft_ms: float
    tpot_ms: float
    low_tpot_ms: float
    high_tpot_ms: float
    basis: str
    dense: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The predictions of a table by line, and why the other lines have none."""

    runs: Runs
    predicted: Mapping[int, Predicted]
    problems: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """|predicted - measured| / measured of `rows`, in percent.

    `inside` is the share of measured times in the interval, None where there is no interval.
    """

    rows: int
    mean: float
    median: float
    p90: float
    inside: float | None = None


Room = Callable[[Named, Device, Layout, int], int | None]
"""(model, device, layout, tokens of a request) -> sequences that a replica has room for; None where nobody knows."""


def unlimited(served: Named, device: Device, layout: Layout, tokens: int) -> int | None:
    """Nobody asks whether the sequences fit."""
    return None


def predict(runs: Runs, room: Room = unlimited) -> Verified:
    """Every row that can be predicted; the others with their reasons."""
    known: dict[tuple[str, str, Layout, Precision, str], Steps] = {}
    predicted, problems = {}, dict(runs.problems)
    for line, row in runs.rows.items():
        try:
            predicted[line] = _predict(row, known, room)
        except LlmprofError as error:
            problems[line] = str(error)
    return Verified(runs=runs, predicted=predicted, problems=problems)


def errors_of_tpot(found: Iterable[Predicted]) -> Errors | None:
    """Of the mean time per token; None where none was measured."""
    pairs = [(each, each.row.tpot_ms) for each in found if each.row.tpot_ms is not None]
    inside = [each.low_tpot_ms <= measured <= each.high_tpot_ms for each, measured in pairs]
    return _errors(
        [(each.tpot_ms, measured) for each, measured in pairs], sum(inside) / len(inside) if inside else None
    )


def errors_of_ttft(found: Iterable[Predicted]) -> Errors | None:
    """Of the mean time to the first token; None where none was measured."""
    return _errors([(each.ttft_ms, each.row.ttft_ms) for each in found if each.row.ttft_ms is not None], None)


def _errors(pairs: Sequence[tuple[float, float]], inside: float | None) -> Errors | None:
    if not pairs:
        return None
    percent = sorted(abs(predicted / measured - 1) * 100 for predicted, measured in pairs)
    return Errors(
        rows=len(percent),
        mean=sum(percent) / len(percent),
        median=median(percent),
        # The least error that nine tenths of the rows do not exceed.
        p90=percent[-(-9 * len(percent) // 10) - 1],
        inside=inside,
    )


def _predict(row: Row, known: dict[tuple[str, str, Layout, Precision, str], Steps], room: Room) -> Predicted:
    if row.mode != "agg":
        raise InputError(
            f"mode is {short(row.mode)!r}: prompts and answers on workers of their own, whose numbers these columns do "
            "not have, are not predicted; only agg is"
        )
    stack, device, served = stack_of(row.backend, row.version), system(row.system), _served(row)
    key = (served.arch.label, device.name, row.layout, served.precision, stack.engine)
    if key not in known:
        kernels = DeviceKernels(DeviceModel.of(device))
        known[key] = Steps(
            Composer(served.arch, kernels=kernels, layout=row.layout, precision=served.precision, engine=stack.engine)
        )
    demand = Demanded(prompt_tokens=row.prompt_tokens, output_tokens=row.output_tokens, concurrency=row.concurrency)
    fits = room(served, device, row.layout, row.prompt_tokens + row.output_tokens)
    slots = row.batch if fits is None else min(row.batch, fits)
    estimate = serve_with(known[key], stack, demand, replicas=row.layout.attention_copies, slots=slots)
    return Predicted(
        row=row,
        ttft_ms=estimate.ttft.value * 1e3,
        tpot_ms=estimate.tpot.value * 1e3,
        low_tpot_ms=estimate.tpot.low * 1e3,
        high_tpot_ms=estimate.tpot.high * 1e3,
        basis=estimate.label,
        dense=_dense(served.arch),
    )


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


def _dense(arch: ArchSpec) -> bool:
    return not any(isinstance(layer.ffn, Moe) for layer in arch.main.layers)
