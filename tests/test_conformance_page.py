"""docs/conformance.md is what `llmprof verify` prints today.

What needs no torch is held for every architecture. The witnesses are asked again for the smallest model of each family; for
all of them with LLMPROF_EVERY=1, which takes minutes, or by the command itself:

    llmprof verify --format markdown --output docs/conformance.md
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmprof import catalog
from llmprof.conformance import configs
from llmprof.conformance.known import BY_KEY
from llmprof.conformance.rows import Result
from llmprof.conformance.verify import Subject, on_paper, verify
from llmprof.predict.parameters import parameters
from llmprof.report.verify_tables import COLUMNS, ON_PAPER, OTHERS, summary_row
from llmprof.spec.arch import Mamba1, RgLru, Rwkv4
from tests.importing import EVERYTHING

PAGE = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"
AGAIN = "run llmprof verify --format markdown --output docs/conformance.md"
MODELS = [entry for entry in catalog.entries() if entry.path.parent.parent.name == "models"]
LARGEST = 1_500_000_000
"""Families whose smallest model is larger are left to the command."""


def page_rows() -> dict[str, tuple[str, ...]]:
    """The table of the page, by model."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        if len(cells) == len(COLUMNS) and not set(line) <= set("|-: ") and cells != COLUMNS:
            found[cells[0]] = tuple(cell.replace("\\", "") for cell in cells)
    return found


ROWS = page_rows()


def subject(entry: catalog.Entry) -> Subject:
    path = configs.carried(entry.name)
    return Subject(arch=entry.load().arch(), config=None if path is None else configs.read(path))


def smallest() -> list[catalog.Entry]:
    """The smallest model of each family, where no scan runs token by token."""
    sizes: dict[str, tuple[int, catalog.Entry]] = {}
    for entry in MODELS:
        arch = entry.load().arch()
        total = parameters(arch).total
        if any(isinstance(layer.attention, Mamba1 | RgLru | Rwkv4) for layer in arch.main.layers) or total > LARGEST:
            continue
        if entry.family not in sizes or total < sizes[entry.family][0]:
            sizes[entry.family] = (total, entry)
    return [entry for _, entry in sizes.values()]


ASKED = MODELS if EVERYTHING else smallest()


def test_the_page_has_every_model_and_no_other() -> None:
    assert list(ROWS) == [entry.name for entry in MODELS], AGAIN


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)
def test_figures_published_totals_and_configs_are_those_of_today(entry: catalog.Entry) -> None:
    asked = subject(entry)
    result = Result(arch=asked.arch)
    on_paper(asked, result)
    assert summary_row(result)[:ON_PAPER] == ROWS[entry.name][:ON_PAPER], AGAIN


def test_no_witness_of_the_page_differs() -> None:
    for row in ROWS.values():
        assert row[COLUMNS.index("twin")].startswith("agrees ("), row
        assert row[COLUMNS.index("transformers")].startswith(("agrees", "explained: ", "-")), row
        assert "DIFFERS" not in " ".join(row)
    held = sum(row[COLUMNS.index("transformers")] != "-" for row in ROWS.values())
    assert held > 240, "most of the catalogue has a config, and a class of transformers"


def test_every_explanation_of_the_table_stands_below_it_with_its_evidence() -> None:
    used = {
        key
        for row in ROWS.values()
        for cell in row
        for key in re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)+", cell.partition("explained: ")[2])
    }
    below = PAGE.read_text(encoding="utf-8").partition("## Explained differences")[2]
    assert used
    assert used <= {*BY_KEY, *OTHERS}
    for key in used:
        line = next(line for line in below.splitlines() if line.startswith(f"| {key} |"))
        assert ".py" in line


@pytest.mark.parametrize("entry", ASKED, ids=lambda entry: entry.name)
def test_the_witnesses_say_what_the_page_says(entry: catalog.Entry) -> None:
    asked = subject(entry)
    result = Result(arch=asked.arch)
    verify(asked, result, lambda text: None)
    assert summary_row(result) == ROWS[entry.name], AGAIN


def test_families_of_every_structure_are_asked_again() -> None:
    assert len(smallest()) >= 15
    assert {entry.load().base.structure for entry in smallest()} >= {"causal-decoder", "encoder", "encoder-decoder"}
