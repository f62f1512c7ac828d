"""Verdicts: what passes, what a failure says, what would pass instead, and what is never taken for passed."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from budget_samples import HEAD, PER_TOKEN, SMALL, Corner
from spec_samples import PAIR

from llmprof import catalog
from llmprof.check.budgets import load
from llmprof.check.coverage import unguarded
from llmprof.check.evaluate import MAX_EXPLAINED, evaluate
from llmprof.check.figures import Figures
from llmprof.check.largest import rises
from llmprof.check.quantities import QUANTITIES
from llmprof.check.verdict import Finding
from llmprof.errors import SpecError
from llmprof.predict.record import count_record
from llmprof.workload import NotApplicable, Workload

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def corner(tmp_path: Path) -> Corner:
    return Corner(tmp_path)


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", [entry.name for entry in catalog.entries()])
def test_values_are_those_of_count_and_parts_add_up(name: str, phase: str) -> None:
    arch = catalog.find(name).base
    source = 24 if arch.structure == "encoder-decoder" else 0
    logits = "none" if arch.head.kind == "none" else "all"
    workload = Workload(
        phase=phase,  # type: ignore[arg-type]
        batch=3,
        new_tokens=16 if phase == "prefill" else 1,
        context=16,
        source_tokens=source,
        logits=logits,  # type: ignore[arg-type]
    )
    try:
        record = count_record(arch, workload)
    except NotApplicable:
        return
    made = Figures(arch, workload)
    for quantity in QUANTITIES:
        assert made.value(quantity) == record[quantity], quantity
        parts = made.parts(quantity)
        if parts and quantity != "matmul_flops_dense_per_token":
            assert sum(parts.values()) == record[quantity], quantity
        if not parts:
            assert "intensity" in quantity or "tile" in quantity or not record[quantity], quantity


def test_a_pass_is_lowered_once_and_unfused_only_where_asked(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.check import figures

    asked: list[str] = []
    real = figures.predict

    def counting(arch: object, workload: object, execution: object) -> object:
        asked.append(execution.attention)  # type: ignore[attr-defined]
        return real(arch, workload, execution)  # type: ignore[arg-type]

    monkeypatch.setattr(figures, "predict", counting)
    figures.figures.cache_clear()
    text = (
        HEAD + "      kv_cache_bytes: <= 1 GiB\n      total_bytes_fused: <= 1 GiB\n      params_total: <= 1_000_000\n"
    )
    corner.report(text)
    assert asked == ["fused"]
    corner.report(text + "      hbm_bytes_unfused: <= 1 GiB\n" + text.removeprefix("budgets:\n"))
    assert asked == ["fused", "unfused"]


def test_no_torch_is_imported(corner: Corner) -> None:
    path = corner.budget(HEAD + "      kv_cache_bytes: <= 1 B\n")
    code = (
        f"import sys\nfrom llmprof.check.evaluate import evaluate\nevaluate([{path!r}])\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'transformers', 'fvcore', 'typer'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- what a finding says ----------------------------------------------------------------------


def test_a_failure_says_all_of_it(corner: Corner) -> None:
    finding = corner.limit("<= 10 KiB")
    assert finding.value == 11_520
    assert finding.settings == {"phase": "decode", "batch": "3", "context": "10"}
    assert [(part.path, part.count, part.value) for part in finding.parts] == [("layers.{0-2}.attn.cache", 3, 11_520)]
    assert finding.largest == {"batch": 2, "context": 8}  # 10 240 B are 26.7 tokens of 384 B
    assert finding.sentence == (
        "small.yaml decode batch 3 context 10: kv_cache_bytes is 11.25 KiB (11,520 B), limit <= 10 KiB: 1.25 KiB over; "
        "most in layers.{0-2}.attn.cache (11.25 KiB); batch 2 or context 8 would pass"
    )
    assert finding.delta_pct is None


def test_the_name_stands_before_the_spec(corner: Corner) -> None:
    text = HEAD.replace("- spec", "- name: the small one\n    spec") + "      kv_cache_bytes: <= 1 GiB\n"
    (finding,) = corner.report(text).findings
    assert (finding.name, finding.spec) == ("the small one", "small.yaml")
    assert finding.sentence.startswith(
        "the small one (small.yaml) decode batch 3 context 10: kv_cache_bytes is 11.25 KiB"
    )


def test_one_byte_over_is_said_as_one_byte(corner: Corner) -> None:
    assert ": 1 B over;" in corner.limit("<= 11_519 B").sentence
    assert ": 1 B short" in corner.limit(">= 11_521 B").sentence


def test_a_total_is_made_of_weights_cache_and_activations(corner: Corner) -> None:
    finding = corner.limit("<= 1 B", "total_bytes_fused")
    assert finding.parts[0].path in ("embed", "lm_head")
    assert finding.parts[0].value == 128_000
    assert len(finding.parts) == 5
    assert finding.largest == {"batch": 0, "context": 0}
    assert finding.sentence.endswith("no batch and no context would pass")


def test_at_most_five_parts_the_largest_first(corner: Corner) -> None:
    parts = corner.limit("<= 1", "params_total").parts
    assert [part.value for part in parts] == sorted((part.value for part in parts), reverse=True)
    assert len(parts) == 5
    assert corner.limit("<= 0.5", "arithmetic_intensity_fused").parts == ()


@pytest.mark.parametrize(
    ("quantity", "limit", "largest"),
    [
        ("params_total", "<= 1", {}),  # depends on neither
        ("kv_cache_bytes_per_token", "<= 1 B", {}),
        ("kv_cache_bytes", ">= 1 GiB", {}),  # not bounded above
        ("kv_cache_bytes", "1 GiB .. 2 GiB", {}),  # too low, not too high
        (
            "kv_cache_bytes",
            f"{PER_TOKEN * 12} B .. {PER_TOKEN * 14} B",
            {"context": 4},
        ),  # of 10, 20 or 30 tokens by batch none fits
        ("kv_cache_bytes", f"<= {PER_TOKEN * 2} B", {"batch": 0, "context": 0}),
        ("kv_cache_bytes", f"<= {PER_TOKEN * 9} B", {"batch": 0, "context": 3}),
        ("matmul_flops_dense_per_token", "<= 1 FLOP", {"context": 0}),  # the same for every sequence
    ],
)
def test_the_largest_that_would_pass(corner: Corner, quantity: str, limit: str, largest: dict[str, int]) -> None:
    assert corner.limit(limit, quantity).largest == largest


def test_an_exact_limit_is_met_by_a_length_that_comes_to_it(corner: Corner) -> None:
    assert corner.limit(f"== {PER_TOKEN * 20} B").largest == {"batch": 2}  # 3 x context is never 20
    assert corner.limit(f"== {PER_TOKEN * 21} B").largest == {"context": 7}


def test_the_largest_with_the_lengths_of_an_entry(corner: Corner) -> None:
    corner.spec(PAIR, "pair.yaml")
    text = """\
