"""Budget files: sets, matrices and paths, and for whatever is wrong the line, the place and what to write."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from budget_samples import HEAD, Corner
from spec_samples import ENCODER, PAIR, PREFIX

from llmprof.check.budgets import load, load_text
from llmprof.check.settings import Question
from llmprof.errors import InputError, SpecError
from llmprof.workload import Dtypes
from tests.stopwatch import cpu_seconds


@pytest.fixture
def corner(tmp_path: Path) -> Corner:
    return Corner(tmp_path)


def cases(corner: Corner, text: str) -> list[dict[str, str]]:
    """The settings of every combination."""
    (file,) = load([corner.budget(text)])
    return [{"spec": case.subject.ref, **case.settings} for case in file.cases]


LIMITS = "limits: {params_total: '<= 1_000_000'}"


def entry(text: str) -> str:
    return f"budgets:\n  - {{spec: small.yaml, {LIMITS}, {text}}}\n"


# --- what is asked ----------------------------------------------------------------------------


def test_defaults_are_those_of_count(corner: Corner) -> None:
    (file,) = load([corner.budget(entry("phase: [prefill, decode]"))])
    prefill, decode = (case.workload for case in file.cases)
    assert (prefill.batch, prefill.context, prefill.new_tokens) == (1, 128, 128)  # the model's own longest context
    assert (decode.batch, decode.context, decode.new_tokens) == (1, 128, 1)
    assert prefill.dtypes == decode.dtypes == Dtypes()
    assert prefill.logits == "all"


def test_every_key_reaches_the_workload(corner: Corner) -> None:
    text = entry(
        "phase: prefill, batch: 2, context: 1Ki, new_tokens: 5_1_2, logits: last, dtype: fp16, weight_dtype: int4, "
        "kv_dtype: fp8, group_size: 32"
    )
    (file,) = load([corner.budget(text)])
    (case,) = file.cases
    w = case.workload
    assert (w.phase, w.batch, w.context, w.new_tokens, w.logits) == ("prefill", 2, 1024, 512, "last")
    assert w.dtypes == Dtypes(weights="int4", activations="fp16", kv_cache="fp8", group_size=32)
    assert case.settings == {
        "phase": "prefill",
        "batch": "2",
        "context": "1024",
        "new_tokens": "512",
        "logits": "last",
        "dtype": "fp16",
        "weight_dtype": "int4",
        "kv_dtype": "fp8",
        "group_size": "32",
    }


def test_dtype_goes_for_weights_and_cache_where_they_say_nothing(corner: Corner) -> None:
    (file,) = load([corner.budget(entry("phase: decode, dtype: fp32"))])
    assert file.cases[0].workload.dtypes == Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")


def test_prefix_and_source_tokens(corner: Corner) -> None:
    corner.spec(PREFIX, "prefix.yaml")
    corner.spec(PAIR, "pair.yaml")
    text = f"""\
budgets:
  - {{spec: prefix.yaml, phase: prefill, context: 16, prefix_tokens: [0, 4], {LIMITS}}}
  - {{spec: pair.yaml, phase: prefill, context: 8, source_tokens: [2, 3], {LIMITS}}}
"""
    (file,) = load([corner.budget(text)])
    assert [(case.workload.prefix_tokens, case.workload.source_tokens) for case in file.cases] == [
        (0, 0),
        (4, 0),
        (0, 2),
        (0, 3),
    ]


def test_a_matrix_is_every_combination_in_the_order_of_the_language(corner: Corner) -> None:
    found = cases(corner, entry("phase: [decode, prefill], context: [8, 16], batch: [1, 2]"))
    assert [(each["phase"], each["batch"], each["context"]) for each in found] == [
        (phase, batch, context) for phase in ("decode", "prefill") for batch in "12" for context in ("8", "16")
    ]


def test_what_says_the_same_twice_is_checked_once(corner: Corner) -> None:
    assert len(cases(corner, entry("phase: [decode, decode], batch: [1, 1], context: [1Ki, 1024]"))) == 1
    # new_tokens are of prefill: the decode step is one combination, not two.
    assert len(cases(corner, entry("phase: [prefill, decode], context: 8, new_tokens: [2, 4]"))) == 3


def test_sets_build_on_each_other_and_entries_on_them(corner: Corner) -> None:
    text = f"""\
