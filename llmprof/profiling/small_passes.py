"""Passes of small models: on a CPU what leaves take inside a pass, on a GPU what the host takes to start a kernel.

Both need models that really run, and what their kernels should take by the constants that were fitted. The models are
none that anybody asks about. On a CPU their weights are more than a cache holds, and they run in prefill and decode;
on a GPU they are so narrow that kernels cost little, and the host decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from statistics import median
from typing import TYPE_CHECKING, Literal

from llmprof.latency.accuracy import quantile
from llmprof.latency.eager import EagerModel, leaves_of
from llmprof.latency.in_pass import InPass, LeafKind, Surroundings
from llmprof.predict.api import Prediction, predict
from llmprof.profiling.fit import kernels_of
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text
from llmprof.workload import ComputeDtype, Dtypes, Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.twin.model import Twin
    from llmprof.twin.session import Session

ATTENTIONS: tuple[Literal["fused", "unfused"], ...] = ("fused", "unfused")

SIZES: tuple[tuple[int, int, int], ...] = (
    (1, 1, 64),
    (4, 1, 256),
    (1, 1, 512),
    (1, 32, 32),
    (2, 64, 64),
    (1, 256, 256),
)
"""(batch, new tokens, context) of the passes: decode where there is one new token."""

COVERED = 0.9
"""The share of held-out passes that the interval holds."""

PASSES = 2
"""At least so many of each size in a round, and as many again with clocks at every leaf."""

WIDE = 1024
"""d_model of the models of a CPU; narrower ones beside it."""
NARROW = 32
STEP, STARTS_S = ((1, 1, 16),), 0.3
"""What the narrow ones run, and for how long each."""

_FRAME = """
name: small
source: {{url: "https://pypi.org/project/llmprof/", where: "made up", read: 2026-11-30}}
structure: causal-decoder
vocab_size: {vocab}
d_model: {d}
max_context: 512
tied_embeddings: false
position: {position}
layers:
  count: {count}
  norm: {{kind: {norm}, placement: pre}}
  attention: {{kind: gqa, n_heads: {heads}, n_kv_heads: {kept}, head_dim: {width}{biases}}}
  ffn: {{kind: {ffn}, d_ff: {f}{bias}}}
"""
_LLAMA = {"position": "{kind: rope, theta: 10000}", "norm": "rmsnorm", "ffn": "swiglu", "biases": "", "bias": ""}
_GPT = {
    "position": "{kind: learned, rows: 512}",
    "norm": "layernorm",
    "ffn": "gelu-tanh",
    "biases": ", qkv_bias: true, out_bias: true",
    "bias": ", bias: true",
}


def small_models(d: int) -> tuple[ArchSpec, ...]:
    """Decoders of the two common kinds of layer, the widest `d` wide."""
    # Kind of layer, layers, width, heads, kept heads, feed-forward. Where d is 1024 the first two have more than 60 MB
    # of weights; the third has many narrow leaves.
    made = (
        (_LLAMA, 3, d, d // 64 or 2, d // 256 or 1, d * 11 // 4),
        (_GPT, 4, d * 3 // 4, d * 3 // 256 or 2, d * 3 // 256 or 2, d * 3),
        (_LLAMA, 8, d // 2, d // 128 or 2, d // 384 or 1, d * 3 // 2),
    )
    return tuple(
        load_text(
            _FRAME.format(
                **kind, count=count, d=wide, heads=heads, kept=kept, width=min(64, wide // heads), f=f, vocab=8 * d
            ),
            name="<small model>",
        ).base
        for kind, count, wide, heads, kept, f in made
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafTime:
    """A leaf that was clocked: its kind, its kernels, what these take alone, and what it took. Seconds."""

    kind: LeafKind
    kernels: int
    alone: float
    taken: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTimes:
    """A pass of the model number `model`: its leaves, and what it took without clocks in it."""

    model: int
    leaves: tuple[LeafTime, ...]
    taken: float


# --- what leaves take inside a pass ----------------------------------------------------------------


class SmallPasses:
    """Passes of the small models on a CPU, run in rounds: a machine is not as quick in one minute as in the next.

    Rounds stand between those of single kernels, so that what both are compared by was measured in the same minutes.
    """

    def __init__(self, device: torch.device, dtype: ComputeDtype) -> None:
        self._device = device
        self._cases = [
            case
            for number, arch in enumerate(small_models(WIDE))
            for case in _cases(number, arch, SIZES, device, dtype)
        ]

    def round(self, seconds: float, progress: Callable[[int, int], None]) -> None:
        """Run every size of every model once more, within about `seconds`."""
        from llmprof.measure.module_time import module_seconds

        share = seconds / len(self._cases) / 2
        for done, case in enumerate(self._cases):
            session = case.session()
            case.taken.append(_pass_seconds(session, self._device, share))
            case.clocked.append(module_seconds(session, self._device, passes=PASSES, seconds=share))
            progress(done + 1, len(self._cases))

    def in_pass(self, model: EagerModel) -> InPass:
        """What leaves take beside kernels of `model`: fitted to the middle of the rounds."""
        ran = []
        for case in self._cases:
            middle = {path: median(each[path] for each in case.clocked) for path in case.clocked[0]}
            leaves = tuple(leaf_times(case.prediction, model, middle))
            ran.append(PassTimes(model=case.model, leaves=leaves, taken=median(case.taken)))
        return judged(ran)


def leaf_times(prediction: Prediction, model: EagerModel, clocked: Mapping[str, float]) -> Iterator[LeafTime]:
    """Every leaf of a pass, with what its kernels take alone."""
    for leaf in leaves_of(prediction):
        alone = sum(times * model.of(work)[0].seconds(work) for work, times in leaf.launches)
        for path in leaf.paths:
            yield LeafTime(kind=leaf.kind, kernels=leaf.kernels, alone=alone, taken=clocked[path])


def judged(ran: Sequence[PassTimes]) -> InPass:
    """What leaves take, with the errors of each model's passes when nothing was fitted to them."""
    ratios = []
    for held in dict.fromkeys(each.model for each in ran):
        made = fitted([each for each in ran if each.model != held])
        ratios += [log(each.taken / _predicted(each, made)) for each in ran if each.model == held]
    outside = (1 - COVERED) / 2
    return InPass(
        leaves=fitted(ran),
        low=min(1.0, exp(quantile(ratios, outside))),
        high=max(1.0, exp(quantile(ratios, 1 - outside))),
        passes=len(ratios),
        error=median(abs(exp(-ratio) - 1) for ratio in ratios),
    )


