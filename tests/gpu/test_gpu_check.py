"""A measured budget on a real GPU: its time and the allocator's peak are read and held against their limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmprof.check.evaluate import evaluate

pytestmark = pytest.mark.gpu

BUDGET = """\
budgets:
  - spec: gpt2
    phase: decode
    context: 64
    measured:
      {device: cuda, samples: 20, limits: {time_ms: '<= 60_000', peak_allocated_bytes: '<= 4 GiB'}}
"""


def test_a_real_run_on_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "budget.yaml").write_text(BUDGET, encoding="utf-8")
    report = evaluate([str(tmp_path / "budget.yaml")])
    assert [finding.status for finding in report.findings] == ["passed", "passed"], report.findings
