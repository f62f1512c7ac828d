"""Predict the runs of a table, row by row. No measured time has a part in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmprof.errors import LlmprofError
from llmprof.latency.local import NOTHING, Local
from llmprof.latency.serving.asked import Desk, Room
from llmprof.latency.serving.rows import Row, Runs
from llmprof.latency.serving.serve import estimated, run_of
from llmprof.latency.serving.variants import Interval


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


def predict(runs: Runs, room: Room | None = None, local: Local = NOTHING) -> Verified:
    """Every row that can be predicted; the others with their reasons. Without `room`, all sequences fit."""
    desk = Desk(room, local)
    predicted, problems = {}, dict(runs.problems)
    for line, row in runs.rows.items():
        try:
            predicted[line] = _predict(row, desk)
        except LlmprofError as error:
            problems[line] = str(error)
    return Verified(runs=runs, predicted=predicted, problems=problems)


def _predict(row: Row, desk: Desk) -> Predicted:
    asked = desk.asked(row)
    run, _ = run_of(asked.steps, asked.stack, asked.demand, replicas=asked.replicas, slots=asked.slots)
    own = run.own()
    ttft = Interval(value=own.mean_ttft, low=own.mean_ttft, high=own.mean_ttft)  # a table has no place for its range
    estimate = estimated(run, own, replicas=asked.replicas, ttft=ttft)
    return Predicted(
        row=row,
        ttft_ms=estimate.ttft.value * 1e3,
        tpot_ms=estimate.tpot.value * 1e3,
        low_tpot_ms=estimate.tpot.low * 1e3,
        high_tpot_ms=estimate.tpot.high * 1e3,
        basis=estimate.label,
        dense=asked.dense,
    )