defaults:
  long: {{from: serving, context: [32, 64]}}
  serving: {{dtype: fp16, phase: decode, batch: 8, context: 16}}
budgets:
  - {{spec: small.yaml, use: long, batch: 2, {LIMITS}}}
"""
    assert cases(corner, text) == [
        {"spec": "small.yaml", "phase": "decode", "batch": "2", "context": context, "dtype": "fp16"}
        for context in ("32", "64")
    ]


def test_limits_may_be_shared_by_an_alias(corner: Corner) -> None:
    text = """\
budgets:
  - {spec: small.yaml, phase: decode, limits: &same {params_total: "<= 1"}}
  - {spec: small.yaml, phase: prefill, limits: *same}
"""
    assert [finding.bound.place.line for finding in corner.report(text).findings] == [2, 2]


# --- which specs ------------------------------------------------------------------------------


def test_paths_are_relative_to_the_budget_file(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    corner.spec((corner.directory / "small.yaml").read_text() + "variants: {one: {layers.count: 1}}\n", "deep/x.yaml")
    text = f"budgets: [{{spec: [../deep/x.yaml, '../deep/x.yaml:one', llama-2-7b], phase: decode, {LIMITS}}}]"
    path = corner.budget(text, "budgets/b.yaml")
    monkeypatch.chdir("/")
    (file,) = load([path])
    assert [case.subject.arch.label for case in file.cases] == ["small", "small:one", "llama-2-7b"]
    assert [case.name for case in file.cases] == ["../deep/x.yaml", "../deep/x.yaml:one", "llama-2-7b"]
    assert file.cases[0].subject.spec.path == corner.directory / "deep" / "x.yaml"


def test_a_name_is_never_looked_up_in_the_working_directory(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    corner.spec((corner.directory / "small.yaml").read_text(), "elsewhere/plain")
    monkeypatch.chdir(corner.directory / "elsewhere")
    (problem,) = corner.problems(f"budgets: [{{spec: plain, phase: decode, {LIMITS}}}]")
    assert "no spec is called 'plain'" in str(problem)
    # Beside the budget file it is found.
    corner.spec((corner.directory / "small.yaml").read_text(), "plain")
    assert corner.report(f"budgets: [{{spec: plain, phase: decode, {LIMITS}}}]").exit_code == 0


def test_files_are_checked_once_whatever_they_are_called(corner: Corner) -> None:
    path = corner.budget(entry("phase: decode"))
    again = f"{corner.directory}/../{corner.directory.name}/b.yaml"
    other = corner.budget(entry("phase: decode"), "c.yaml")
    assert [file.file for file in load([path, again, other])] == [path, other]


def test_a_text_without_a_file(corner: Corner) -> None:
    file = load_text(entry("phase: decode"), file="<test>", directory=corner.directory)
    assert file.cases[0].entry.place.file == "<test>"
    with pytest.raises(SpecError, match="<test>:1:1: missing key 'budgets'"):
        load_text("{}", file="<test>", directory=corner.directory)


# --- what is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "b.yaml:1:1: the file is empty; expected a mapping with the key 'budgets:'"),
        ("[]", "b.yaml:1:1: found an empty list; expected a mapping with the key 'budgets:'"),
        ("budgets: []", "b.yaml:1:10: budgets: found an empty list; expected a list with at least one entry"),
        ("budgets:", "b.yaml:1:9: budgets: found nothing; expected a list with at least one entry"),
        ("budgets: {}", "b.yaml:1:10: budgets: found an empty mapping; expected a list"),
        ("budgets: [3]", "b.yaml:1:11: budgets[0]: found 3; expected a mapping with spec, phase and limits"),
        ("defaults: {}", "b.yaml:1:1: missing key 'budgets'"),
        ("defaults: []\nbudgets: [x]", "b.yaml:1:11: defaults: found an empty list; expected a mapping of names"),
        ("defaults: {a: 1}\nbudgets: [x]", "b.yaml:1:15: defaults.a: found 1; expected a mapping of workload keys"),
        ("budget: []\nbudgets: [x]", "b.yaml:1:1: budget: unknown key 'budget'; expected one of defaults, budgets (did"),
        ("a: b: c", "b.yaml:1:5: not valid YAML: mapping values are not allowed"),
        ("budgets: [x]\nbudgets: [y]", "b.yaml:2:1: budgets: the key 'budgets' is written twice"),
        ("---\na: 1\n---\nb: 2", "a second document starts here"),
        (entry("phase: decode, speck: x"), "b.yaml:2:79: budgets[0].speck: unknown key 'speck'"),
        (entry("phase: decode, contexts: 4"), "did you mean 'context'? It may be a list"),
        (entry("phase: decode, variant: mha"), "write spec: NAME:VARIANT"),
        (entry("phase: decode, model: x"), "did you mean 'spec'?"),
        (entry("phase: decode, batch_size: 3"), "did you mean 'batch'?"),
        (entry("batch: 1"), "budgets[0]: missing key 'phase'; expected prefill, decode or [prefill, decode]"),
        (entry("phase: train"), "budgets[0].phase: found 'train'; expected prefill or decode or a list of them"),
        (entry("phase: decod"), "did you mean 'decode'?"),
        (entry("phase: [decode, x]"), "budgets[0].phase[1]: found 'x'; expected prefill or decode"),
        (entry("phase: []"), "budgets[0].phase: found an empty list; expected at least one value"),
        (entry("phase: decode, dtype: bf15"), "did you mean 'bf16'?"),
        (entry("phase: decode, dtype: int8"), "found 'int8'; expected fp32, tf32, bf16 or fp16"),
        (entry("phase: decode, dtype: [bf16, fp16]"), "budgets[0].dtype: found a list; expected fp32"),
        (entry("phase: decode, logits: some"), "expected all, last or none"),
        (entry("phase: decode, batch: 0"), "budgets[0].batch: found 0; expected a whole number of at least 1"),
        (entry("phase: decode, batch: -1"), "found -1; expected a whole number of at least 1"),
        (entry("phase: decode, batch: 1.5"), "found 1.5; expected a whole number"),
        (entry("phase: decode, batch: true"), "found true; expected a whole number"),
        (entry("phase: decode, batch: .nan"), "found .nan; expected a whole number"),
        (entry("phase: decode, batch: null"), "found null; expected a whole number"),
        (entry("phase: decode, batch: 4k i"), "found '4k i'; expected a whole number"),
        (entry("phase: decode, batch: {a: 1}"), "found a mapping; expected a whole number"),
        (entry("phase: decode, batch: [[1]]"), "budgets[0].batch[0]: found a list; expected a whole number"),
        (entry("phase: decode, batch: [1, 0]"), "budgets[0].batch[1]: found 0"),
        (entry("phase: decode, context: 1_000_000_000_000_001"), "and at most 1,000,000,000,000,000"),
        (entry(f"phase: decode, context: {'9' * 60}"), "found a number of 60 characters"),
        (entry("phase: decode, group_size: 64"), "expected weight_dtype: int4 with a group_size"),
        (entry("phase: decode, new_tokens: 4"), "expected no new_tokens: they are of prefill"),
        (entry("phase: prefill, context: 4, new_tokens: 8"), "budgets[0].context: small.yaml: context is 4 but new_tokens"),
        (entry("phase: decode, source_tokens: 4"), "budgets[0].source_tokens: small.yaml: source_tokens is of an encoder"),
        (entry("phase: decode, prefix_tokens: 4"), "budgets[0].prefix_tokens: small.yaml: prefix_tokens is 4, but small is"),
        (entry("phase: decode, use: x"), "budgets[0].use: found 'x'; expected a default set, but the file has none"),
        (entry("phase: decode, name: 7"), 'budgets[0].name: found 7; expected text (write "7")'),
        (entry("phase: decode, name: ''"), "budgets[0].name: found ''; expected text"),
        (entry('phase: decode, name: "a\\nb"'), "expected one line of at most 200 characters"),
        (entry(f"phase: decode, name: {'x' * 201}"), "expected one line of at most 200 characters"),
        (f"budgets: [{{phase: decode, {LIMITS}}}]", "budgets[0]: missing key 'spec'; expected the name, alias or path"),
        (f"budgets: [{{spec: [], phase: decode, {LIMITS}}}]", "budgets[0].spec: found an empty list; expected at least one"),
        (f"budgets: [{{spec: [3], phase: decode, {LIMITS}}}]", "budgets[0].spec[0]: found 3; expected the name"),
        (f"budgets: [{{spec: {{}}, phase: decode, {LIMITS}}}]", "budgets[0].spec: found an empty mapping"),
        (f"budgets: [{{spec: '-', phase: decode, {LIMITS}}}]", "a budget cannot be of standard input"),
        (f"budgets: [{{spec: lama-2-7b, phase: decode, {LIMITS}}}]", "no spec is called 'lama-2-7b'; did you mean llama-2-7b"),
        (f"budgets: [{{spec: 'llama-2-70b:mka', phase: decode, {LIMITS}}}]", "no variant 'mka'; it has mha, mqa (did you mean"),
        (f"budgets: [{{spec: no.yaml, phase: decode, {LIMITS}}}]", "no.yaml: no such file; expected the path of a spec"),
        ("budgets: [{spec: small.yaml, phase: decode}]", "budgets[0]: missing key 'limits'"),
        ("budgets: [{spec: small.yaml, phase: decode, limits: {}}]", "budgets[0].limits: found an empty mapping"),
        ("budgets: [{spec: small.yaml, phase: decode, limits: [a]}]", "budgets[0].limits: found a list"),
    ],
)  # fmt: skip
def test_wrong_input_is_told_where_and_what(corner: Corner, text: str, words: str) -> None:
    problems = corner.problems(text)
    assert any(words in str(problem) for problem in problems), [str(problem) for problem in problems]
    assert all(problem.line is not None for problem in problems)


def test_what_is_asked_of_the_wrong_structure_never_passes(corner: Corner) -> None:
    corner.spec(ENCODER, "reader.yaml")
    text = f"budgets:\n  - spec: reader.yaml\n    phase: [prefill,\n      decode]\n    {LIMITS}\n"
    (problem,) = corner.problems(text)
    assert (problem.line, problem.path) == (3, "budgets[0].phase")
    assert problem.found == "reader.yaml: reader is an encoder: it has no decode phase"
    (problem,) = corner.problems(f"budgets: [{{spec: reader.yaml, phase: prefill, context: 4Ki, {LIMITS}}}]")
    assert "reader has 128 learned positions" in str(problem)


def test_all_errors_at_once_in_the_order_of_the_file(corner: Corner) -> None:
    text = """\
