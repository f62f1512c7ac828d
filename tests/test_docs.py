"""The documentation is executed: every ```console block is run, and its output must be what is printed there.

A line of three dots in a block stands for any lines. A block behind ``<!-- not run: reason -->`` is left out, and a test
counts those, so that they stay the exception.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.documentation import (
    CATALOGUE,
    CLAIMS,
    CLAIMS_COMMAND,
    REFERENCE,
    ROOT,
    Example,
    catalogue,
    examples,
    matches,
    pages,
    reference,
    run,
)

EXAMPLES = [example for page in pages() for example in examples(page)]
RUNNABLE = [example for example in EXAMPLES if example.skipped is None]


@pytest.mark.parametrize("example", RUNNABLE, ids=lambda e: f"{e.page}:{e.line}:{e.command[:40]}")
def test_a_documented_command_prints_what_the_page_says(example: Example) -> None:
    printed = run(example.command)
    assert matches(example.output, printed), f"\n--- printed, `python -m tests.documentation` writes it:\n{printed}"


def test_the_command_line_reference_is_what_help_prints() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run python -m tests.documentation"


def test_the_page_of_claims_is_what_the_command_prints() -> None:
    assert CLAIMS.read_text(encoding="utf-8") == run(CLAIMS_COMMAND), "run python -m tests.documentation"


def test_the_page_of_the_catalogue_is_what_the_command_prints() -> None:
    assert CATALOGUE.read_text(encoding="utf-8") == catalogue(), "run python -m tests.documentation"


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    assert len(RUNNABLE) >= 5
    skipped = [e for e in EXAMPLES if e.skipped is not None]
    assert len(skipped) <= 4
    assert all(e.skipped and len(e.skipped.split()) >= 2 for e in skipped)


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\n", "a\n", True),
        ("a\nb\n", "a\nc\n", False),
        ("a\n...\nd\n", "a\nb\n", False),
        ("a.b\n", "axb\n", False),
    ],
)
def test_the_comparison_can_fail(expected: str, found: str, same: bool) -> None:
    assert matches(expected, found) is same


def test_no_page_or_source_names_a_place_of_one_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    pattern = re.compile(r"(?:^|[\s\"'(=])/(?:root|work|home/[a-z]+)/")
    bad = [
        name
        for name in tracked
        if (ROOT / name).is_file() and pattern.search((ROOT / name).read_text(encoding="utf-8", errors="replace"))
    ]
    assert bad == []
