"""Limits: their forms, their exact boundaries by hand, and what a wrong one is told."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from budget_samples import HEAD, PER_TOKEN, Corner

from llmprof import catalog
from llmprof.check import limits
from llmprof.check.bounds import range_of
from llmprof.check.limit_units import EXAMPLE, UNITS
from llmprof.check.limits import Limit
from llmprof.check.quantities import MEASURED, QUANTITIES
from llmprof.device import find
from llmprof.predict.record import count_record
from llmprof.spec.nodes import Mark, Scalar
from llmprof.spec.problems import Report
from llmprof.spec.scalars import resolve
from llmprof.workload import Workload


@pytest.fixture
def corner(tmp_path: Path) -> Corner:
    return Corner(tmp_path)


def read(text: str, quantity: str = "total_bytes_fused", *, quoted: bool = True) -> tuple[Limit | None, list[str]]:
    report = Report("b.yaml")
    value = text if quoted else resolve(text)
    known = {**QUANTITIES, **MEASURED}[quantity]
    limit = limits.read(Scalar(value, text, f"limits.{quantity}", Mark(7, 9)), known, report)
    return limit, [str(problem) for problem in report.problems]


def ends(text: str, quantity: str = "total_bytes_fused", baseline: int | None = None) -> tuple[object, object]:
    limit, problems = read(text, quantity)
    assert limit is not None, problems
    allowed = range_of(limit, baseline)
    return allowed.low, allowed.high


H200 = 141 * 10**9


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("<= 16 GiB", None, 16 * 2**30),
        ("<=16GiB", None, 16 * 2**30),
        ("<= 16 GB", None, 16 * 10**9),
        (">= 5 B", 5, None),
        ("== 1_024 KiB", 2**20, 2**20),
        ("<= 1.5 KB", None, 1500),
        ("<= 0.1 GiB", None, Fraction(2**30, 10)),
        ("12 GiB .. 16 GiB", 12 * 2**30, 16 * 2**30),
        ("1 KB..1 KiB", 1000, 1024),
        ("5 B .. 5 B", 5, 5),
        ("<= 1 PiB", None, 2**50),
        ("<= 90% of h200", None, H200 * 9 // 10),
        ("<= 90 % of H200-SXM", None, H200 * 9 // 10),
        ("<= 800% of h200", None, 8 * H200),
        (">= 0.5% of h200", H200 // 200, None),
        ("10% of h200 .. 90% of h200", H200 // 10, H200 * 9 // 10),
    ],
)
def test_the_forms_of_bytes(text: str, low: object, high: object) -> None:
    assert ends(text) == (low, high)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("<= +2%", None, 1020),
        ("<= +0%", None, 1000),
        ("<= + 2 %", None, 1020),
        (">= -5%", 950, None),
        ("<= -5%", None, 950),
        (">= -99.99%", Fraction(1, 10), None),
        ("-5% .. +5%", 950, 1050),
        ("<= +0.1%", None, 1001),
    ],
)
def test_the_forms_relative_to_a_baseline(text: str, low: object, high: object) -> None:
    assert ends(text, baseline=1000) == (low, high)


def test_the_other_units() -> None:
    assert ends("== 6_738_415_616", "params_total") == (6_738_415_616, 6_738_415_616)
    assert ends("<= 1.5 TFLOP", "matmul_flops_dense") == (None, 15 * 10**11)
    assert ends(">= 1.0", "arithmetic_intensity_fused") == (1, None)
    assert ends("<= 45", "time_ms") == (None, 45)


def test_a_third_of_a_byte_is_never_rounded() -> None:
    # 33.3% of 141 GB is 46 953 000 000 B exactly; a float product is not.
    assert ends("<= 33.3% of h200")[1] == 46_953_000_000
    assert ends("<= +0.1%", baseline=3)[1] == Fraction(3003, 1000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a limit such as"),
        ("<=", "found nothing to compare with"),
        ("16 GiB", "write '<= 16 GiB' or '== 16 GiB'"),
        ("< 16 GiB", "write <="),
        ("=< 16 GiB", "write <="),
        ("≤ 16 GiB", "write <="),
        ("> 16 GiB", "write >="),
        ("= 16 GiB", "write =="),
        ("!= 16 GiB", "a limit such as"),
        ("at most 16 GiB", "a limit such as"),
        ("<= 16", "a unit: total_bytes_fused is in bytes (such as 16 GiB)"),
        ("<= 16 Gb", "a small b means bits; write GB (powers of 1000) or GiB (powers of 1024)"),
        ("<= 16 gb", "write GB (powers of 1000) or GiB (powers of 1024)"),
        ("<= 16 kB", "write KB (powers of 1000) or KiB (powers of 1024)"),
        ("<= 16 gib", "(write GiB)"),
        ("<= 16 Gib", "(write GiB)"),
        ("<= 16 GIB", "(write GiB)"),
        ("<= 16 G", "write GB (powers of 1000) or GiB (powers of 1024)"),
        ("<= 16 Gi", "(write GiB)"),
        ("<= 16 bytes", "(write B)"),
        ("<= 16 GFLOP", "a unit of bytes: B, KB, MB, GB, TB, PB, KiB, MiB, GiB, TiB, PiB"),
        ("<= 16 parsecs", "a unit of bytes"),
        ("<= 16 GiB per token", "a unit of bytes"),
        ("<= 16 GiB 2 B", "a unit of bytes"),
        ("<= 0 GiB", "a number above 0 (no quantity can meet a limit of 0)"),
        ("<= 0.4 B", "a number above 0"),
        ("== 0 B", "a number above 0"),
        (">= 0 B", "a number above 0"),
        ("0 B .. 4 B", "a number above 0"),
        ("<= -3 GiB", "no quantity is below 0"),
        ("<= +3 GiB", "write the number without a sign, or +2% for the baseline"),
        ("<= nan", "a finite number above 0"),
        ("<= NaN GiB", "a finite number above 0"),
        ("<= .nan", "a finite number above 0"),
        ("<= inf GiB", "a finite number above 0"),
        ("<= -inf", "a finite number above 0"),
        ("<= 1,000 B", "write 1_000 B"),
        ("<= 1e9 B", "write the number out, without an exponent"),
        ("<= 1__0 B", "a number such as 16 GiB"),
        ("<= .5 GiB", "a number such as 16 GiB"),
        ("<= 0x10 B", "a unit of bytes"),
        ("<= ٣ B", "a number such as 16 GiB"),
        ("<= " + "9" * 41 + " B", "found a number of 41 characters"),
        ("== 1.5 B", "a whole number of bytes"),
        ("16 GiB .. 12 GiB", "the lower end first"),
        ("12 GiB .. +2%", "a range whose ends are of one form"),
        ("12 GiB ..", "found nothing to compare with"),
        ("1 B .. 2 B .. 3 B", "found '2 B .. 3 B'"),
        ("+5% .. -5%", "the lower end first"),
        ("<= 5%", "write +5% for the baseline, or 5% of a device, such as 5% of h200"),
        ("<= +5% of h200", "without a sign (write 5% of h200)"),
        ("<= -5% of h200", "above 0%, without a sign (no quantity is below 0)"),
        ("<= nan% of h200", "a finite number above 0"),
        ("<= 90% of", "a percentage of something"),
        ("== +2%", "<= or >= before a percentage"),
        ("== 90% of h200", "<= or >= before a percentage"),
        ("<= -100%", "a change of more than -100%"),
        ("<= 90% of h201", "no device is called 'h201'"),
        ("<= 90% of h100", "h100-sxm-80gb"),
        ("<= 90% of epyc-9654", "the memory of epyc-9654 is what is installed"),
    ],
)
def test_a_wrong_limit_is_told_what_to_write(text: str, words: str) -> None:
    limit, problems = read(text)
    assert limit is None
    assert len(problems) == 1
    assert problems[0].startswith("b.yaml:7:9: limits.total_bytes_fused: ")
    assert words in problems[0]


@pytest.mark.parametrize(
    ("text", "quantity", "words"),
    [
        ("<= 7B", "params_total", "a number without a unit: params_total is in parameters"),
        ("<= 7 GiB", "params_total", "a number without a unit"),
        ("== 1.5", "params_total", "a whole number of parameters"),
        ("<= 1 GFLOPs", "vector_flops", "write GFLOP"),
        ("<= 1 gflops", "vector_flops", "write GFLOP"),
        ("<= 1 TFLOPS", "vector_flops", "write TFLOP"),
        ("<= 1", "vector_flops", "a unit: vector_flops is in FLOPs"),
        ("<= 1 GB", "vector_flops", "a unit of FLOPs"),
        ("== 1.5", "arithmetic_intensity_fused", "a ratio is no round number"),
        (
            ">= 1 FLOP",
            "arithmetic_intensity_fused",
            "a number without a unit: arithmetic_intensity_fused is in a ratio",
        ),
        ("<= 90% of h200", "hbm_bytes_fused", "does not lie in a device's memory"),
        ("<= 90% of h200", "sram_bytes_fused", "does not lie in a device's memory"),
        ("<= 90% of h200", "kv_cache_bytes_per_token", "does not lie in a device's memory"),
        ("<= 90% of h200", "params_total", "does not lie in a device's memory"),
        ("<= 45 ms", "time_ms", "a number without a unit: time_ms is in milliseconds"),
    ],
)
def test_the_unit_goes_with_the_quantity(text: str, quantity: str, words: str) -> None:
    limit, problems = read(text, quantity)
    assert limit is None
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("16", "found 16 without a comparison"),
        (".nan", "found .nan without"),
        ("true", "found true"),
        ("", "found nothing"),
    ],
)
def test_a_value_that_is_no_text(text: str, words: str) -> None:
    limit, problems = read(text, quoted=False)
    assert limit is None
    assert words in problems[0]


def test_every_example_of_a_message_is_right() -> None:
    for quantity in (*QUANTITIES.values(), *MEASURED.values()):
        assert read(f"<= {EXAMPLE[quantity.unit]}", quantity.name)[0] is not None
        assert quantity.unit in UNITS


def test_no_numeric_figure_of_the_record_is_forgotten() -> None:
    record = count_record(catalog.find("llama-2-7b").base, Workload(phase="prefill", batch=1, new_tokens=8, context=8))
    workload = {"batch", "new_tokens", "context", "source_tokens", "prefix_tokens", "mtp"}
    figures = [key for key, value in record.items() if isinstance(value, int | float) and key not in workload]
    assert list(QUANTITIES) == figures
    for name, quantity in QUANTITIES.items():
        assert ("bytes" in name) == (quantity.unit == "B"), name
        assert ("flops" in name) == (quantity.unit == "FLOP"), name
        assert name.startswith("params") == (quantity.unit == "parameters"), name


# --- boundaries, worked out by hand -----------------------------------------------------------

CACHE = 3 * 10 * PER_TOKEN


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        (f"<= {CACHE} B", "passed"),
        (f"<= {CACHE - 1} B", "failed"),
        (f"<= {CACHE}.9 B", "passed"),
        (f"<= {CACHE - 1}.9 B", "failed"),
        (f">= {CACHE} B", "passed"),
        (f">= {CACHE + 1} B", "failed"),
        (f"== {CACHE} B", "passed"),
        (f"== {CACHE + 1} B", "failed"),
        (f"== {CACHE - 1} B", "failed"),
        (f"{CACHE} B .. {CACHE} B", "passed"),
        (f"1 B .. {CACHE - 1} B", "failed"),
        (f"{CACHE + 1} B .. 1 GiB", "failed"),
        ("<= 11.25 KiB", "passed"),  # 11 520 B
        ("<= 11.24 KiB", "failed"),
        ("<= 11.52 KB", "passed"),
        ("<= 11.51 KB", "failed"),
    ],
)
def test_exactly_at_the_limit_passes_and_one_byte_over_fails(corner: Corner, limit: str, status: str) -> None:
    finding = corner.limit(limit)
    assert finding.value == 11_520
    assert finding.status == status


def test_gb_is_not_gib(corner: Corner) -> None:
    assert corner.limit("<= 11 KiB").bound.high == 11 * 1024
    assert corner.limit("<= 11 KB").bound.high == 11 * 1000


def test_a_part_of_a_device_is_exact(corner: Corner) -> None:
    memory = find("h200").memory_bytes
    finding = corner.limit("<= 0.0000081% of h200")
    assert finding.bound.high == memory * 81 // 10**9 == 11_421
    assert finding.status == "failed"
    assert finding.headroom == 11_421 - 11_520
    assert corner.limit("<= 0.0000082% of h200").status == "passed"


def test_headroom_and_meaning(corner: Corner) -> None:
    finding = corner.limit("<= 90% of h200", "total_bytes_fused")
    assert finding.bound.meaning == "<= 118.18 GiB, 90% of h200's 141.00 GB"
    assert finding.bound.text == "<= 90% of h200"
    assert (finding.bound.place.line, finding.bound.place.column) == (7, 26)
    assert finding.headroom == finding.bound.high - finding.value
    assert corner.limit("<= 16 KB").bound.meaning == "<= 16 KB"


def test_problems_of_limits_come_all_at_once_and_in_order(corner: Corner) -> None:
    text = HEAD + (
        "      kv_cache_byte: <= 1 B\n"
        "      weight_bytes: <= 1\n"
        '      params_total: ">= 7B"\n'
        "      memory: <= 1 GiB\n"
        "      time_ms: <= 3\n"
        "      flops: <= 3\n"
    )
    problems = corner.problems(text)
    assert [problem.line for problem in problems] == [7, 8, 9, 10, 11, 12]
    assert "did you mean 'kv_cache_bytes'?" in str(problems[0])
    assert "write total_bytes_fused or _unfused" in str(problems[3])
    assert "measured limits stand under measured:" in str(problems[4])
    assert "write matmul_flops_dense or matmul_flops_causal" in str(problems[5])


def test_an_unquoted_greater_than_is_explained(corner: Corner) -> None:
    (problem,) = corner.problems(HEAD + "      kv_cache_bytes: >= 1 B\n")
    assert problem.line == 7
    assert 'quotes: ">= 1.0"' in str(problem)


@pytest.mark.parametrize("quantity", ["kv_cache_bytes", "kv_cache_bytes_cross", "kv_cache_bytes_per_token"])
def test_a_cache_may_be_limited_to_nothing(quantity: str) -> None:
    assert ends("== 0 B", quantity) == (0, 0)
    assert ends("<= 0 B", quantity) == (None, 0)


def test_what_is_not_there_meets_a_limit_of_nothing(corner: Corner) -> None:
    (finding,) = corner.report(f'{HEAD}      kv_cache_bytes_cross: "== 0 B"\n').findings
    assert finding.status == "passed"
    assert corner.limit("== 0 B").status == "failed"


def test_a_lower_end_of_nothing_says_nothing(corner: Corner) -> None:
    (problem,) = corner.problems(f'{HEAD}      kv_cache_bytes: ">= 0 B"\n')
    assert "no kv_cache_bytes is below 0" in str(problem)