defaults:
  a: {from: b, phase: decode}
  b: {from: nowhere, batch: 0}
budgets:
  - spec: small.yaml
    use: c
    limits: {params_total: "<= 0"}
  - spec: nope.yaml
    phase: decode
    batch: x
    limits: {param_total: "<= 5"}
"""
    problems = corner.problems(text)
    assert [problem.line for problem in problems] == [3, 3, 6, 7, 10, 11]


def test_errors_of_all_files_come_together(corner: Corner) -> None:
    a, b = corner.budget("budgets: []"), corner.budget("budgets: {}", "c.yaml")
    with pytest.raises(SpecError) as caught:
        load([a, b, str(corner.directory / "none.yaml"), str(corner.directory)])
    assert len(caught.value.problems) == 4


def test_no_file_is_an_error() -> None:
    with pytest.raises(InputError, match="no budget file is named"):
        load([])


@pytest.mark.parametrize(
    ("sets", "line", "circle"),
    [
        ("  a: {from: a}\n", 2, "a -> a"),
        ("  a: {from: b}\n  b: {from: a}\n", 2, "a -> b -> a"),
        ("  x: {batch: 1}\n  a: {from: b}\n  b: {from: c}\n  c: {from: a}\n", 3, "a -> b -> c -> a"),
    ],
)
def test_a_circle_of_defaults_is_named(corner: Corner, sets: str, line: int, circle: str) -> None:
    problems = corner.problems(f"defaults:\n{sets}budgets: [{{spec: small.yaml, phase: decode, use: a, {LIMITS}}}]\n")
    assert [problem.line for problem in problems] == [line]
    assert f"a circle of defaults: {circle}; expected" in str(problems[0])


def test_a_long_chain_of_defaults_is_refused_quickly(corner: Corner) -> None:
    sets = "".join(f"  s{index}: {{from: s{index + 1}}}\n" for index in range(2000))
    began = time.perf_counter()
    problems = corner.problems(f"defaults:\n{sets}  s2000: {{}}\n{entry('phase: decode, use: s0')}")
    assert "a chain of at most 32 default sets" in str(problems[0])
    assert time.perf_counter() - began < 5


def test_a_spec_that_is_wrong_shows_its_own_problems_too(corner: Corner) -> None:
    corner.spec("name: broken\n", "broken.yaml")
    problems = [str(p) for p in corner.problems(f"budgets: [{{spec: broken.yaml, phase: decode, {LIMITS}}}]")]
    assert any("b.yaml:1:18: budgets[0].spec: 'broken.yaml' has" in problem for problem in problems)
    assert any("broken.yaml:1:1: missing key" in problem for problem in problems)


@pytest.mark.parametrize(
    "matrix",
    [
        f"context: {list(range(1, 1001))}, batch: {list(range(1, 1001))}",
        f"context: {list(range(1, 101))}, batch: {list(range(1, 102))}",
        f"context: {list(range(1, 201))}, new_tokens: {list(range(1, 101))}, source_tokens: {list(range(1, 51))}",
    ],
)
def test_a_huge_matrix_is_refused_before_it_is_made(corner: Corner, matrix: str) -> None:
    path = corner.budget(entry(f"phase: prefill, {matrix}"))

    def refused() -> None:
        with pytest.raises(SpecError, match="combinations up to here; expected at most 10,000"):
            load([path])

    assert cpu_seconds(refused) < 0.5  # a tenth of a second on an idle machine, which parses the file


def test_entries_are_counted_together(corner: Corner) -> None:
    one = f"  - {{spec: small.yaml, {LIMITS}, phase: decode, batch: {list(range(1, 101))}, context: {list(range(1, 51))}}}\n"
    assert len(load([corner.budget("budgets:\n" + 2 * one)])[0].cases) == 10_000
    (problem,) = corner.problems("budgets:\n" + 3 * one)
    assert "15,000 combinations up to here" in str(problem)
    assert problem.line == 4


def test_a_million_cells_in_less_than_a_tenth_of_a_second_without_the_parsing(corner: Corner) -> None:
    from llmprof.check import settings
    from llmprof.spec.nodes import Mark, Scalar

    node = Scalar(1, "1", "", Mark(1, 1))
    lists = {key: settings.Setting(tuple(range(1, 1001)), node) for key in ("batch", "context")}
    assert settings.combinations(lists) == 10**6
    assert cpu_seconds(lambda: settings.combinations(lists)) < 0.1


@pytest.mark.parametrize("text", [HEAD + "      params_total: <= 1\n" + "x" * (1 << 20), "\0", "budgets: [\t]"])
def test_what_is_no_such_file_at_all(corner: Corner, text: str) -> None:
    path = corner.budget(text)
    with pytest.raises(SpecError) as caught:
        load([path])
    assert "architecture" not in str(caught.value)


def test_bytes_that_are_no_text(corner: Corner) -> None:
    (corner.directory / "b.yaml").write_bytes(b"budgets: \xff")
    with pytest.raises(SpecError, match="this is not UTF-8 text"):
        load([str(corner.directory / "b.yaml")])


def test_a_question_without_a_phase_in_the_structure_is_an_error(corner: Corner) -> None:
    corner.spec(ENCODER, "reader.yaml")
    (file,) = load([corner.budget(f"budgets: [{{spec: reader.yaml, phase: prefill, {LIMITS}}}]")])
    with pytest.raises(InputError, match="no decode phase"):
        Question(phase="decode", dtypes=Dtypes()).workload(file.cases[0].subject.arch)
