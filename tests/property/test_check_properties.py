"""Properties of budgets that must hold for every limit: rewriting, searching, and the boundary itself."""

from __future__ import annotations

import difflib
import tempfile
from fractions import Fraction
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmprof.check.bounds import Range
from llmprof.check.budgets import load_text
from llmprof.check.evaluate import evaluate, judge
from llmprof.check.largest import NEAR, meet, search
from llmprof.check.limit_units import UNITS
from llmprof.check.limits import read
from llmprof.check.quantities import PER_RANK, QUANTITIES
from llmprof.check.update import update
from llmprof.check.verdict import Finding
from llmprof.errors import DeviceError, InputError, SpecError
from llmprof.profiling.timed import Run
from llmprof.spec.nodes import Mark, Scalar
from llmprof.spec.problems import Report

numbers = st.one_of(
    st.integers(1, 10**12).map(str),
    st.integers(1, 10**12).map(lambda n: f"{n:_}"),
    st.decimals("0.01", 10**6, places=3).map(str),
)
SUFFIX = {"B": " B", "FLOP": " FLOP", "parameters": ""}
absolute = [name for name in QUANTITIES if not name.startswith("arithmetic")]


@st.composite
def limits(draw: st.DrawFn) -> tuple[str, str]:
    """A quantity and an absolute limit on it that the language takes."""
    quantity = QUANTITIES[draw(st.sampled_from(sorted(QUANTITIES)))]
    unit = draw(st.sampled_from(sorted(UNITS[quantity.unit])))
    gap = draw(st.sampled_from(["", " ", "  "]))

    def amount() -> str:
        return f"{draw(numbers)}{gap}{unit}".rstrip()

    text = draw(
        st.sampled_from([f"<={gap}{amount()}", f">= {amount()}", f"=={gap}{amount()}", f"{amount()} .. {amount()}"])
    )
    if quantity.in_memory and draw(st.booleans()):
        text = f"{text[:2]} {draw(st.decimals('0.001', 100, places=3))}% of h200"
    report = Report("")
    assume(read(Scalar(text, text, "", Mark(1, 1)), quantity, report) is not None)
    return quantity.name, text


@settings(max_examples=60)
@given(
    written=st.lists(limits(), min_size=1, max_size=6, unique_by=lambda each: each[0]),
    batches=st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True),
    quote=st.sampled_from(['"', "'"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_an_update_makes_a_file_hold_and_touches_the_limits_alone(
    written: list[tuple[str, str]], batches: list[int], quote: str, newline: str
) -> None:
    lines = [
        "# before",
        "budgets:",
        f"- {{spec: gpt2, phase: decode, batch: {batches}, context: 7,",
        "    limits: {",
    ]
    lines += [f"      {name}: {quote}{text}{quote},  # kept: {text}" for name, text in written]
    lines += ["    }", "  }  # after"]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "b.yaml"
        path, before = str(file), newline.join(lines)
        file.write_bytes(before.encode())
        report = evaluate([path])
        made = update([path], report)
        after = made.texts.get(path, before)
        file.write_bytes(after.encode())
        still = [finding for finding in evaluate([path]).findings if finding.status == "failed"]
    noted = {place.line for _, place in made.notes}
    assert {finding.bound.place.line for finding in still} <= noted
    # Outside the numbers of the limits that failed, the file is what it was.
    failed = {finding.bound.place.line for finding in report.findings if finding.status == "failed"}
    changed = set()
    old, new = before.split(newline), after.split(newline)
    assert len(old) == len(new)
    for number, (a, b) in enumerate(zip(old, new, strict=True), 1):
        if a != b:
            changed.add(number)
            assert a.rpartition(quote)[2] == b.rpartition(quote)[2]
            assert a.partition(quote)[0] == b.partition(quote)[0]
            for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes():
                if tag != "equal":
                    assert set(a[i1:i2] + b[j1:j2]) <= set("0123456789_. KMGTPiBFLO"), (a, b)
    assert changed == failed - noted


@given(
    step=st.integers(1, 10**6),
    base=st.integers(0, 10**9),
    square=st.integers(0, 50),
    floor=st.integers(1, 100),
    least=st.integers(1, 1000),
    span=st.integers(0, 10**7),
    limit=st.fractions(0, 10**15, max_denominator=7),
)
def test_a_search_finds_the_border(
    step: int, base: int, square: int, floor: int, least: int, span: int, limit: Fraction
) -> None:
    calls = 0

    def value(n: int) -> int:
        nonlocal calls
        calls += 1
        return base + step * (n // floor) + square * n * n

    now = least + span
    assume(value(now) > limit)
    calls = 0
    found = search(value, least, now, limit)
    assert calls < 110  # three times the bits of ten million, and a few
    if found is None:
        assert value(least) >= value(now if span else least + 1)
    elif found == 0:
        assert value(least) > limit
    else:
        assert least <= found < now
        assert value(found) <= limit < value(found + 1)


@given(step=st.integers(1, 10**12), base=st.integers(0, 10**12), now=st.integers(2, 10**15), at=st.data())
def test_a_linear_cost_is_found_at_once(step: int, base: int, now: int, at: st.DataObject) -> None:
    limit = base + step * at.draw(st.integers(1, now - 1)) + at.draw(st.integers(0, step - 1))
    calls = 0

    def value(n: int) -> int:
        nonlocal calls
        calls += 1
        return base + step * n

    assert search(value, 1, now, Fraction(limit)) == (limit - base) // step
    assert calls <= 5


@given(value=st.integers(1, 2**80), quantity=st.sampled_from(absolute))
def test_the_boundary_is_exact_whatever_its_size(value: int, quantity: str) -> None:
    unit = {"B": " B", "FLOP": " FLOP"}.get(QUANTITIES[quantity].unit, "")
    report = Report("")
    for text, holds in ((f"<= {value}{unit}", (True, False)), (f"== {value}{unit}", (True, False))):
        limit = read(Scalar(text, text, "", Mark(1, 1)), QUANTITIES[quantity], report)
        assert limit is not None
        assert limit.high is not None
        allowed = Range(low=None if limit.low is None else Fraction(value), high=Fraction(value))
        assert (allowed.holds(value), allowed.holds(value + 1)) == holds


WHOLE = """\
defaults:
  serving: {dtype: bf16, phase: decode, batch: 8, context: 4Ki}
  long: {from: serving, context: [32Ki, 64Ki]}
budgets:
  - name: both
    spec: [gpt2, "llama-2-70b:mha"]
    use: serving
    context: 512
    weight_dtype: int4
    group_size: 64
    limits: {total_bytes_fused: "<= 90% of h200", params_total: == 68_976, kv_cache_bytes: 1 KiB .. 2 GiB}
    measured: {device: cuda, samples: 30, tolerance: 5%, limits: {time_ms: "<= 45"}}
"""
pieces = st.sampled_from(
    [
        *WHOLE,
        *"{}[]:,&*#'\"|>%-",
        "null",
        "~",
        "-1",
        "0",
        ".nan",
        "1e9",
        "\u2028",
        "\ufeff",
        "<= ",
        "GiB",
        "from",
        "\n  - ",
    ]
)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), pieces), min_size=1, max_size=4))
def test_a_mangled_file_is_either_right_or_told_why(edits: list[tuple[int, int, str]]) -> None:
    text = WHOLE
    for at, gone, put in edits:
        text = text[:at] + put + text[at + gone :]
    try:
        judge([load_text(text, file="b.yaml", directory=Path("/nowhere"))], measure=no_device)
    except SpecError as error:
        assert all(problem.file for problem in error.problems)


