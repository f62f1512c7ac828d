"""Calibrate the local device: time kernels, fit constants, and see what a module costs around its kernels.

The last needs both halves: small models are run, what their kernels should take is predicted, and what is left is
spread over their modules. The models are none that anybody asks about: two layers, so narrow that kernels cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from statistics import median
from typing import TYPE_CHECKING

from llmprof.errors import DeviceError, InputError
from llmprof.latency.device_profile import Identity, Profile
from llmprof.latency.eager import EagerModel, pass_time
from llmprof.latency.eager_fit import Sample, fit
from llmprof.predict.api import predict
from llmprof.profiling.fit import kernels_of
from llmprof.profiling.question import require_torch
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text
from llmprof.workload import ComputeDtype, Dtypes, Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.profiling.served_calibration import Found

INSTALL_SCIPY = "pip install 'llmprof[calibrate]'"

PASSES = 15
"""Of each small model: the quickest counts, as of kernels."""


_FRAME = """
name: small
source: {url: "https://pypi.org/project/llmprof/", where: "made up: as narrow as it can be", read: 2026-11-30}
structure: causal-decoder
vocab_size: 64
d_model: 32
max_context: 64
tied_embeddings: false
"""
_LLAMA = """
position: {kind: rope, theta: 10000}
layers:
  count: 2
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 2, n_kv_heads: 1, head_dim: 16}
  ffn: {kind: swiglu, d_ff: 64}
"""
_GPT = """
position: {kind: learned, rows: 64}
layers:
  count: 2
  norm: {kind: layernorm, placement: pre}
  attention: {kind: gqa, n_heads: 2, n_kv_heads: 2, head_dim: 16, qkv_bias: true, out_bias: true}
  ffn: {kind: gelu-tanh, d_ff: 128, bias: true}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What came out: whose device, the constants in one dtype, and what they were fitted to."""

    device: Identity
    day: str
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
    require_torch(referees=False, command="calibrate")
    _require_scipy()
    from llmprof.measure.device import resolve_device

    device = resolve_device(name)
    if device.type == "meta":
        raise InputError("--device meta: shapes take no time; name cpu or cuda")
    return device


def calibrate(
    device: torch.device, dtype: ComputeDtype, *, seconds: float, progress: Callable[[str, int, int], None]
) -> Calibrated:
    """Time the designed set on `device`, within about `seconds`, and fit the constants of `dtype`."""
    import torch as framework

    from llmprof.measure.calibration.clock import host_seconds, time_points
    from llmprof.measure.calibration.kernels import Pool, points

    kind: framework.dtype = getattr(framework, {"bf16": "bfloat16", "fp16": "float16"}.get(dtype, "float32"))
    designed = list(points(kind, device))
    times = time_points(
        designed, Pool(kind, device), seconds=seconds, progress=lambda done, all_: progress("kernels", done, all_)
    )
    samples = tuple(Sample(work=point.work, seconds=taken) for point, taken in zip(designed, times, strict=True))
    model = EagerModel(constants=fit(samples), module_s=0.0, host_s=host_seconds(device))
    model = replace(model, module_s=_module_seconds(model, device, dtype, progress))
    return Calibrated(
        device=identity(device),
        day=datetime.now(UTC).date().isoformat(),
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
        raise DeviceError(f"calibrate needs scipy, which is not installed here; run: {INSTALL_SCIPY}") from error


def _module_seconds(
    model: EagerModel, device: torch.device, dtype: ComputeDtype, progress: Callable[[str, int, int], None]
) -> float:
    """What one call of a module takes beside its kernels, by small models."""
    from llmprof.measure.time import clock_for
    from llmprof.twin.build import build
    from llmprof.twin.session import Session

    clock, found = clock_for(device), []
    small = _small_models()
    for done, arch in enumerate(small):
        dtypes = Dtypes(weights=dtype, activations=dtype, kv_cache=dtype)
        workload = Workload(phase="decode", batch=1, new_tokens=1, context=16, dtypes=dtypes)
        execution = Execution(attention="unfused", kernels=kernels_of(device))
        session = Session(build(arch, dtypes=dtypes, device=device), workload, execution)
        taken = []
        for _ in range(PASSES):
            session.restore()
            taken.append(clock.sample(session.run) / 1e9)
        expected = pass_time(predict(arch, workload, execution), model)
        found.append(max(0.0, min(taken) - expected.seconds) / _calls(arch))
        progress("modules", done + 1, len(small))
    return median(found)


def _calls(arch: ArchSpec) -> int:
    """How many leaves a decoding step calls."""
    workload = Workload(phase="decode", batch=1, new_tokens=1, context=16)
    program = predict(arch, workload, Execution(attention="unfused")).program
    within = sum(group.count * len({op.path for op in group.ops}) for group in program.groups)
    return within + len({op.path for op in program.ops})


def _small_models() -> tuple[ArchSpec, ...]:
    """Two decoders of the two common kinds of layer."""
    return tuple(load_text(_FRAME + layers, name="<small model>").base for layers in (_LLAMA, _GPT))
