"""Budgets of one device of several: degrees and their matrix, figures by hand, and what goes without the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from budget_samples import Corner
from spec_samples import PAIR

from llmprof import catalog
from llmprof.check.budgets import load
from llmprof.check.evaluate import evaluate
from llmprof.check.figures import Figures
from llmprof.check.quantities import PER_RANK, TOTAL_PER_RANK
from llmprof.check.saved import save
from llmprof.check.update import update
from llmprof.predict.sharding.api import sharded_as
from llmprof.predict.sharding.record import sharding_record
from llmprof.report import check_github, check_gitlab, check_json, check_junit, check_markdown, check_table
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes, Workload
from tests.repositories import commit, git

ENTRY = """\
budgets:
  - spec: small.yaml
    phase: decode
    batch: 3
    context: 10
"""

SPREAD = ENTRY + "    tensor_parallel: 2\n    limits:\n"


@pytest.fixture
def corner(tmp_path: Path) -> Corner:
    return Corner(tmp_path)


def held(quantity: str, limit: str) -> str:
    return f'{SPREAD}      {quantity}: "{limit}"\n'


# --- figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "value", "unit"),
    [
        # 2 x 500 x 64 of the vocabulary, 64 of the last norm, and of each of 3 layers 4 x 16 x 64 of q and o,
        # 16 x 64 of k and v, 3 x 48 x 64 of the feed-forward and 2 x 64 of the norms
        ("parameters_per_rank", 122_816, ""),
        ("weight_bytes_per_rank", 245_632, " B"),
        # 3 sequences x 10 tokens x 3 layers x k and v of 1 head of 16 x 2 B
        ("kv_cache_bytes_per_rank", 5_760, " B"),
        # o_proj and down of 3 layers, the embedding, and the gather of the logits
        ("collective_calls", 8, ""),
        # 7 x 3 x 64 x 2 B, and 3 x 1000 x 2 B
        ("collective_bytes_per_rank", 8_688, " B"),
        # what a ring of 2 sends: all of an all-reduce, half of a gather
        ("collective_wire_bytes_per_rank", 5_688, " B"),
    ],
)
def test_figures_by_hand_hold_to_the_unit(corner: Corner, quantity: str, value: int, unit: str) -> None:
    (at,) = corner.report(held(quantity, f"<= {value}{unit}")).findings
    (over,) = corner.report(held(quantity, f"<= {value - 1}{unit}")).findings
    assert (at.status, at.value, at.bound.high) == ("passed", value, value)
    assert (over.status, over.headroom) == ("failed", -1)


CASES = [
    ("llama-2-7b", Workload(phase="decode", batch=4, new_tokens=1, context=512), Sharding(tensor_parallel=2)),
    (
        "llama-2-7b",
        Workload(phase="prefill", batch=4, new_tokens=64, context=64),
        Sharding(tensor_parallel=4, sequence_parallel=True, pipeline_parallel=2, data_parallel=2),
    ),
    (
        "gpt2",
        Workload(phase="prefill", batch=2, new_tokens=64, context=64, logits="last", dtypes=Dtypes(kv_cache="fp8")),
        Sharding(pipeline_parallel=3),
    ),
]


@pytest.mark.parametrize(("spec", "workload", "sharding"), CASES)
def test_figures_are_those_of_count_and_their_parts_add_up(spec: str, workload: Workload, sharding: Sharding) -> None:
    arch = catalog.find(spec).arch()
    figures, made = Figures(arch, workload, sharding), sharded_as(arch, workload, sharding)
    record = sharding_record(made)
    for quantity in PER_RANK:
        value = figures.value(quantity)
        parts = figures.parts(quantity)
        if quantity == TOTAL_PER_RANK:
            assert value == max(rank.held_bytes + rank.peak_live_bytes for rank in made.ranks)
        else:
            assert value == record[quantity]
        assert sum(parts.values()) == value or (quantity.startswith("activation_peak") and not parts)
    whole = Figures(arch, workload)
    assert all(whole.value(quantity) is None and not whole.parts(quantity) for quantity in PER_RANK)


def test_the_total_is_that_of_the_neediest_device_not_of_the_one_that_keeps_the_most() -> None:
    """The last stage makes the logits of 512 tokens; the first keeps more, as its table of tokens has positions."""
    arch = catalog.find("gpt2").arch()
    workload = Workload(phase="prefill", batch=1, new_tokens=512, context=512)
    made = sharded_as(arch, workload, Sharding(pipeline_parallel=2))
    first, last = made.ranks
    assert first.held_bytes > last.held_bytes
    assert first.held_bytes + first.peak_live_bytes < last.held_bytes + last.peak_live_bytes
    total = Figures(arch, workload, Sharding(pipeline_parallel=2)).value(TOTAL_PER_RANK)
    assert total == last.held_bytes + last.peak_live_bytes


def test_a_part_of_a_device_is_exact(corner: Corner) -> None:
    """70B in bf16 for 8 x 4 Ki tokens, spread over 4: 34 490 302 464 B of weights, 2 684 354 560 B of cache and
    852 544 B live are 46.46938696% of 80 GB, to the last digit."""
    text = """\
