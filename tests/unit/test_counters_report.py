"""Reports of Nsight Compute: what is read, what is refused, and that nothing is misread. All reports are synthetic."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ncu_pages import FIRST, SECOND, TENSOR, cell, leaf, page

from llmprof.measure.counters import python_report
from llmprof.measure.counters.metrics import CHIPS, L2, SHARED, TIME, chip_of, sum_of, value_of
from llmprof.measure.counters.ranges import Place, place_of
from llmprof.measure.counters.report import ReportError, parse
from llmprof.measure.counters.unavailable import Unavailable

READ, WRITE = "dram__bytes_read.sum", "dram__bytes_write.sum"


def test_a_page_is_read_whole() -> None:
    fill, q_proj, attend, combine, drain = parse(FIRST.read_text())
    assert fill.place is None, "it ran before the pass"
    assert q_proj.place == leaf("layers.0.attn.q_proj")
    assert q_proj.metrics == {READ: 33554432, WRITE: 8192, TIME: 12345, L2: 33900000, TENSOR: 268435456}
    assert attend.place == combine.place == leaf("layers.0.attn.core")
    assert attend.metrics[READ] == 16777216.0
    assert attend.name.startswith("void pytorch_flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64,")
    assert (combine.absent, TENSOR in combine.metrics) == ((TENSOR,), False)
    assert drain.place == Place(kind="drain", phase="decode", attention="fused")


def test_parts_of_a_counter_a_large_value_and_a_library_s_own_range() -> None:
    attend, other = parse(SECOND.read_text())
    assert value_of(attend.metrics, TENSOR) == 1024  # 1,000 without sparsity and 24 with it
    assert attend.metrics[SHARED] == 2_500_000
    assert other.place == leaf("layers.0.ffn.act")
    assert other.absent == (SHARED,)
    assert value_of(other.metrics, TENSOR) == 0


def test_times_are_nanoseconds_in_any_unit_and_bytes_must_be_bytes() -> None:
    row = [("k", ["llmprof"], {TIME: "1.5", READ: "1"})]
    text = page(row, [TIME, READ])
    assert parse(text.replace('"ns"', '"usecond"'))[0].metrics[TIME] == 1500
    with pytest.raises(ReportError, match=r"unit of dram__bytes_read\.sum is 'Mbyte'; expected a base unit"):
        parse(text.replace('"byte"', '"Mbyte"'))
    with pytest.raises(ReportError, match="unit of gpu__time_duration"):
        parse(text.replace('"ns"', '"cycle"'))


def test_what_was_not_asked_for_is_no_counter() -> None:
    others = ["sm__throughput.avg.pct_of_peak_sustained_elapsed", "dram__cycles_active.sum", "device__attribute_name"]
    values = {READ: "7", others[0]: "54.3", others[1]: "3", others[2]: "NVIDIA"}
    (kernel,) = parse(page([("k", [], values)], [READ, *others]))
    assert dict(kernel.metrics) == {READ: 7}


def test_a_report_without_kernels_has_none() -> None:
    assert parse("==PROF== Connected\n==WARNING== No kernels were profiled.\n") == ()
    assert parse(page([], [READ])) == ()
    with pytest.raises(ReportError, match="no row of units"):
        parse('"ID","Kernel Name"\n')


def test_a_second_process_prints_the_names_again() -> None:
    text = page([("a", ["llmprof"], {READ: "1"})], [READ])
    again = text.splitlines()[1]
    more = text + again + "\n" + text.splitlines()[3].replace('"a"', '"b"') + "\n"
    assert [kernel.name for kernel in parse(more)] == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"1,234"', '"27.595.520"', "dram__bytes_read.sum is '27.595.520'; expected a number"),  # another locale
        ('"1,234"', '"12,34"', "is '12,34'"),
        ('"1,234"', '"-5"', "is '-5'"),
        ('"1,234"', '"158 (0: 158)"', "expected a number"),
        ('"1,234"', "", "a row has 4 cells below 5 names"),
        ("layers.0.attn.core|:none", "layers.0.attn.co:none", "cut short"),
        ("llmprof|pass|decode", "llmprof|pass|prefill", "not one within the other"),
        ('"Kernel Name"', '"Metric Name"', "page of details"),
        ('"Kernel Name"', '"Function"', "no column Kernel Name"),
        ('"Process ID"', '"ID"', "two columns 'ID'"),
        ('"","","",""', '"0","","",""', "no row of units"),
        ('"k"', '"k""', "no CSV"),
    ],
)
def test_what_is_not_understood_is_refused(old: str, new: str, message: str) -> None:
    ranges = ["llmprof", "llmprof|pass|decode|fused||", leaf("layers.0.attn.core").name]
    text = page([("k", ranges, {READ: "1,234"})], [READ])
    if not new:
        text = text.replace(',"1,234"', "")
    assert (new and old in text) or not new
    with pytest.raises(ReportError, match=message.replace(".", r"\.")):
        parse(text.replace(old, new) if new else text)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for tried in (text, f'"ID","Kernel Name","{READ}"\n"","","byte"\n{text}'):
        with contextlib.suppress(ReportError):
            parse(tried)


@given(st.integers(0, 10_000), st.text('",:|.0123456789 \nabc_', max_size=6), st.integers(0, 20))
def test_a_damaged_page_is_read_or_refused(at: int, put: str, cut: int) -> None:
    text = FIRST.read_text()
    at %= len(text)
    try:
        found = parse(text[:at] + put + text[at + cut :])
    except ReportError:
        return
    assert all(value >= 0 for kernel in found for value in kernel.metrics.values())


def test_a_place_survives_its_name_and_others_are_none() -> None:
    place = leaf("decoder.layers.10.cross_attn.core", "prefill", "unfused")
    assert place_of(cell("warm-up", "llmprof", place.name)) == place
    assert place_of("") is None
    assert place_of(cell("warm-up", "llmprof")) is None
    # No letter of a name is one that a filter or a report has a meaning for.
    assert not set(place.name) & set('@,[]/*+:" ')


def test_a_counter_with_an_absent_part_has_no_value() -> None:
    assert sum_of({"a.sum": 1.0}, ("a.sum", "b.sum")) is None
    assert sum_of({"a.sum": 1.0, "b.sum": 2.0}, ("a.sum", "b.sum")) == 3.0
    assert sum_of({}, ()) is None
    assert value_of({"a_sparsity_on.sum": 1.0}, "a.sum") is None


def test_the_counters_of_a_chip() -> None:
    first, second = chip_of((9, 0)).runs("bf16")
    assert first == (TIME, READ, WRITE, L2, TENSOR)
    assert second[0] == SHARED
    assert {name.rpartition("_op_")[2] for name in second[1:]} == {
        "ld.sum",
        "st.sum",
        "ldsm.sum",
        "ldgsts.sum",
        "stsm.sum",
        "gmma.sum",
    }
    # Two fp16 counters do not fit into one pass with the others: they do not depend on caches, and come second.
    first, second = chip_of((8, 0)).runs("fp16")
    assert len(first) == 4
    assert [name for name in second if "tensor" in name] == [
        "sm__ops_path_tensor_src_fp16_dst_fp16.sum",
        "sm__ops_path_tensor_src_fp16_dst_fp32.sum",
    ]
    assert chip_of((9, 0)).tensor["fp16"] == ("sm__ops_path_tensor_src_fp16.sum",)
    assert chip_of((12, 0)).runs("bf16")[0][1:3] == ("dram__bytes_op_read.sum", "dram__bytes_op_write.sum")
    assert chip_of((8, 0)).runs("fp32") == ((TIME, READ, WRITE, L2), chip_of((8, 0)).runs("bf16")[1])
    assert all(chip.runs(dtype) for chip in CHIPS.values() for dtype in chip.tensor)


def test_a_chip_that_is_not_known_is_said_so() -> None:
    with pytest.raises(Unavailable, match=r"capability 6\.1 are not known.*ncu --query-metrics"):
        chip_of((6, 1))
    with pytest.raises(Unavailable, match=r"12\.1 has no counters of its memory"):
        chip_of((12, 1))


class _Action:
    """What ncu_report has of a kernel, as far as it is asked for."""

    unit = "byte"

    def __init__(self, name: str, ranges: list[str], **metrics: float | None) -> None:
        self._name, self._ranges, self._metrics = name, ranges, metrics

    def name(self, base: str) -> str:
        assert base == "demangled"
        return self._name

    def metric_names(self) -> list[str]:
        return [*self._metrics, "plain"]

    def metric_by_name(self, name: str) -> object:
        value = self._metrics[name]
        return SimpleNamespace(has_value=lambda: value is not None, as_double=lambda: value, unit=lambda: self.unit)

    def nvtx_state(self) -> object:
        if not self._ranges:
            return None
        domain = SimpleNamespace(push_pop_ranges=lambda: self._ranges)
        return SimpleNamespace(domains=lambda: [0], domain_by_id=lambda number: domain)


_KIND = SimpleNamespace(NameBase_DEMANGLED="demangled")


def _report(monkeypatch: pytest.MonkeyPatch, *actions: _Action) -> None:
    one = SimpleNamespace(num_actions=lambda: len(actions), action_by_idx=lambda index: actions[index])
    context = SimpleNamespace(num_ranges=lambda: 1, range_by_idx=lambda index: one)
    monkeypatch.setitem(sys.modules, "ncu_report", SimpleNamespace(load_report=lambda path: context, IAction=_KIND))


def test_a_report_file_says_the_same_through_the_vendor_s_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncu_report", None)
    assert python_report.load(FIRST, (READ,)) is None
    known = _Action("k", ["llmprof", leaf("embed").name], **{READ: 5.0, WRITE: None})
    _report(monkeypatch, known, _Action("other", []))
    found = python_report.load(FIRST, (READ, WRITE))
    assert found is not None
    assert [(kernel.name, kernel.place) for kernel in found] == [("k", leaf("embed")), ("other", None)]
    assert (dict(found[0].metrics), found[0].absent) == ({READ: 5.0}, (WRITE,))
    _report(monkeypatch, _Action("k", ["llmprof|leaf|decode|fused|emb"]))
    with pytest.raises(ReportError, match="cut short"):
        python_report.load(FIRST, (READ,))
    scaled = _Action("k", [], **{READ: 5.0})
    scaled.unit = "Mbyte"
    _report(monkeypatch, scaled)
    with pytest.raises(ReportError, match="'Mbyte'; expected a base unit"):
        python_report.load(FIRST, (READ,))
    monkeypatch.setitem(sys.modules, "ncu_report", SimpleNamespace(load_report=lambda path: 1 / 0))
    with pytest.raises(ReportError, match="ncu_report cannot read the report: ZeroDivisionError"):
        python_report.load(FIRST, (READ,))
