"""Runs of servers that others published, held against what is predicted of them: docs/latency.md says where each is from.

No kernel's constant was fitted to them. What an engine's own code adds was decided with these in sight.
"""

from __future__ import annotations

from pathlib import Path

from llmprof.latency.serving import accuracy, rows, verify
from llmprof.planning.served_room import room_of

RUNS = Path(__file__).parents[1] / "data" / "served_runs.csv"


def test_published_runs_are_near_their_predictions() -> None:
    runs = rows.read(str(RUNS))
    found = verify.predict(runs, room_of)
    assert not found.problems
    tpot = accuracy.errors_of_tpot(found.predicted.values())
    assert tpot is not None
    assert tpot.rows == len(runs.lines) >= 20
    assert tpot.mean < 13
    assert tpot.median < 12
    assert tpot.inside is not None
    assert tpot.inside >= 0.9
    engines = {row.backend for row in runs.rows.values()}
    assert engines == {"vllm", "sglang", "trtllm"}