budgets:
  - {spec: pair.yaml, phase: decode, batch: 2, context: 8, source_tokens: 100, limits: {kv_cache_bytes: <= 20 KiB}}
  - {spec: pair.yaml, phase: decode, batch: 2, context: 8, limits: {kv_cache_bytes: <= 20 KiB}}
  - {spec: small.yaml, phase: prefill, batch: 2, context: 64, new_tokens: 16, limits: {kv_cache_bytes: <= 20 KiB}}
  - {spec: small.yaml, phase: prefill, batch: 2, context: 64, new_tokens: 32, limits: {kv_cache_bytes: <= 20 KiB}}
"""
    found = [finding.largest for finding in corner.report(text).findings]
    # 768 B a token in self- and as much in cross-attention. The source is stated in the first entry, follows in the second.
    assert found[0] == {"batch": 0, "context": 0}
    assert found[1] == {"batch": 1, "context": 6}
    # 20 480 B are 26 tokens of each of two sequences: fewer than the 32 new ones of the last entry.
    assert found[2] == {"batch": 0, "context": 26}
    assert found[3] == {"batch": 0, "context": 0}


def test_a_window_bounds_the_cache_whatever_the_context(corner: Corner) -> None:
    corner.spec(SMALL.replace("head_dim: 16}", "head_dim: 16, window: 4}"), "w.yaml")
    text = "budgets: [{spec: w.yaml, phase: decode, batch: 2, context: 10, limits: {kv_cache_bytes: %s}}]"
    assert corner.report(text % f"<= {PER_TOKEN * 8} B").exit_code == 0
    (finding,) = corner.report(text % f"<= {PER_TOKEN * 8 - 1} B").findings
    assert finding.largest == {"batch": 1, "context": 3}


# --- what never passes ------------------------------------------------------------------------


def test_a_figure_that_does_not_exist_is_wrong_input(corner: Corner) -> None:
    text = HEAD.replace("batch: 3", "dtype: fp32") + "      params_total: <= 1\n      sram_bytes_fused: <= 1 GiB\n"
    (problem,) = corner.problems(text)
    assert problem.line == 8
    assert "there is no sram_bytes_fused of this pass, so no limit on it can hold" in problem.found


def test_a_relative_limit_without_a_baseline_is_wrong_input(corner: Corner) -> None:
    text = HEAD + '      kv_cache_bytes: "<= +2%"\n      params_total: "-1% .. +1%"\n'
    problems = corner.problems(text)
    assert [problem.line for problem in problems] == [7, 8]
    assert "none was given; add --baseline FILE or --baseline git:REV" in str(problems[0])


def test_exit_codes(corner: Corner) -> None:
    assert corner.report(HEAD + "      kv_cache_bytes: <= 1 GiB\n").exit_code == 0
    assert corner.report(HEAD + "      kv_cache_bytes: <= 1 GiB\n      params_total: <= 1\n").exit_code == 1


def test_only_the_first_failures_are_explained(corner: Corner) -> None:
    batches = ", ".join(map(str, range(2, MAX_EXPLAINED + 4)))
    text = HEAD.replace("batch: 3", f"batch: [{batches}]") + "      kv_cache_bytes: <= 1 KiB\n"
    findings = corner.report(text).findings
    assert len(findings) == MAX_EXPLAINED + 2
    assert all(finding.status == "failed" for finding in findings)
    assert all(finding.parts for finding in findings[:MAX_EXPLAINED])
    assert not any(finding.parts for finding in findings[MAX_EXPLAINED:])
    assert "not explained" in findings[-1].note
    assert "over" in findings[-1].sentence


# --- specs without a budget -------------------------------------------------------------------


def test_specs_without_a_budget_are_warned_about_or_refused(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "deep/b", "c"):
        corner.spec(SMALL, f"specs/models/{name}.yaml")
    text = (
        "budgets: [{spec: [../models/a.yaml, ../models/c.yaml], phase: decode, limits: {params_total: '<= 1_000_000'}}]"
    )
    path = corner.budget(text, "specs/budgets/b.yaml")
    monkeypatch.chdir(corner.directory)
    report = evaluate([path])
    assert [(words, place.file) for words, place in report.warnings if place] == [
        ("no budget names this spec", str(corner.directory / "specs/models/deep/b.yaml").removeprefix(f"{Path.cwd()}/"))
    ]
    assert report.exit_code == 0
    with pytest.raises(
        SpecError, match=r"specs/models/deep/b\.yaml:1:1: no budget names this spec; expected an entry in"
    ):
        evaluate([path], require_budgets=True)


def test_a_budget_outside_a_repository_of_specs_is_responsible_for_itself(corner: Corner) -> None:
    corner.spec(SMALL, "specs/models/a.yaml")
    (corner.directory / "mine" / ".git").mkdir(parents=True)
    corner.spec(SMALL, "mine/small.yaml")
    path = corner.budget("budgets: [{spec: small.yaml, phase: decode, limits: {params_total: <= 1}}]", "mine/b.yaml")
    assert evaluate([path], require_budgets=True).warnings == ()


def test_our_own_budgets_hold_and_leave_no_model_out() -> None:
    files = sorted(str(path) for path in (REPOSITORY / "specs" / "budgets").glob("*.yaml"))
    assert len(files) >= 3
    report = evaluate(files, require_budgets=True)
    assert {finding.status for finding in report.findings} == {"passed"}
    assert unguarded(load(files)) == []


# --- how long it takes ------------------------------------------------------------------------


def test_two_hundred_budgets_of_fifty_specs(corner: Corner, capsys: pytest.CaptureFixture[str]) -> None:
    names = [entry.name for entry in catalog.entries()][:50]
    limits = (
        "total_bytes_fused: <= 1 PB",
        "kv_cache_bytes: <= 1 PB",
        "hbm_bytes_fused: <= 1 PB",
        "weight_bytes: <= 1 PB",
    )
    entries = [
        f"  - {{spec: {name}, phase: prefill, batch: {batch}, context: 128, "
        f"limits: {{{limit}, params_total: <= 900_000_000_000}}}}\n"
        for name in names
        for batch, limit in enumerate(limits, 1)
    ]
    assert len(entries) == 200
    path = corner.budget("budgets:\n" + "".join(entries))
    began = time.process_time()
    report = evaluate([path])
    took = time.process_time() - began
    with capsys.disabled():
        print(f"\n200 budgets over 50 specs: {took:.2f} s of CPU, without starting Python")
    assert len(report.findings) == 400
    assert report.exit_code == 0
    assert took < 3  # half a second on an idle core; machines of CI are neither fast nor idle


# --- figures that go up and down with the context ---------------------------------------------


def of_families(
    corner: Corner, variant: str, context: int, limit: str, quantity: str = "matmul_flops_dense"
) -> Finding:
    entry = f"spec: attention-families:{variant}, phase: decode, context: {context}"
    (finding,) = corner.report(f'budgets: [{{{entry}, limits: {{{quantity}: "{limit}"}}}}]').findings
    return finding


def test_a_context_that_passes_is_found_though_the_smallest_does_not(corner: Corner) -> None:
    # Every third token makes a compressed key: 1 and 4,096 are among them, 4,095 is not.
    finding = of_families(corner, "compressed-conv", 4096, "<= 0.5 GFLOP")
    assert (finding.largest, finding.would_pass) == ({"batch": 0}, {"context": 4095})
    assert finding.sentence.endswith("; context 4,095 would pass")
    assert of_families(corner, "compressed-conv", 4095, "<= 0.5 GFLOP").status == "passed"


def test_a_context_that_passes_is_not_called_the_largest(corner: Corner) -> None:
    finding = of_families(corner, "fixed", 8192, "<= 0.42 GFLOP")
    assert "context" not in finding.largest
    assert of_families(corner, "fixed", finding.would_pass["context"], "<= 0.42 GFLOP").status == "passed"
    assert of_families(corner, "fixed", 6705, "<= 0.42 GFLOP").status == "passed"  # larger, and passes, too


def test_nothing_is_claimed_where_nothing_was_met(corner: Corner) -> None:
    finding = of_families(corner, "fixed", 8192, "<= 1 FLOP")
    assert (finding.largest, finding.would_pass) == ({"batch": 0}, {})
    assert "context" not in finding.sentence.partition("; ")[2]


def test_a_cache_rises_with_the_context_whatever_the_attention(corner: Corner) -> None:
    finding = of_families(corner, "fixed", 10, "<= 441 KiB", "kv_cache_bytes")  # 48 KiB a token
    assert finding.largest == {"batch": 0, "context": 9}


def test_an_excess_below_a_hundredth_of_a_byte_is_not_nothing(corner: Corner) -> None:
    gqa, compressed = "kind: gqa, n_heads: 8, n_kv_heads: 2", "kind: compressed, factor: 7, method: mean, n_heads: 8"
    assert gqa in SMALL
    corner.spec(SMALL.replace(gqa, compressed), "c.yaml")
    # 3 layers x 2 x 8 x 16 x 2 B / 7 = 1,536 / 7 = 219.428571.. B
    text = "budgets: [{spec: c.yaml, phase: decode, context: 10, limits: {kv_cache_bytes_per_token: <= 219.42 B}}]"
    (finding,) = corner.report(text).findings
    assert "kv_cache_bytes_per_token is 219.43 B, limit <= 219.42 B: 0.01 B over" in finding.sentence


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_what_is_said_to_rise_never_falls(corner: Corner, phase: str) -> None:
    variants = [f"attention-families:{name}" for name in catalog.find("attention-families").variants]
    specs = ", ".join([*variants, "small.yaml", "attention-families"])
    text = f"budgets: [{{spec: [{specs}], phase: {phase}, context: 12, limits: {{params_total: <= 1}}}}]"
    (file,) = load([corner.budget(text)])
    sure = 0
    for case in file.cases:
        rising = [quantity for quantity in QUANTITIES if rises(case, quantity, "context")]
        sure += len(rising)
        before = dict.fromkeys(rising, 0.0)
        for context in range(1, 12):
            arch = case.subject.arch
            made = Figures(arch, replace(case.question, context=context).workload(arch))
            now = {quantity: made.value(quantity) or 0 for quantity in rising}
            assert [quantity for quantity in rising if now[quantity] < before[quantity]] == [], (arch.label, context)
            before = now
    assert sure > len(file.cases) * len(("params_total", "weight_bytes", "kv_cache_bytes"))
