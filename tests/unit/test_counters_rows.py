"""Counters against predictions: every verdict with its arithmetic, and every reason for having none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from llmprof.ledger import Basis, Entry, Ledger, Quantity, Verdict
from llmprof.measure.counters.collect import Collected, Counted
from llmprof.measure.counters.metrics import L2, SHARED, chip_of
from llmprof.measure.counters.ncu import Tool
from llmprof.measure.counters.ranges import Place
from llmprof.measure.counters.report import Kernel
from llmprof.profiling.bands import LEAST_BYTES, band
from llmprof.profiling.counter_rows import QUANTITIES, CounterRow, PassReading, Reading, outcome, rows, unmeasured
from llmprof.profiling.counter_sources import reading_of
from llmprof.profiling.counters import Counters
from llmprof.report.counter_tables import counters as tables
from llmprof.workload import Dtypes, Execution, Workload

READ, WRITE, TENSOR = "dram__bytes_read.sum", "dram__bytes_write.sum", "sm__ops_path_tensor_src_bf16_dst_fp32.sum"
MEGA = 10**6


def ledger(**values: int) -> Ledger:
    """Of one module, ``core``."""
    return Ledger(Entry(path="core", quantity=q, value=v, basis=Basis.PREDICTED) for q, v in values.items())  # type: ignore[arg-type]


def reading(values: Mapping[str, int | str], **rest: object) -> PassReading:
    known: dict[str, object] = {
        "phase": "prefill",
        "attention": "fused",
        "caches": "cold",
        "tier": "ncu",
        "modules": {"core": Reading(values=values, kernels=("flash_fwd", "flash_fwd"))},
        "whole": Reading(values={"dram_bytes": values.get("dram_bytes", 0)}),
        "cores": {"core": "flash"},
        "capacity": None,
    }
    return PassReading(**{**known, **rest})  # type: ignore[arg-type]


def row(quantity: Quantity, predicted: int, measured: int | str, **rest: object) -> CounterRow:
    found = rows(ledger(**{quantity: predicted}), reading({quantity: measured}, **rest))
    return next(each for each in found if (each.path, each.quantity) == ("core", quantity))


@pytest.mark.parametrize(
    ("quantity", "phase", "attention", "measured", "verdict"),
    [
        ("dram_bytes", "prefill", "fused", 110 * MEGA, "AGREES"),  # 10%
        ("dram_bytes", "prefill", "fused", 110 * MEGA + 1, "DIFFERS"),
        ("dram_bytes", "prefill", "fused", 90 * MEGA - 1, "DIFFERS"),
        ("dram_bytes", "prefill", "unfused", 105 * MEGA, "AGREES"),  # 5%
        ("dram_bytes", "prefill", "unfused", 105 * MEGA + 1, "DIFFERS"),
        ("dram_bytes", "decode", "fused", 95 * MEGA, "AGREES"),
        ("dram_bytes", "decode", "fused", 106 * MEGA, "DIFFERS"),
        ("smem_bytes", "prefill", "fused", 105 * MEGA, "AGREES"),
        ("smem_bytes", "prefill", "fused", 94 * MEGA, "DIFFERS"),
        ("matmul_flops_executed", "prefill", "fused", 95 * MEGA, "AGREES"),
        ("matmul_flops_executed", "prefill", "fused", 106 * MEGA, "DIFFERS"),
    ],
)
def test_a_band_ends_where_it_says(quantity: Quantity, phase: str, attention: str, measured: int, verdict: str) -> None:
    cores = {"core": "flash"} if attention == "fused" else {}
    found = row(quantity, 100 * MEGA, measured, phase=phase, attention=attention, cores=cores)
    assert found.verdict is Verdict(verdict)
    assert found.ratio == measured / (100 * MEGA)
    assert found.kernels == ("flash_fwd",)
    assert ("beyond its band" in found.note) == (verdict == "DIFFERS")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (row("l2_to_sm_bytes", 100 * MEGA, 100 * MEGA), "requests of every client"),
        (row("dram_bytes", LEAST_BYTES - 1, 5 * MEGA), "less than 1 MB"),
        (row("dram_bytes", 100 * MEGA, 100 * MEGA, caches="warm"), "begins with nothing in the cache"),
        (row("smem_bytes", 100 * MEGA, 1, cores={"core": "efficient"}), "the kernel that ran, efficient"),
        (row("matmul_flops_executed", 100 * MEGA, 1, cores={"core": "efficient"}), "not the one whose tiles"),
        # What another module left in the cache of 60 MB may be all of a difference of 59 MB, and not of 61.
        (row("dram_bytes", 100 * MEGA, 159 * MEGA, capacity=60 * MEGA), "left dirty in the cache"),
        # A product is padded to tiles that nobody has predicted.
        (row("matmul_flops_executed", 100 * MEGA, 128 * MEGA, cores={}), "its library's choice"),
    ],
)
def test_what_has_no_verdict_says_why(found: CounterRow, reason: str) -> None:
    assert found.verdict is None
    assert reason in found.note
    assert found.measured is not None


def test_a_doubt_is_none_where_it_does_not_apply() -> None:
    assert row("dram_bytes", 100 * MEGA, 161 * MEGA, capacity=60 * MEGA).verdict is Verdict.DIFFERS
    assert row("dram_bytes", LEAST_BYTES, LEAST_BYTES).verdict is Verdict.AGREES
    copying = Reading(values={"smem_bytes": MEGA}, kernels=("nvjet_tst_128x64",))
    found = rows(ledger(smem_bytes=MEGA), reading({}, modules={"core": copying}))
    assert next(r for r in found if r.quantity == "smem_bytes").note.startswith(
        "nvjet_tst_128x64 copies with the tensor"
    )


def test_the_whole_pass_and_what_was_left_in_the_cache() -> None:
    def whole(measured: int, drained: int) -> CounterRow:
        found = rows(
            ledger(dram_bytes=100 * MEGA),
            reading({"dram_bytes": 100 * MEGA}, whole=Reading(values={"dram_bytes": measured}), drained=drained),
        )
        return next(each for each in found if not each.path)

    assert whole(110 * MEGA, 0).verdict is Verdict.AGREES
    assert whole(120 * MEGA, 0).verdict is Verdict.DIFFERS
    excused = whole(120 * MEGA, 20 * MEGA)
    assert excused.verdict is None
    assert "20,000,000 B of it were written after the pass" in excused.note
    assert whole(80 * MEGA, 20 * MEGA).verdict is Verdict.DIFFERS, "less than predicted was not written late"


def test_what_is_not_predicted_or_was_not_seen_is_a_row() -> None:
    lacking = rows(Ledger(), reading({"dram_bytes": 5 * MEGA}))
    assert {(r.path, r.quantity, r.verdict) for r in lacking} == {
        ("core", "dram_bytes", Verdict.UNPREDICTED),
        ("core", "l2_to_sm_bytes", Verdict.UNMEASURED),
        ("core", "smem_bytes", Verdict.UNMEASURED),
        ("core", "matmul_flops_executed", Verdict.UNMEASURED),
        ("", "dram_bytes", Verdict.UNPREDICTED),
    }
    assert "no prediction of 1 of its modules, the first of them core" in lacking[-1].note
    other = Ledger([Entry(path="lm_head", quantity="dram_bytes", value=7, basis=Basis.PREDICTED)])
    unseen = next(r for r in rows(other, reading({"dram_bytes": MEGA})) if r.path == "lm_head")
    assert (unseen.verdict, unseen.note) == (Verdict.UNMEASURED, "no kernel of it was seen")
    gpm = rows(ledger(dram_bytes=MEGA), reading({"dram_bytes": MEGA}, modules={}, cores={}, tier="gpm", caches="warm"))
    assert [(r.path, r.predicted, r.verdict) for r in gpm] == [("", MEGA, None)]
    assert "mean over the whole GPU" in gpm[0].note


def test_a_pass_that_could_not_be_read_has_a_row_for_each_quantity() -> None:
    found = unmeasured("prefill", "fused", "cold", ledger(dram_bytes=3), "no permission; ask for it")
    assert [r.quantity for r in found] == list(QUANTITIES)
    assert {(r.verdict, r.note, r.tier) for r in found} == {(Verdict.UNMEASURED, "no permission; ask for it", "none")}
    assert [r.predicted for r in found] == [3, None, None, None]
    assert outcome(found) == "unmeasured"
    assert Counters(asked=False, rows=found).outcome == "not asked"
    assert Counters(asked=True, rows=found).outcome == "unmeasured"
    assert Counters(asked=True).outcome == "unmeasured", "nothing at all was read"


def test_outcomes() -> None:
    good, bad = row("dram_bytes", MEGA, MEGA), row("dram_bytes", MEGA, 2 * MEGA)
    assert outcome([good]) == "measured"
    assert outcome([good, bad]) == "failed"
    assert Counters(asked=False, rows=[bad]).outcome == "failed"


def collected(**absent: tuple[str, ...]) -> Collected:
    """Two modules and a drain of a decode pass, as two runs on a GH100 have counted them."""

    def both(place: Place, first: Mapping[str, float], second: Mapping[str, float]) -> tuple[Counted, Counted]:
        found = (Counted(), Counted())
        for counted, metrics in zip(found, (first, second), strict=True):
            counted.add(Kernel(name="k", place=place, metrics=metrics, absent=absent.get(place.path, ())))
        return found

    core = Place(kind="leaf", phase="decode", attention="fused", path="core")
    head = Place(kind="leaf", phase="decode", attention="fused", path="lm_head")
    drain = Place(kind="drain", phase="decode", attention="fused")
    elsewhere = Place(kind="leaf", phase="decode", attention="unfused", path="core")
    return Collected(
        tool=Tool(path="ncu", version="2025.3.1"),
        places={
            core: both(core, {READ: 70.0, WRITE: 7.0, L2: 90.0, TENSOR: 64.0}, {SHARED: 30.0}),
            head: both(head, {READ: 20.0, WRITE: 2.0, L2: 25.0}, {SHARED: 0.0}),
            drain: both(drain, {READ: 1000.0, WRITE: 5.0, L2: 1000.0, TENSOR: 0.0}, {SHARED: 0.0}),
            elsewhere: both(elsewhere, {READ: 9999.0, WRITE: 0.0, L2: 0.0, TENSOR: 0.0}, {SHARED: 0.0}),
        },
        kernels={"decode/fused": {"core": "flash"}},
        refused={},
    )


DECODE = Workload(phase="decode", batch=1, new_tokens=1, context=8)
FUSED = Execution(attention="fused")


def test_sums_become_quantities_and_only_writes_of_the_drain_belong_to_the_pass() -> None:
    found = reading_of(collected(), DECODE, FUSED, chip_of((9, 0)), "cold", 50 * MEGA)
    assert found.modules["core"].values == {
        "dram_bytes": 77,
        "l2_to_sm_bytes": 90,
        "smem_bytes": 30,
        "matmul_flops_executed": 64,
    }
    assert found.modules["lm_head"].values["matmul_flops_executed"] == "some kernel has no such counter in the report"
    assert found.whole.values == {"dram_bytes": 77 + 22 + 5}
    assert (found.drained, found.capacity, found.cores) == (5, 50 * MEGA, {"core": "flash"})
    lacking = reading_of(collected(core=(READ,)), DECODE, FUSED, chip_of((9, 0)), "cold", None)
    assert lacking.modules["core"].values["dram_bytes"] == "some kernel has no such counter in the report"
    assert lacking.whole.values["dram_bytes"] == "some kernel has no such counter in the report"


def test_what_a_chip_cannot_count_is_said() -> None:
    found = reading_of(collected(), DECODE, FUSED, chip_of((10, 0)), "cold", None)
    assert str(found.modules["core"].values["smem_bytes"]).startswith("its fifth-generation tensor cores")
    fp32 = Workload(
        phase="decode",
        batch=1,
        new_tokens=1,
        context=8,
        dtypes=Dtypes(weights="fp32", activations="fp32", kv_cache="fp32"),
    )
    found = reading_of(collected(), fp32, FUSED, chip_of((9, 0)), "cold", None)
    assert (
        found.modules["core"].values["matmul_flops_executed"] == "fp32 is not multiplied by the tensor cores of GH100"
    )


def test_bands_have_reasons_and_an_unknown_quantity_has_none() -> None:
    for quantity in QUANTITIES:
        for phase in ("prefill", "decode"):
            for attention in ("fused", "unfused"):
                assert len(band(quantity, phase, attention).reason) > 20
    with pytest.raises(KeyError):
        band("hbm_bytes", "prefill", "fused")


def test_the_tables_say_it_all() -> None:
    from llmprof.cli.counters import row_record

    found = [
        row("dram_bytes", 100 * MEGA, 120 * MEGA),
        *unmeasured("decode", "unfused", "cold", None, "no permission"),
        row("smem_bytes", 100 * MEGA, 100 * MEGA),
    ]
    head, dram, *_, last = tables({"rows": [row_record(r) for r in found], "notes": ["counted by a fake"]})
    assert head.notes == ("counted by a fake",)
    assert dram.title == "Bytes to and from memory: prefill, fused, cold caches, counted by Nsight Compute"
    (line,) = dram.rows
    assert line[3:] == ("100,000,000", "120,000,000", "1.2000", "10%", "DIFFERS [1]", "flash_fwd")
    assert dram.notes[0].startswith("[1] beyond its band: a cache holds lines")
    assert last.title.startswith("FLOPs of the tensor cores: decode, unfused") or "shared memory" in last.title
    assert tables(None) == tables({"rows": [], "notes": []}) == []