budgets:
  - {spec: llama-2-70b, phase: decode, batch: 8, context: 4Ki, tensor_parallel: DEGREES,
     limits: {total_bytes_fused_per_rank: "<= PART% of h100-sxm-80gb"}}
"""
    four = text.replace("DEGREES", "4")
    (at,) = corner.report(four.replace("PART", "46.46938696")).findings
    (over,) = corner.report(four.replace("PART", "46.46938695")).findings
    assert (at.status, at.value, at.headroom) == ("passed", 37_175_509_568, 0)
    assert (over.status, over.headroom) == ("failed", -8)  # a hundred-millionth of a percent is 8 B
    two, four_again = corner.report(text.replace("DEGREES", "[2, 4]").replace("PART", "90")).findings
    assert (two.status, four_again.status, two.bound.high) == ("failed", "passed", 72 * 10**9)
    assert two.sentence.endswith("; batch 4 or context 2,304 or tensor parallel 4 would pass")


def test_the_shipped_budgets_hold() -> None:
    report = evaluate([str(catalog.root() / "budgets" / "sharded.yaml")])
    assert report.exit_code == 0
    assert {finding.quantity for finding in report.findings} < set(PER_RANK)


# --- the language -------------------------------------------------------------------------------


def test_degrees_are_a_matrix_and_settings_of_the_report(corner: Corner) -> None:
    text = ENTRY.replace("batch: 3", "batch: 4") + (
        "    tensor_parallel: [1, 2]\n    data_parallel: [1, 2, 2]\n    limits: {weight_bytes_per_rank: <= 1 MiB}\n"
    )
    (file,) = load([corner.budget(text)])
    assert [case.question.sharding for case in file.cases] == [
        Sharding(tensor_parallel=tensor, data_parallel=data) for tensor in (1, 2) for data in (1, 2)
    ]
    assert [case.settings for case in file.cases][-1] == {
        "phase": "decode",
        "batch": "4",
        "context": "10",
        "tensor_parallel": "2",
        "data_parallel": "2",
    }


def test_every_degree_reaches_the_figures_from_a_set_too(corner: Corner) -> None:
    text = """\
defaults:
  spread: {phase: prefill, batch: 4, context: 8, tensor_parallel: 2, sequence_parallel: true}
budgets:
  - spec: small.yaml
    use: spread
    pipeline_parallel: 3
    data_parallel: 2
    limits: {weight_bytes_per_rank: <= 1 MiB}
