"""What the hosts of deployments add to a pass, out of a few served runs: with the kernels that were measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmprof.latency.local import Local
from llmprof.latency.served_profile import HostConstant
from llmprof.latency.serving.asked import system
from llmprof.latency.serving.fit_runs import fit_runs
from llmprof.planning.served_room import room_of

if TYPE_CHECKING:
    from llmprof.latency.serving.rows import Runs


def fit_hosts(runs: Runs, local: Local) -> tuple[HostConstant, ...]:
    """One constant for each engine, version and device in `runs`. InputError for a row that is wrong, with its line."""
    found = fit_runs(runs, room_of, local)
    return tuple(
        HostConstant(
            engine=each.stack.engine,
            version=host.version,
            device=system(host.system).name,
            step_s=each.stack.host.step_seconds,
            points=each.points,
            mean_error=each.mean_error,
            largest_error=each.largest_error,
        )
        for host, each in found.items()
    )