def fitted(ran: Sequence[PassTimes]) -> dict[LeafKind, Surroundings]:
    """Least squares of relative errors, none below 0: first of leaves by kind, then of whole passes.

    A pass takes longer than its leaves: it calls what holds them, and gives memory back between them.
    """
    by_kind: dict[LeafKind, list[LeafTime]] = {}
    for leaf in (leaf for each in ran for leaf in each.leaves):
        by_kind.setdefault(leaf.kind, []).append(leaf)
    alone: dict[LeafKind, Surroundings] = {}
    for kind, leaves in by_kind.items():
        several = len({leaf.kernels for leaf in leaves}) > 1  # else a module and its kernels cannot be told apart
        rows = [(1.0, float(leaf.kernels) if several else 0.0, leaf.alone) for leaf in leaves]
        module_s, kernel_s, factor = _least(rows, [leaf.taken for leaf in leaves])
        alone[kind] = Surroundings(module_s=module_s, kernel_s=kernel_s, factor=factor)
    passes = [(float(len(each.leaves)), _predicted(each, alone)) for each in ran]
    between, slower = _least(passes, [each.taken for each in ran])
    return {
        kind: Surroundings(
            module_s=between + slower * leaf.module_s, kernel_s=slower * leaf.kernel_s, factor=slower * leaf.factor
        )
        for kind, leaf in alone.items()
    }


def _predicted(ran: PassTimes, leaves: Mapping[LeafKind, Surroundings]) -> float:
    return sum(leaves.get(leaf.kind, leaves["mover"]).seconds(leaf.kernels, leaf.alone) for leaf in ran.leaves)


def _least(rows: Sequence[tuple[float, ...]], taken: Sequence[float]) -> tuple[float, ...]:
    import numpy as np
    from scipy.optimize import nnls

    weights = 1 / np.array(taken)
    found, _ = nnls(np.array(rows) * weights[:, None], np.ones(len(rows)))
    return tuple(float(value) for value in found)


# --- what a host takes to start a kernel -----------------------------------------------------------


def start_seconds(device: torch.device, dtype: ComputeDtype, progress: Callable[[int, int], None]) -> float:
    """What the host takes for one kernel of a decode step where kernels are so small that it is what takes time."""
    cases = [
        case for number, arch in enumerate(small_models(NARROW)) for case in _cases(number, arch, STEP, device, dtype)
    ]
    found: list[float] = []
    for case in cases:
        launches = sum(line.count for line in case.prediction.ops)
        found.append(_pass_seconds(case.session(), device, STARTS_S) / launches)
        progress(len(found), len(cases))
    return median(found)


# --- running ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One size of the model number `model`: what is predicted of it, and of every round its passes and its leaves."""

    model: int
    twin: Twin
    workload: Workload
    execution: Execution
    prediction: Prediction
    taken: list[float] = field(default_factory=list)
    clocked: list[Mapping[str, float]] = field(default_factory=list)

    def session(self) -> Session:
        """Its inputs and caches, made anew."""
        from llmprof.twin.session import Session

        return Session(self.twin, self.workload, self.execution)


def _cases(
    number: int, arch: ArchSpec, sizes: Sequence[tuple[int, int, int]], device: torch.device, dtype: ComputeDtype
) -> Iterator[_Case]:
    """Every size of a model, fused and unfused, all with the same weights."""
    from llmprof.twin.build import build

    dtypes = Dtypes(weights=dtype, activations=dtype, kv_cache=dtype)
    twin = build(arch, dtypes=dtypes, device=device)
    for batch, new, context in sizes:
        phase: Literal["prefill", "decode"] = "decode" if new == 1 else "prefill"
        workload = Workload(phase=phase, batch=batch, new_tokens=new, context=context, dtypes=dtypes)
        for attention in ATTENTIONS:
            execution = Execution(attention=attention, kernels=kernels_of(device))
            prediction = predict(arch, workload, execution)
            yield _Case(model=number, twin=twin, workload=workload, execution=execution, prediction=prediction)


def _pass_seconds(session: Session, device: torch.device, seconds: float) -> float:
    from llmprof.measure.calibration.clock import undisturbed
    from llmprof.measure.time import clock_for

    clock = clock_for(device)
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) <= PASSES or time.perf_counter() - began < seconds:
        session.restore()
        taken.append(clock.sample(session.run) / 1e9)
    return undisturbed(taken[1:])  # the first one warms up
