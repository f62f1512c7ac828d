"""docs/traffic.md: its figures are those of the prediction, its lists are whole, and records of a GPU are shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmprof.claims.specs import shipped
from llmprof.measure.gpu_experiments.catalogue import EXPERIMENTS
from llmprof.predict.api import Prediction, predict
from llmprof.workload import UNFUSED_REFERENCES, Execution, Phase, Workload
from tests.counter_records import PAGE, ROOT, SECTION, records, section

TEXT = PAGE.read_text(encoding="utf-8")
CORE = "layers.0.attn.core"


def passed(phase: Phase, execution: Execution) -> Prediction:
    new = 4096 if phase == "prefill" else 1
    return predict(shipped("llama-3-8b"), Workload(phase=phase, batch=1, new_tokens=new, context=4096), execution)


CORES: dict[str, Execution] = {
    **{name: Execution(attention="unfused", reference=name) for name in UNFUSED_REFERENCES},
    "fused": Execution(attention="fused"),
}
PHASES: tuple[Phase, ...] = ("prefill", "decode")


@pytest.mark.parametrize("name", CORES)
def test_the_table_of_references(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \| ([\d,]+) \| (\d+) \| ([\d,]+) \| (\d+) \|", TEXT, re.MULTILINE)
    expected = []
    for phase in PHASES:
        made = passed(phase, CORES[name])
        kernels = sum(op.times for op in made.program.groups[0].ops if op.path == "attn.core")
        expected += [f"{made.ledger.at(CORE, 'hbm_bytes'):,}", str(kernels)]
    assert list(row) == expected


def test_what_the_grouping_saves() -> None:
    eager = passed("prefill", Execution(attention="fused")).cost.hbm_bytes
    grouped = passed("prefill", Execution(attention="fused", grouping="compiled")).cost.hbm_bytes
    assert f"{grouped:,} bytes in place of {eager:,}" in TEXT


def test_every_experiment_is_an_open_question() -> None:
    questions = set(re.findall(r"^\| `([a-z0-9-]+)` \|", TEXT.split("## 6.")[1].split("## 7.")[0], re.MULTILINE))
    assert questions == {*(experiment.name for experiment in EXPERIMENTS), "gpm-copy"}


def test_every_witness_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", TEXT)
    assert len(named) >= 6
    assert [path for path in named if not (ROOT / path).is_file()] == []


# --- records ----------------------------------------------------------------------------------------


def test_the_page_shows_what_the_records_say() -> None:
    (shown,) = SECTION.findall(TEXT)
    assert shown == section(records()), "run python -m tests.documentation"


def test_without_a_record_nothing_is_confirmed() -> None:
    shown = section({})
    assert "No GPU has confirmed a row yet." in shown
    assert "| `dram_bytes` | 10% | 5% | 5% | 5% |" in shown
    assert "`llama-3-8b --layers 2 --context 4096`" in shown


ROW = {
    "path": "",
    "quantity": "dram_bytes",
    "phase": "decode",
    "attention": "fused",
    "caches": "cold",
    "tier": "ncu",
    "predicted": 2_000_000,
    "measured": 2_050_000,
    "band": 0.05,
    "verdict": "AGREES",
    "note": "",
    "kernels": [],
    "ratio": 1.025,
}


def recorded(*rows: dict[str, Any]) -> dict[str, Any]:
    """A record as a session writes it, synthetic."""
    result = {"results": [{"name": "gpt2", "counters": {"outcome": "measured", "notes": [], "rows": list(rows)}}]}
    environment = {"date": "2026-11-30T12:00:00+00:00", "gpu": {"name": "NVIDIA Synthetic"}}
    return {"environment": environment, "parts": [{"name": "tests", "result": {"passed": 3}}, {"result": result}]}


def test_a_record_is_shown_row_by_row(tmp_path: Path) -> None:
    core = {**ROW, "path": CORE, "quantity": "l2_to_sm_bytes", "verdict": None, "note": "other clients", "ratio": 1.5}
    unseen = {**ROW, "path": CORE, "measured": None}
    inner = {**ROW, "path": "layers.0.ffn.up"}
    (tmp_path / "gpu.json").write_text(json.dumps(recorded(ROW, core, unseen, inner)), encoding="utf-8")
    shown = section(records(tmp_path))
    assert "No GPU" not in shown
    assert "**NVIDIA Synthetic**, 2026-11-30T12:00:00+00:00: [gpu.json](measurements/gpu.json)." in shown
    lines = [line for line in shown.splitlines() if line.startswith("| gpt2")]
    assert lines == [
        "| gpt2 | decode, fused | cold | the whole pass | dram_bytes | 2,000,000 | 2,050,000 | 1.025 | AGREES |",
        f"| gpt2 | decode, fused | cold | {CORE} | l2_to_sm_bytes | 2,000,000 | 2,050,000 | 1.500 | none: other clients |",
    ]


def test_a_record_without_counters_confirms_nothing(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(json.dumps({"environment": None, "parts": []}), encoding="utf-8")
    shown = section(records(tmp_path))
    assert "No GPU has confirmed a row yet." in shown
    assert "**an unknown GPU**, at an unknown time: [gpu.json](measurements/gpu.json). No counter was read." in shown
