"""Calibrate a GPU for what engines launch: time the designed set, and fit the constants that `plan` and `verify` use.

What is timed here is torch's: products by the vendor's library, which engines call too, and attention by the flash
kernel that torch carries, filed under the engine ``torch``, as engines' own differ. Between the two halves: the kernels
are `measure`'s, the forms `latency`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import log
from statistics import median
from typing import TYPE_CHECKING, Any

from llmprof import device as catalogue
from llmprof.device_figures import Device, KernelConstants
from llmprof.errors import InputError
from llmprof.latency.constants import DeviceModel
from llmprof.latency.fit import Fitted, Measured, fit, interval
from llmprof.latency.op import Collective, DecodeAttention, Elementwise, Gemm, PrefillAttention
from llmprof.latency.served_profile import Conditions, Served, ServedFigures, ServedKernel

if TYPE_CHECKING:
    import torch

    from llmprof.measure.calibration.served import ServedPoint
    from llmprof.measure.calibration.served_clock import Sample, Timed, Timer

SHARE = 0.5
"""Of the time that the kernels of a dtype have: so much for the served ops, all together."""

FORMS: Mapping[str, tuple[str, ...]] = {
    "gemm": ("searched",),
    "decode": ("split", "unsplit-mha"),
    "prefill": ("per-head", "packed"),
    "elementwise": ("plain",),
    "allreduce": ("plain",),
}
"""Forms that a kernel's times are tried with: that which is least off where held out is kept."""

MOVING = {"t0": 2.0, "e_b": 0.8, "hot": 0.5, "r_l2": 2.0}
"""Where the search for the constants of what moves memory begins; of the others it begins at a fitted device's."""

