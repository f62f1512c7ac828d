"""What docs/traffic.md shows of the records of a GPU: prediction against counters, generated from docs/measurements.

`python -m tests.documentation` puts it there; `test_traffic_page.py` checks that the page has what the records say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmprof.measure.gpu_plan import COUNTED
from llmprof.profiling.bands import band
from llmprof.profiling.counter_rows import QUANTITIES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "traffic.md"
RECORDS = ROOT / "docs" / "measurements"
SECTION = re.compile(r"(?<=<!-- counters: generated -->\n).*?(?=<!-- end of counters -->)", re.DOTALL)
PASSES = tuple((phase, attention) for phase in ("prefill", "decode") for attention in ("fused", "unfused"))
SHOWN = ("model", "pass", "caches", "module", "quantity", "predicted", "measured", "ratio", "verdict")


def records(folder: Path = RECORDS) -> dict[str, dict[str, Any]]:
    """Every record of a GPU by the name of its file."""
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def section(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The section of these records; without one, what none has confirmed."""
    blocks = [_record(name, record) for name, record in found.items()]
    waiting = "\n".join(_waiting())
    if not any(rows(record) for record in found.values()):
        text = (
            "**No GPU has confirmed a row yet.** These wait for one, of the smallest slice of each model:\n\n" + waiting
        )
        return "\n\n".join([text, *blocks]) + "\n"
    return "\n\n".join(blocks) + "\n"


def refresh() -> None:
    """Write the section of today's records into the page."""
    made = section(records())
    PAGE.write_text(SECTION.sub(lambda _: made, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of counters in a record that were measured, each with the name of its model."""
    return [
        {"model": result["name"], **row}
        for part in record.get("parts", ())
        for result in _results(part)
        for row in result.get("counters", {}).get("rows", ())
        if row["measured"] is not None
    ]


def _results(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    result = part.get("result")
    return list(result.get("results", ())) if isinstance(result, dict) else []


def _record(name: str, record: Mapping[str, Any]) -> str:
    environment = record.get("environment") or {}
    gpu = (environment.get("gpu") or {}).get("name", "an unknown GPU")
    title = f"**{gpu}**, {environment.get('date', 'at an unknown time')}: [{name}](measurements/{name})"
    shown = [row for row in rows(record) if not row["path"] or row["path"].endswith(".core")]
    if not shown:
        return f"{title}. No counter was read."
    return "\n".join([f"{title}.", "", *_table(SHOWN, [_cells(row) for row in shown])])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    predicted = "-" if row["predicted"] is None else f"{row['predicted']:,}"
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
    verdict = row["verdict"] or f"none: {row['note']}"
    return (
        row["model"],
        f"{row['phase']}, {row['attention']}",
        row["caches"],
        row["path"] or "the whole pass",
        row["quantity"],
        predicted,
        f"{row['measured']:,}",
        ratio,
        verdict,
    )


def _waiting() -> Iterator[str]:
    """The rows that a session would fill: the same quantities of every model."""
    models = ", ".join(f"`{model}`" for model in COUNTED)
    lines = []
    for quantity in QUANTITIES:
        lines.append((f"`{quantity}`", *(_band(quantity, *each) for each in PASSES)))
    heads = ("quantity", *(f"{phase}, {attention}" for phase, attention in PASSES))
    yield from _table(heads, lines)
    yield ""
    yield f"Of each of {models}; shared memory and executed FLOPs are those of fused cores. A percentage is the band of the row."


def _band(quantity: str, phase: str, attention: str) -> str:
    if attention == "unfused" and quantity in ("smem_bytes", "matmul_flops_executed"):
        return "-"
    share = band(quantity, phase, attention).share
    return "no verdict" if share is None else f"{share:.0%}"


def _table(heads: tuple[str, ...], lines: list[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for line in lines:
        yield "| " + " | ".join(line) + " |"
