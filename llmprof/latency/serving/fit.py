"""One constant of a deployment from a few served points: what its host adds to each pass.

Three to five runs are enough where they differ in batch: everything else is the kernels' and the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite, log

from llmprof.errors import InputError
from llmprof.latency.serving.serve import Requests
from llmprof.latency.serving.simulate import Load, simulate
from llmprof.latency.serving.stacks import Stack
from llmprof.latency.serving.steps import Steps

LONGEST = 0.1
"""No host adds more seconds than this to a pass."""
HALVINGS = 24
WAVES = 4
GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One served run: who times its passes, what was asked in a closed loop, and the mean seconds per token after the
    first. The requests are those of one copy of the attention, started for `slots` (by default as many)."""

    steps: Steps
    asked: Requests
    tpot_seconds: float
    slots: int | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.tpot_seconds) and self.tpot_seconds > 0):
            raise InputError(f"a served point has a TPOT of {self.tpot_seconds} s; it must be a positive number")
        if self.asked.output_tokens < 2:
            raise InputError("a served point needs at least 2 output tokens: TPOT is of those after the first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The engine with its own constant, and how far its points are from it: |ratio - 1|, the mean and the largest."""

    stack: Stack
    points: int
    mean_error: float
    largest_error: float


def fit_step(stack: Stack, points: Sequence[Point]) -> Fitted:
    """`stack` with the seconds per pass that bring the predicted TPOTs of `points` closest, by the mean of |log ratio|.

    InputError without any point.
    """
    if not points:
        raise InputError("a constant of a deployment needs at least one served point; 3 to 5 are better")

    def miss(seconds: float) -> float:
        return sum(abs(ratio) for ratio in _ratios(stack, seconds, points)) / len(points)

    # A longer pass never makes a token come sooner, so that each |log ratio| falls and then rises: so does their sum
    # but for small steps of the simulation, between which a golden section finds its way.
    low, high = 0.0, LONGEST
    for _ in range(HALVINGS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if miss(left) <= miss(right) else (left, high)
    seconds = (low + high) / 2
    errors = [abs(exp(ratio) - 1) for ratio in _ratios(stack, seconds, points)]
    basis = f"fitted to {len(points)} served points of this deployment"
    return Fitted(
        stack=stack.with_step(seconds, basis),
        points=len(points),
        mean_error=sum(errors) / len(errors),
        largest_error=max(errors),
    )


def _ratios(stack: Stack, seconds: float, points: Sequence[Point]) -> list[float]:
    """log(predicted / measured) of each point, at that many seconds per pass."""
    host = replace(stack.host, step_seconds=seconds)
    found = []
    for point in points:
        asked = point.asked
        load = Load(
            prompt_tokens=asked.prompt_tokens,
            output_tokens=asked.output_tokens,
            requests=WAVES * asked.concurrency,
            concurrency=asked.concurrency,
        )
        slots = stack.scheduler.slots(point.slots or asked.concurrency)
        served = simulate(load, scheduler=stack.scheduler, host=host, slots=slots, step=point.steps.seconds())
        found.append(log(served.mean_tpot / point.tpot_seconds))
    return found