def no_device(*_: object) -> Run:
    raise DeviceError("no device")


@given(
    step=st.integers(0, 100),
    period=st.integers(2, 20),
    phase=st.integers(0, 19),
    jump=st.integers(1, 10**4),
    least=st.integers(1, 10),
    span=st.integers(1, 10**6),
    limit=st.integers(0, 10**8),
)
def test_what_is_met_passes_and_what_is_near_is_met(
    step: int, period: int, phase: int, jump: int, least: int, span: int, limit: int
) -> None:
    asked: list[int] = []

    def value(n: int) -> int:
        asked.append(n)
        if n % 7 == 3:
            raise InputError("a length that cannot be run")
        return step * n + (jump if n % period == phase % period else 0)

    def passes(n: int) -> bool:
        return n % 7 != 3 and value(n) <= limit

    now = least + span
    found = meet(value, least, now, Range(low=None, high=Fraction(limit)))
    assert len(asked) < 40
    assert all(least <= n < now for n in asked)
    assert found is None or passes(found), found
    near = [n for n in range(max(least, now - NEAR), now) if passes(n)]
    if near:
        assert found == near[-1]


@settings(max_examples=25)
@given(
    quantity=st.sampled_from(sorted(set(PER_RANK) - {"collective_calls"})),
    part=st.integers(1, 120),
    tensor=st.sampled_from([1, 2, 3, 4, 6]),
    data=st.sampled_from([1, 2, 3]),
    stages=st.sampled_from([1, 2, 4]),
    sequences=st.integers(1, 5),
    phase=st.sampled_from(["prefill", "decode"]),
)
def test_what_is_said_to_pass_on_a_device_passes_and_no_more_does(
    quantity: str, part: int, tensor: int, data: int, stages: int, sequences: int, phase: str
) -> None:
    """Limits of so many hundredths of today's value, on GPT-2 spread over tensor x stages x data devices."""
    asked = {"batch": data * sequences, "context": 24, "tensor_parallel": tensor, "data_parallel": data}

    def checked(limit: int, **changed: int) -> Finding:
        keys = ", ".join(f"{key}: {value}" for key, value in {**asked, **changed}.items())
        text = f"budgets:\n- {{spec: gpt2, phase: {phase}, pipeline_parallel: {stages}, {keys}, "
        text += f'limits: {{{quantity}: "<= {limit}{SUFFIX[PER_RANK[quantity].unit]}"}}}}\n'
        (finding,) = judge([load_text(text, file="b.yaml", directory=Path())]).findings
        return finding

    value = checked(10**15).value
    assert isinstance(value, int)
    limit = max(1, value * part // 100)
    finding = checked(limit)
    assert (finding.status == "passed") == (value <= limit)
    if finding.status == "passed":
        return
    steps = {"batch": data, "context": 1}
    for key, best in finding.largest.items():
        assert best % steps[key] == 0
        if best:
            assert checked(limit, **{key: best}).status == "passed"
        assert checked(limit, **{key: best + steps[key]}).status == "failed"
    for key, fewest in finding.fewest.items():
        assert checked(limit, **{key: fewest}).status == "passed"
        others = [degree for degree in (2, 3, 4, 6, 12) if tensor < degree < fewest]
        assert all(checked(limit, **{key: degree}).status == "failed" for degree in others)
