"""Whatever is given to the loader, it answers with a spec or with a SpecError, and soon."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.errors import InputError, Problem, SpecError
from llmprof.spec.emit import emit
from llmprof.spec.load import load_file, load_text
from llmprof.spec.nodes import plain
from llmprof.spec.source import decode
from llmprof.spec.yamlload import parse
from tests.stopwatch import cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "spec-language.md").read_text(encoding="utf-8")
SAMPLE, PATTERN = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[:2]
GROUPED = SAMPLE.split("position:")[0] + PATTERN
SHIPPED = [entry.path.read_text(encoding="utf-8") for entry in catalog.entries()[::7]]
BASES = st.sampled_from([SAMPLE, GROUPED, *SHIPPED])
PIECES = st.sampled_from(
    ["null", "~", "true", "-1", "0", "1e400", ".nan", "9" * 99, "[]", "{}", "[", "]", "{", "}", ":", ": ", "\n", "\n  ", ",",
     "&a ", "*a", "!!str ", "<<: *a\n", '"', "'", "- ", "? ", "|", ">", "%", "---\n", "...\n", "\t", "\0", "\ufeff", "é", "\u2028",
     "none", "learned", "rope", "kind: t5-bias", "gqa", "encoder", "decoder:", "count: 3", "pattern: [a]", "window: 3",
     "variants:\n  x: {layers.norm: null}\n", "position: {kind: learned, rows: 2}\n", "2026-11-23", "d_model: 3\n"]
)  # fmt: skip
JARGON = re.compile(
    r"[Ii]nput should|[Ff]ield required|discriminator|keyword argument|pydantic|the spec language allows here"
)
SECONDS = 5.0

fuzz = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def answered(text: str) -> None:
    begin = time.process_time()
    problems = refusal(text)
    assert time.process_time() - begin < SECONDS
    if problems is None:
        return
    assert problems
    # YAML ends lines at more characters than Python's own reading of a file does.
    lines = len(re.findall("\r\n|[\n\r\x85\u2028\u2029]", text)) + 2
    for problem in problems:
        assert problem.file == "<stdin>"
        assert problem.found
        assert not JARGON.search(str(problem))
        assert problem.line is None or 1 <= problem.line <= lines


def refusal(text: str) -> tuple[Problem, ...] | None:
    """What is wrong with a text, or None where it is a spec. Anything but a SpecError is a failure of the test."""
    try:
        load_text(text)
    except SpecError as error:
        return error.problems
    return None


@fuzz
@given(st.text())
def test_any_text(text: str) -> None:
    answered(text)


@fuzz
@given(st.text(st.characters(codec=None, categories=None), max_size=200))
def test_any_text_with_surrogates_and_controls(text: str) -> None:
    answered(text)


@fuzz
@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    try:
        text = decode(data, "<stdin>")
    except SpecError:
        return
    answered(text)


@fuzz
@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_pile_of_yaml(text: str) -> None:
    answered(text)


@fuzz
@given(
    BASES,
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES | st.text(max_size=5)), min_size=1, max_size=4),
)
def test_specs_with_pieces_replaced(text: str, edits: list[tuple[float, int, str]]) -> None:
    for place, length, piece in edits:
        start = int(place * len(text))
        text = text[:start] + piece + text[start + length :]
    answered(text)


WORD = re.compile(r"[\w.\-/]+")


@fuzz
@given(
    BASES,
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), PIECES | st.floats(0, 1, exclude_max=True)), min_size=1, max_size=4
    ),
)
def test_specs_with_words_swapped(text: str, edits: list[tuple[float, str | float]]) -> None:
    for place, other in edits:
        words = list(WORD.finditer(text))
        if not words:
            break
        old = words[int(place * len(words))]
        new = other if isinstance(other, str) else words[int(other * len(words))].group()
        text = text[: old.start()] + new + text[old.end() :]
    answered(text)


@fuzz
@given(
    BASES,
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.booleans()), min_size=1, max_size=5),
)
def test_specs_with_lines_moved(text: str, edits: list[tuple[float, float, bool]]) -> None:
    lines = text.split("\n")
    for source, target, keep in edits:
        if lines:
            index = int(source * len(lines))
            line = lines[index] if keep else lines.pop(index)
            lines.insert(int(target * len(lines)), line)
    answered("\n".join(lines))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc_", min_size=1, max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abc_", min_size=1, max_size=4), VALUES, min_size=1, max_size=5))
def test_both_parsers_read_the_same(document: dict[str, object]) -> None:
    text = emit(document)
    fast, pure = parse(text, file="f"), parse(text, file="f", pure=True)
    assert plain(fast) == plain(pure) == document
    assert fast.keys == pure.keys


@fuzz
@given(st.text(st.characters(codec=None, categories=None), max_size=80))
def test_any_reference(ref: str) -> None:
    if ref.startswith("-:") or ref == "-":
        return
    with contextlib.suppress(InputError):
        catalog.find(ref)


@pytest.mark.parametrize(
    "text",
    ["[" * 500_000, "{a: " * 200_000, "- " * 400_000, "? " * 400_000, '"' * 1_000_000, "a: |\n" + " x\n" * 300_000,
     "\n" * 1_000_000, "#" * 1_000_000, "a: 1\n" * 200_000, "!" * 1_000_000, "&a " * 300_000, "%" * 1_000_000,
     "a: " + "9" * 1_000_000, "k" * 1_000_000 + ": 1", SAMPLE + "".join(f"k{i}: 1\n" for i in range(9_000)),
     SAMPLE.replace("count: 80", "count: 99999\n  pattern: [" + "a," * 15_000 + "b]\n  a: {}"),
     SAMPLE.replace("n_heads: 64", "n_heads: 64, " + ", ".join(f"z{i}: 1" for i in range(9_000))),
     SAMPLE.replace("variants:", "variants:\n" + "".join(f"  v{i}: {{d_model: x}}\n" for i in range(4_000)))],
    ids=range(18),
)  # fmt: skip
def test_hostile_texts_are_answered_soon(text: str) -> None:
    answered(text)


def test_a_file_of_ten_megabytes_is_answered_at_once(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("a: 1\n" * 2_000_000)

    def refused() -> None:
        with pytest.raises(SpecError, match="more than 1 MiB"):
            load_file(path)

    assert cpu_seconds(refused) < 0.5
