"""`llmprof profile`: which passes go into one result, and how all that was planned is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from llmprof.cli.messages import progress, say

if TYPE_CHECKING:
    from llmprof.profiling import Request, Result
    from llmprof.workload import Workload

Q = TypeVar("Q", bound="Request")
R = TypeVar("R", bound="Result")


def group_workloads(workloads: list[Workload]) -> list[tuple[Workload, ...]]:
    """The workloads of each result: one pass per phase, so that a row's phase says which pass it belongs to.

    Passes of one batch, context and source go together; a second prefill of the same key starts a result of its own.
    """
    groups: dict[tuple[int, int, int], list[list[Workload]]] = {}
    for workload in workloads:
        members = groups.setdefault((workload.batch, workload.context, workload.source_tokens), [])
        home = next((g for g in members if all(w.phase != workload.phase for w in g)), None)
        if home is None:
            members.append([workload])
        else:
            home.append(workload)
    return [tuple(group) for members in groups.values() for group in members]


def run_all(planned: Sequence[tuple[Q | None, R]], run: Callable[[Q, R, Callable[[str], None]], None]) -> list[R]:
    """`run` what was planned and return the results that there are: all, or those up to an interruption.

    What can be refused is refused before the first one runs. A device that gives up later costs its own result alone.
    """
    from llmprof.errors import DeviceError
    from llmprof.profiling import preflight

    for request, _ in planned:
        if request is not None:
            preflight(request)
    results: list[R] = []
    for request, result in planned:
        results.append(result)
        if request is not None:
            try:
                run(request, result, progress)
            except DeviceError as error:
                result.notes.append(f"not finished: {error}")
                say(f"error: {error}")
        if result.interrupted:
            break
    return results
