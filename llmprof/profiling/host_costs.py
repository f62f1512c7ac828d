"""What the host spends around kernels: on a CPU per module and per kernel, on a GPU the time to start one.

Both need small models that really run, and what their kernels should take by the constants that were fitted. The
models are none that anybody asks about: two layers, so narrow that kernels cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from llmprof.latency.eager import EagerModel, work_of
from llmprof.predict.api import Prediction, predict
from llmprof.profiling.fit import kernels_of
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text
from llmprof.work import Family, Work
from llmprof.workload import ComputeDtype, Dtypes, Execution, Workload

if TYPE_CHECKING:
    import torch

ATTENTIONS: tuple[Literal["fused", "unfused"], ...] = ("fused", "unfused")

PASSES = 25
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
class HostCosts:
    """Seconds beside what kernels take: per module, per kernel of a module, and per module with an attention core.

    `start_s` is per kernel where the host runs ahead of the device, which then costs nothing else.
    """

    module_s: float = 0.0
    kernel_s: float = 0.0
    fused_core_s: float = 0.0
    unfused_core_s: float = 0.0
    start_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafCost:
    """How many kernels of which families a leaf has, and what it took beyond what these should."""

    kernels: int
    families: frozenset[Family]
    beyond_s: float


def host_costs(
    model: EagerModel, device: torch.device, dtype: ComputeDtype, progress: Callable[[int, int], None]
) -> HostCosts:
    """Run the small models in decode on `device` and see what is left over beside the kernels of `model`."""
    ran = []
    small = [(arch, attention) for arch in small_models() for attention in ATTENTIONS]
    for done, (arch, attention) in enumerate(small):
        dtypes = Dtypes(weights=dtype, activations=dtype, kv_cache=dtype)
        workload = Workload(phase="decode", batch=1, new_tokens=1, context=16, dtypes=dtypes)
        ran.append(_run(arch, workload, Execution(attention=attention, kernels=kernels_of(device)), device))
        progress(done + 1, len(small))
    if device.type == "cuda":
        return HostCosts(start_s=median(each.seconds / each.launches for each in ran))
    costs = [cost for each in ran for cost in leaf_costs(each.prediction, model, each.clocked)]
    module_s, kernel_s = split([cost for cost in costs if cost.families == {"memory"}])
    between = median(max(0.0, each.seconds - sum(each.clocked.values())) / len(each.clocked) for each in ran)

    def core(family: Family) -> float:
        beyond = [cost.beyond_s - cost.kernels * kernel_s for cost in costs if family in cost.families]
        return max(0.0, median(beyond)) + between

    return HostCosts(
        module_s=module_s + between, kernel_s=kernel_s, fused_core_s=core("core"), unfused_core_s=core("batched")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """A pass of a small model: what is predicted of it, what it took at its quickest, and its leaves."""

    prediction: Prediction
    seconds: float
    clocked: Mapping[str, float]

    @property
    def launches(self) -> int:
        return sum(line.count for line in self.prediction.ops)


def _run(arch: ArchSpec, workload: Workload, execution: Execution, device: torch.device) -> _Ran:
    from llmprof.measure.module_time import module_seconds
    from llmprof.measure.time import clock_for
    from llmprof.twin.build import build
    from llmprof.twin.session import Session

    clock = clock_for(device)
    session = Session(build(arch, dtypes=workload.dtypes, device=device), workload, execution)
    taken = []
    for _ in range(PASSES):
        session.restore()
        taken.append(clock.sample(session.run) / 1e9)
    return _Ran(
        prediction=predict(arch, workload, execution),
        seconds=min(taken),
        clocked=module_seconds(session, device, passes=PASSES),
    )


def leaf_costs(prediction: Prediction, model: EagerModel, clocked: Mapping[str, float]) -> Iterator[LeafCost]:
    """What every leaf took beyond its kernels."""
    program = prediction.program
    for prefix, ops in (
        ("", program.ops),
        *((f"{group.prefix}layers.{index}.", group.ops) for group in program.groups for index in group.indices),
    ):
        inside: dict[str, list[Work]] = {}
        for op in ops:
            inside.setdefault(op.path, []).append(work_of(op))
        for path, works in inside.items():
            expected = sum(model.of(work)[0].seconds(work) for work in works)
            families = frozenset(work.family for work in works)
            yield LeafCost(kernels=len(works), families=families, beyond_s=clocked[prefix + path] - expected)


def split(costs: list[LeafCost]) -> tuple[float, float]:
    """Seconds per leaf and per kernel that fit `costs` best, neither below 0 (non-negative least squares)."""
    import numpy as np
    from scipy.optimize import nnls

    found, _ = nnls(np.array([[1.0, each.kernels] for each in costs]), np.array([each.beyond_s for each in costs]))
    return float(found[0]), float(found[1])


def small_models() -> tuple[ArchSpec, ...]:
    """Two decoders of the two common kinds of layer."""
    return tuple(load_text(_FRAME + layers, name="<small model>").base for layers in (_LLAMA, _GPT))