"""
    (case,) = load([corner.budget(text)])[0].cases
    assert case.question.sharding == Sharding(
        tensor_parallel=2, sequence_parallel=True, pipeline_parallel=3, data_parallel=2
    )
    assert case.settings["sequence_parallel"] == "true"


def test_whole_figures_stay_those_of_the_whole_model(corner: Corner) -> None:
    text = SPREAD + "      weight_bytes: == 490_368 B\n      weight_bytes_per_rank: == 245_632 B\n"
    assert corner.report(text).exit_code == 0


RANK = "{weight_bytes_per_rank: <= 1 MiB}"


@pytest.mark.parametrize(
    ("entry", "path", "words"),
    [
        ("tensor_parallel: 3", "tensor_parallel", "does not divide n_heads (8) of small; use one of: 1, 2, 4, 8"),
        ("pipeline_parallel: 4", "pipeline_parallel", "more stages than the 3 layers of small; use at most 3"),
        ("pipeline_layers: [2, 1]", "pipeline_layers", "stages share the layers as evenly as can be"),
        ("batch: 3, data_parallel: 2", "batch", "does not divide the batch of 3; use one of: 1, 3"),
        ("tensor_parallel: 2, sequence_parallel: true", "sequence_parallel", "leave it out, as decode has to"),
        ("tensor_parallel: 0", "tensor_parallel", "a whole number of at least 1, such as 4"),
        ("tensor_parallel: -2", "tensor_parallel", "a whole number of at least 1"),
        ("tensor_parallel: 2.0", "tensor_parallel", "a whole number of at least 1"),
        ("tensor_parallel: .nan", "tensor_parallel", "a whole number of at least 1"),
        ("tensor_parallel: [2, many]", "tensor_parallel[1]", "a whole number of at least 1"),
        ("tensor_parallel: []", "tensor_parallel", "at least one value"),
        ("tensor_parallel: 2, sequence_parallel: 1", "sequence_parallel", "expected true or false"),
        ("tensor_parallel: 2, sequence_parallel: [true]", "sequence_parallel", "expected true or false"),
        ("tp: 2", "tp", "did you mean 'tensor_parallel'?"),
        ("gpus: 8", "gpus", "say how they share the model"),
        ("tensor_paralel: 2", "tensor_paralel", "did you mean 'tensor_parallel'?"),
    ],
)
def test_degrees_that_cannot_be(corner: Corner, entry: str, path: str, words: str) -> None:
    batch = "" if "batch" in entry else "batch: 3, "
    problems = corner.problems(
        f"budgets:\n  - {{spec: small.yaml, phase: decode, {batch}context: 10, {entry}, limits: {RANK}}}\n"
    )
    said = [problem for problem in problems if problem.path == f"budgets[0].{path}"]
    assert len(said) == 1
    assert words in str(said[0])
    assert (said[0].line, said[0].file) == (2, str(corner.directory / "b.yaml"))


def test_a_rank_without_a_degree_and_a_degree_without_a_rank(corner: Corner) -> None:
    (problem,) = corner.problems(ENTRY + f"    limits: {RANK}\n")
    assert (problem.line, problem.path) == (6, "budgets[0].limits.weight_bytes_per_rank")
    assert "tensor_parallel: 4" in problem.expected
    (problem,) = corner.problems(ENTRY + "    tensor_parallel: 2\n    limits: {weight_bytes: <= 1 MiB}\n")
    assert (problem.line, problem.path) == (6, "budgets[0].tensor_parallel")
    assert "total_bytes_fused_per_rank" in problem.expected
    measured = f"    tensor_parallel: 2\n    limits: {RANK}\n    measured: {{device: cpu, limits: {{time_ms: <= 1}}}}\n"
    (problem,) = corner.problems(ENTRY + measured)
    assert (problem.line, problem.expected) == (6, "no degrees beside measured limits: a run is of one device")


@pytest.mark.parametrize(
    ("quantity", "limit", "words"),
    [
        ("weight_bytes_per_rank", "<= 100.1% of h200", "at most 100%"),
        ("weight_bytes_per_rank", "<= 90% of h201", "did you mean h20 or h200?"),
        ("weight_bytes_per_rank", "<= 90% of epyc-9654", "what is installed"),
        ("weight_bytes_per_rank", "<= nan% of h200", "a finite number above 0"),
        ("weight_bytes_per_rank", "<= -5% of h200", "above 0%, without a sign"),
        ("weight_bytes_per_rank", "<= 0% of h200", "a number above 0"),
        ("hbm_bytes_fused_per_rank", "<= 90% of h200", "does not lie in a device's memory"),
        ("collective_calls", "<= 162 B", "a number without a unit: collective_calls is in calls"),
        ("collective_calls", "== 1.5", "a whole number of calls"),
        ("weights_bytes_per_rank", "<= 1 B", "write weight_bytes_per_rank"),
        ("total_bytes_per_rank", "<= 1 B", "write total_bytes_fused_per_rank"),
    ],
)
def test_limits_on_a_rank_that_cannot_be(corner: Corner, quantity: str, limit: str, words: str) -> None:
    (problem,) = corner.problems(held(quantity, limit))
    assert (problem.line, problem.path) == (8, f"budgets[0].limits.{quantity}")
    assert words in str(problem)


def test_a_model_that_has_no_rules_is_refused_with_the_reason(corner: Corner) -> None:
    corner.spec(PAIR, "pair.yaml")
    text = f"budgets:\n  - {{spec: pair.yaml, phase: decode, tensor_parallel: 2, limits: {RANK}}}\n"
    (problem,) = corner.problems(text)
    assert "its structure is encoder-decoder, for which docs/reference-sharding.md has no rule" in problem.found


# --- what would pass ------------------------------------------------------------------------------


def test_the_largest_batch_is_one_that_replicas_share(corner: Corner) -> None:
    """4 KiB of cache on a device: 192 B x 10 tokens x 2 sequences of each of 3 replicas, and not 3 of each."""
    text = """\