QUANTISING = {"t_q": 2.0, "r_row": 0.01, "e_q": 0.5}
"""The same of rounding an input to fp8."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """Seconds that the host takes to start one kernel, and a graph; that a further kernel takes within a graph.

    Each of the first two several times over, so that there is an interval.
    """

    each: tuple[float, ...]
    replay: tuple[float, ...]
    within: float


@dataclass(slots=True)
class Found:
    """What came out: constants (None where nothing was fitted), what was timed, and what is to be said about it."""

    served: Served | None = None
    timed: list[Sample] = field(default_factory=list)
    launches: Launches | None = None
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False


def catalogued(device: torch.device) -> Device | str:
    """The device of the catalogue that a local GPU is, or why its served ops cannot be calibrated."""
    import torch as framework

    if device.type != "cuda":
        return "served ops are timed on a GPU: on this CPU they are not, and `plan` keeps what the catalogue has"
    name = framework.cuda.get_device_name(device)
    # A driver says "NVIDIA H100 80GB HBM3"; the catalogue's names have no spaces.
    found = catalogue.called(name.replace(" ", "-"))
    if found is None:
        return (
            f"no device of the catalogue is called {name!r}, so its served ops have no figures to refer to; "
            "add an alias to its file (docs/devices.md)"
        )
    return found


def figures_of(device: Device, properties: Any) -> ServedFigures | str:
    """What constants will be fractions of: the figures of the device's own fit, else its catalogue's.

    The driver says what the catalogue leaves open; the text says which figure nobody knows.
    """
    if device.latency is not None:
        own = device.latency
        return ServedFigures(
            bf16=own.bf16,
            fp8=own.fp8,
            memory_bandwidth=own.memory_bandwidth,
            units=own.units,
            last_level_cache=own.last_level_cache,
            clock=own.clock,
        )
    said = {key: int(figure.value) for key, figure in device.figures.items()}
    told = {
        "units": getattr(properties, "multi_processor_count", 0),
        "last_level_cache": getattr(properties, "L2_cache_size", 0),
        "clock": getattr(properties, "clock_rate", 0) * 1000,
    }
    known = {key: said.get(key) or int(value or 0) for key, value in told.items()}
    known["bf16"] = said.get("peak_flops.bf16") or said.get("peak_flops.fp16") or 0
    known["memory_bandwidth"] = said.get("memory_bandwidth", 0)
    missing = [key for key, value in known.items() if not value]
    if missing:
        return f"{device.name}: nobody says its {', '.join(missing)}, which constants of served ops are fractions of"
    return ServedFigures(fp8=said.get("peak_flops.fp8"), **known)


def calibrate_served(
    device: Device,
    figures: ServedFigures,
    points: Sequence[ServedPoint],
    timer: Timer,
    *,
    seconds: float,
    launches: Callable[[], Launches] | None = None,
    collectives: Callable[[], tuple[list[Sample], list[str]]] | None = None,
    conditions: Callable[[], Conditions] = Conditions,
    progress: Progress | None = None,
) -> Found:
    """Time `points` within about `seconds`, and fit constants of every kind that has enough times."""
    from llmprof.measure.calibration.served_clock import time_served

    timed = time_served(points, timer, seconds=seconds, progress=progress)
    found = Found(timed=timed.samples, interrupted=timed.interrupted, notes=list(_left_out(timed)))
    try:
        if launches is not None and not found.interrupted:
            found.launches = launches()
        if collectives is not None and not found.interrupted:
            among, notes = collectives()
            found.timed += among
            found.notes += notes
    except KeyboardInterrupt:
        found.interrupted = True
    under = conditions()
    kernels = list(_fits(device, figures, found.timed, found.notes))
    if found.launches is not None:
        kernels.append(_launching(found.launches))
    if kernels:
        found.served = Served(
            device=device.name,
            measured=datetime.now(UTC).date().isoformat(),
            figures=figures,
            conditions=under,
            kernels=tuple(kernels),
        )
    return found


def _left_out(timed: Timed) -> Iterator[str]:
    for (kind, reason), count in timed.left_out.items():
        yield f"{kind}: {count} of {timed.planned[kind]} points not timed: {reason}"


def _fits(
    device: Device, figures: ServedFigures, samples: Sequence[Sample], notes: list[str]
) -> Iterator[ServedKernel]:
    """One entry for each op, dtype and engine that was timed often enough."""
    groups: dict[tuple[str, str, str | None], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(_key(sample), []).append(sample)
    for (op, dtype, engine), own in groups.items():
        measured = [Measured(op=each.op, seconds=each.seconds) for each in _by_size(own)]
        try:
            best = _best(device, figures, op, dtype, engine, measured)
        except InputError as error:
            notes.append(f"{error}; not fitted")
            continue
        yield ServedKernel(
            op=op,  # type: ignore[arg-type]  # as `_key` has them
            dtype=dtype,  # type: ignore[arg-type]
            engine=engine,  # type: ignore[arg-type]
            form=best.kernel.form,  # type: ignore[arg-type]
            constants={name: float(f"{value:.6g}") for name, value in best.kernel.constants.items()},
            short=best.kernel.short,
            long=best.kernel.long,
            timed=best.count,
            median_error=best.median / 100,
            p90_error=best.p90 / 100,
        )


def _key(sample: Sample) -> tuple[str, str, str | None]:
    match sample.op:
        case Gemm(dtype=dtype, engine=engine):
            return "gemm", dtype, engine
        case DecodeAttention(kv_dtype=dtype, engine=engine):
            return "decode", dtype, engine
        case PrefillAttention(kv_dtype=dtype, engine=engine):
            return "prefill", dtype, engine
        case Elementwise():
            return "elementwise", "bf16", None  # it is bytes that take the time
        case Collective(engine=engine):
            return "allreduce", "bf16", engine


def _by_size(samples: Sequence[Sample]) -> list[Sample]:
    """Sorted by time, so that each third that is held out has all sizes (`latency.fit` takes every third)."""
    return sorted(samples, key=lambda sample: sample.seconds)


def _best(
    device: Device,
    figures: ServedFigures,
    op: str,
    dtype: str,
    engine: str | None,
    measured: Sequence[Measured],
) -> Fitted:
    from llmprof.latency.served_profile import figures_of as as_figures

    tried = []
    for form in FORMS[op]:
        start = replace(_start(device, op, dtype, form), dtype=dtype, engine=engine)
        if op == "allreduce":
            start = replace(start, constants=_among(device, start.constants, measured))
        tried.append(fit(measured, as_figures(figures), start))
    return min(tried, key=lambda each: each.median)


def _start(device: Device, op: str, dtype: str, form: str) -> KernelConstants:
    """Constants of a kernel of this form to begin the search at: the device's own, else those of any that was fitted.

    Only where the search begins depends on them, and which constants there are.
    """
    if op == "elementwise":
        return KernelConstants(
            op=op, dtype=dtype, engine=None, form=form, constants=MOVING, short=(1.0, 1.0), long=(1.0, 1.0)
        )
    fitted = [each for each in (device, *catalogue.entries()) if each.latency is not None]
    alike = [
        kernel
        for each in fitted
        for kernel in (each.latency.kernels if each.latency is not None else ())
        if kernel.op == op and kernel.form == form
    ]
    of_16_bits = [kernel for kernel in alike if kernel.dtype == "bf16"]
    chosen = of_16_bits[0]  # the catalogue has each of `FORMS` in bf16: a test says so
    if dtype == "fp8":
        return replace(chosen, constants={**chosen.constants, **QUANTISING})
    return chosen


def _among(device: Device, constants: Mapping[str, float], measured: Sequence[Measured]) -> dict[str, float]:
    """Those of groups that were timed; rates are of this device's own links, whatever they are."""
    groups = {each.op.devices for each in measured if isinstance(each.op, Collective)}
    found = {name: value for name, value in constants.items() if name.rpartition("_")[2] in map(str, groups)}
    link = device.interconnect
    return {**found, "link": constants["link"] if link is None else link.per_direction.value / 1e9}


def _launching(launches: Launches) -> ServedKernel:
    """What starting kernels costs the host, with the interval of its repetitions."""
    each, replay = median(launches.each), median(launches.replay)
    ratios = [log(one / each) for one in launches.each] + [log(one / replay) for one in launches.replay]
    errors = sorted(abs(one / each - 1) for one in launches.each)
    held = interval(ratios)
    return ServedKernel(
        op="launch",
        dtype="bf16",
        constants={"t_launch": each * 1e6, "t_replay": replay * 1e6, "t_within": launches.within * 1e6},
        short=held,
        long=held,
        timed=len(ratios),
        median_error=errors[len(errors) // 2],
        p90_error=errors[min(len(errors) - 1, len(errors) * 9 // 10)],
    )


def model_of(served: Served) -> DeviceModel:
    """The device with what was measured, for predictions."""
    from llmprof.latency.served_profile import applied

    return DeviceModel.of(applied(served, catalogue.find(served.device)))
