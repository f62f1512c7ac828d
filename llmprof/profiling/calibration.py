"""Calibrate the local device: time kernels, fit constants, and see what leaves of a pass take beside their kernels.

The last needs both halves: small models are run, and what their kernels should take is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

from llmprof.errors import DeviceError, InputError
from llmprof.latency.device_profile import Identity, Profile
from llmprof.latency.eager import EagerModel
from llmprof.latency.eager_fit import Sample, fit
from llmprof.profiling.question import require_torch
from llmprof.profiling.small_passes import SmallPasses, start_seconds
from llmprof.workload import ComputeDtype

if TYPE_CHECKING:
    import torch

    from llmprof.profiling.served_calibration import Found

SHARE = 1 / 3
"""Of the time for kernels, how much passes of small models get on top."""

INSTALL_LINE = "pip install 'llmprof[calibrate]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What came out: whose device, the constants in one dtype, and what they were fitted to."""

    device: Identity
    torch: str
    dtype: ComputeDtype
    model: EagerModel
    samples: tuple[Sample, ...]


def identity(device: torch.device) -> Identity:
    """How the device calls itself."""
    import torch as framework

    from llmprof.measure.environment import environment

    if device.type == "cuda":
        return Identity(kind="cuda", name=framework.cuda.get_device_name(device))
    cpu = environment(device)["cpu"]
    return Identity(kind="cpu", name=cpu.get("model") or "cpu", threads=framework.get_num_threads())


def local_device(name: str) -> torch.device:
    """The device to be calibrated. DeviceError without torch, scipy or such a device, InputError for a wrong name."""
    require_torch(referees=False, command="calibrate", install=INSTALL_LINE)
    _require_scipy()
    from llmprof.measure.device import resolve_device

    device = resolve_device(name)
    if device.type == "meta":
        raise InputError("--device meta: shapes take no time; name cpu or cuda")
    return device


def calibrate(
    device: torch.device, dtype: ComputeDtype, *, seconds: float, progress: Callable[[str, int, int], None]
) -> Calibrated:
    """Time the designed set on `device`, within about `seconds`, and fit the constants of `dtype`.

    On a CPU passes of small models take a third of that again.
    """
    import torch as framework

    from llmprof.measure.calibration.clock import ROUNDS, time_points
    from llmprof.measure.calibration.kernels import Pool, points

    kind: framework.dtype = getattr(framework, {"bf16": "bfloat16", "fp16": "float16"}.get(dtype, "float32"))
    designed = list(points(kind, device))
    passes = SmallPasses(device, dtype) if device.type == "cpu" else None

    def between() -> None:
        if passes is not None:
            passes.round(SHARE * seconds / ROUNDS, lambda done, planned: progress("models", done, planned))

    times = time_points(
        designed,
        Pool(kind, device),
        seconds=seconds,
        progress=lambda done, planned: progress("kernels", done, planned),
        after_round=between,
    )
    samples = tuple(Sample(work=point.work, seconds=taken) for point, taken in zip(designed, times, strict=True))
    model = EagerModel(constants=fit(samples))
    if passes is not None:
        model = replace(model, in_pass=passes.in_pass(model))
    else:
        starts = start_seconds(device, dtype, lambda done, planned: progress("models", done, planned))
        model = replace(model, host_s=starts)
    return Calibrated(
        device=identity(device),
        torch=str(framework.__version__),
        dtype=dtype,
        model=model,
        samples=samples,
    )


def profile_of(device: torch.device, found: Sequence[Calibrated], served: Found | None) -> Profile:
    """What is written of `device`: the constants of each dtype, and those of served ops."""
    import torch as framework

    return Profile(
        device=identity(device),
        measured=datetime.now(UTC).date().isoformat(),
        torch=str(framework.__version__),
        models={each.dtype: each.model for each in found},
        served=None if served is None else served.served,
    )


def _require_scipy() -> None:
    try:
        import_module("scipy.optimize")
    except ModuleNotFoundError as error:
        raise DeviceError(f"calibrate needs scipy, which is not installed here; run: {INSTALL_LINE}") from error