budgets:
  - {spec: small.yaml, phase: decode, batch: 12, context: 10, tensor_parallel: 2, data_parallel: 3,
     limits: {kv_cache_bytes_per_rank: <= 4 KiB}}
"""
    (finding,) = corner.report(text).findings
    assert (finding.value, finding.largest) == (4 * 1920, {"batch": 6, "context": 5})
    assert corner.report(text.replace("batch: 12", "batch: 6")).exit_code == 0
    assert corner.report(text.replace("batch: 12", "batch: 9")).exit_code == 1
    assert finding.fewest == {}  # 2 heads of keys are replicated from 4 devices on


def test_the_largest_prompt_is_one_whose_rows_are_shared(corner: Corner) -> None:
    text = """\
budgets:
  - {spec: small.yaml, phase: prefill, context: 64, tensor_parallel: 4, sequence_parallel: true,
     limits: {kv_cache_bytes_per_rank: <= 4 KiB}}
"""
    (finding,) = corner.report(text).findings
    assert finding.largest == {"batch": 0, "context": 20}  # 21 tokens would fit, of which 4 devices share 20
    assert corner.report(text.replace("context: 64", "context: 20")).exit_code == 0
    assert corner.report(text.replace("context: 64", "context: 24")).exit_code == 1


def test_the_fewest_devices_that_would_do(corner: Corner) -> None:
    (finding,) = corner.report(held("weight_bytes_per_rank", "<= 100 KB")).findings
    values = {
        degree: corner.report(held("weight_bytes_per_rank", "<= 1 B").replace("parallel: 2", f"parallel: {degree}"))
        .findings[0]
        .value
        for degree in (2, 4, 8)
    }
    assert [degree for degree, value in values.items() if value is not None and value <= 100_000] == [8]
    assert finding.fewest == {"tensor_parallel": 8}
    assert finding.sentence.endswith("tensor parallel 8 would pass")


# --- baselines and updates -------------------------------------------------------------------------


def test_growth_of_a_rank_against_a_saved_baseline(corner: Corner) -> None:
    text = held("weight_bytes_per_rank", "<= +2%")
    path = str(corner.directory / "base.json")
    Path(path).write_text(save(load([corner.budget(text)])), encoding="utf-8")
    assert corner.report(text, baseline=path).exit_code == 0
    corner.spec((corner.directory / "small.yaml").read_text().replace("d_ff: 96", "d_ff: 128"))
    (finding,) = corner.report(text, baseline=path).findings
    # 3 layers x 3 x 16 x 64 x 2 B more on each of 2 devices
    assert (finding.baseline, finding.value) == (245_632, 245_632 + 3 * 3 * 16 * 64 * 2)
    assert {change.path for change in finding.changes} == {
        f"layers.{{0-2}}.ffn.{each}" for each in ("down", "gate", "up")
    }
    (problem,) = corner.problems(text.replace("parallel: 2", "parallel: 4"), baseline=path)
    assert "no such entry" in problem.found


def test_a_revision_that_could_not_be_spread_so_is_told(corner: Corner) -> None:
    """Six heads then, which two devices share and four do not."""
    now = (corner.directory / "small.yaml").read_text()
    text = held("weight_bytes_per_rank", "<= +200%").replace("parallel: 2", "parallel: 4")
    corner.budget(text)
    git(corner.directory, "init", "-q", "-b", "main")
    commit(corner.directory, {"small.yaml": now.replace("n_heads: 8", "n_heads: 6")})
    corner.spec(now)
    (problem,) = corner.problems(text, baseline="git:main")
    assert "at main, tensor_parallel is 4, but it does not divide n_heads (6)" in problem.found
    (finding,) = corner.report(text.replace("parallel: 4", "parallel: 2"), baseline="git:main").findings
    assert (finding.status, finding.value) == ("passed", 245_632)
    # q and o of one head each less, in 3 layers
    assert finding.baseline == 245_632 - 3 * 2 * 16 * 64 * 2


def test_a_baseline_without_degrees_is_as_it_was(corner: Corner) -> None:
    text = ENTRY + "    limits: {weight_bytes: <= 1 MiB}\n"
    (entry,) = json.loads(save(load([corner.budget(text)])))["entries"]
    assert "sharding" not in entry["asked"]
    assert not set(entry["quantities"]) & set(PER_RANK)
    (entry,) = json.loads(save(load([corner.budget(held("weight_bytes_per_rank", "<= 1 MiB"))])))["entries"]
    assert entry["asked"]["sharding"]["tensor_parallel"] == 2
    assert set(PER_RANK) <= set(entry["quantities"])


def test_an_update_keeps_a_part_of_a_device_one(corner: Corner) -> None:
    path = corner.budget(held("weight_bytes_per_rank", "<= 0.0001% of h200"))
    made = update([path], evaluate([path]))
    assert made.texts[path] == held("weight_bytes_per_rank", "<= 0.0002% of h200")  # 245 632 of 141 000 000 000


def test_no_update_makes_a_part_larger_than_the_device(corner: Corner) -> None:
    text = """\
