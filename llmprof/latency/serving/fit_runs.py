"""The constant of each deployment in a table of served points: one per engine, version and device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from llmprof.errors import InputError, LlmprofError
from llmprof.latency.local import NOTHING, Local
from llmprof.latency.serving.asked import Desk, Room
from llmprof.latency.serving.fit import Fitted, Point, fit_step
from llmprof.latency.serving.rows import Runs
from llmprof.latency.serving.serve import Demanded


@dataclass(frozen=True, slots=True, order=True)
class Host:
    """What has a constant of its own: an engine of some version on some device, by the names of the table."""

    backend: str
    version: str
    system: str


def fit_runs(runs: Runs, room: Room | None = None, local: Local = NOTHING) -> Mapping[Host, Fitted]:
    """One constant for each host in `runs`, of its rows that have a measured TPOT.

    Rows of several models and layouts share the constant of their host. InputError where a row is wrong or cannot be
    predicted, with its line, and where none has a measured TPOT.
    """
    desk = Desk(room, replace(local, hosts=()))  # what a host adds is what is looked for
    for line, problem in runs.problems.items():
        raise InputError(f"line {line}: {problem}")
    points: dict[Host, list[Point]] = {}
    stacks = {}
    for line, row in runs.rows.items():
        if row.tpot_ms is None:
            continue
        try:
            asked = desk.asked(row)
            lanes = asked.replicas * row.layout.pipeline
            demand = Demanded(
                prompt_tokens=row.prompt_tokens,
                output_tokens=row.output_tokens,
                concurrency=max(1, -(-row.concurrency // lanes)),
            )
            point = Point(steps=asked.steps, asked=demand, slots=asked.slots, tpot_seconds=row.tpot_ms / 1e3)
        except LlmprofError as error:
            raise InputError(f"line {line}: {error}") from error
        host = Host(row.backend, row.version, row.system)
        points.setdefault(host, []).append(point)
        stacks[host] = asked.stack
    if not points:
        raise InputError("no row has a measured time per token (silicon_tpot_ms): nothing to fit a constant to")
    return {host: fit_step(stacks[host], found) for host, found in points.items()}