budgets:
  - {spec: llama-2-70b, phase: decode, tensor_parallel: 2, limits: {weight_bytes_per_rank: "<= 90% of l4"}}
"""
    path = corner.budget(text)
    made = update([path], evaluate([path]))
    ((reason, place),) = made.notes
    assert path not in made.texts or made.texts[path] == text
    assert "the value is more than all of a l4: spread it over more of them" in reason
    assert place.line == 2


# --- reports -----------------------------------------------------------------------------------------


def test_every_report_says_what_and_where(corner: Corner) -> None:
    text = SPREAD + "      collective_wire_bytes_per_rank: <= 5 KB\n      collective_calls: <= 7\n"
    report = corner.report(text)
    wire, calls = report.findings
    assert "a ring is a convention" in wire.unconfirmed
    assert calls.unconfirmed == ""
    assert (wire.fewest, calls.fewest) == ({}, {})  # one device alone would send nothing: that is no way to spread it
    table = check_table.render(report)
    assert "5.55 KiB (5,688 B) *" in table
    assert "* unconfirmed: a ring is a convention" in table
    assert "collective_calls is 8 calls, limit <= 7: 1 call over; most in" in " ".join(table.split())
    records = json.loads(check_json.render(report))["results"]
    assert records[0]["note"].startswith("unconfirmed: a ring")
    assert (records[1]["unit"], records[1]["value"], records[1]["settings"]["tensor_parallel"]) == ("calls", 8, "2")
    for made in (check_markdown.render(report), check_junit.render(report), check_github.render(report)):
        assert "collective" in made
        assert "unconfirmed: a ring" in made
        assert "tensor parallel 2" in made
    assert "8 calls" in check_gitlab.render(report)
