"""Served ops on a synthetic clock: known constants are found again, whatever is left out, and predictions use them.

No GPU is here: a clock that computes times from constants stands in for it. What a real one does: tests/gpu.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llmprof import device
from llmprof.device_figures import KernelConstants
from llmprof.errors import InputError, LlmprofError
from llmprof.latency.constants import Bound, DeviceModel
from llmprof.latency.device_profile import Identity, Profile, load, merged, text
from llmprof.latency.estimate import estimate, kernel_seconds
from llmprof.latency.local import NOTHING, Local
from llmprof.latency.op import Collective, DecodeAttention, Elementwise, Gemm, Launch, PrefillAttention
from llmprof.latency.served_profile import (
    Conditions,
    HostConstant,
    Served,
    ServedFigures,
    ServedKernel,
    applied,
    host_of,
)
from llmprof.latency.served_profile import figures_of as as_figures
from llmprof.latency.serving.stacks import stack_of
from llmprof.latency.table import read
from llmprof.measure.calibration import served_clock
from llmprof.measure.calibration.served import MATRICES, WEIGHTS, Kind, ServedPoint, points, products, steps
from llmprof.measure.calibration.served_clock import IN_A_GRAPH, REPLAYS, Timed, spread, time_served
from llmprof.measure.calibration.served_ranks import SIZES, as_rank, time_all_reduce
from llmprof.profiling.served_calibration import (
    FORMS,
    Found,
    Launches,
    calibrate_served,
    catalogued,
    figures_of,
    model_of,
)
from llmprof.report.served_tables import points_csv

pytest.importorskip("scipy")

CPU = torch.device("cpu")
BF16 = torch.bfloat16
H200 = device.find("h200")


def stated(name: str, properties: object = None) -> ServedFigures:
    """The figures of a device, all of which are known."""
    found = figures_of(device.find(name), properties)
    assert not isinstance(found, str)
    return found


FIGURES = stated("h200")

MOVED = KernelConstants(
    op="elementwise",
    dtype="bf16",
    engine=None,
    form="plain",
    constants={"t0": 1.5, "e_b": 0.85, "hot": 0.4, "r_l2": 2.5},
    short=(1.0, 1.0),
    long=(1.0, 1.0),
)
STARTS = Launches(each=(5e-6, 5.2e-6, 4.9e-6), replay=(9e-6, 9.3e-6, 1e-5), within=1e-6)


def known(name: str, op: str, dtype: str = "bf16", form: str | None = None) -> KernelConstants:
    """The first constants of a device's file for this."""
    latency = device.find(name).latency
    assert latency is not None
    return next(each for each in latency.kernels if (each.op, each.dtype) == (op, dtype) and form in (None, each.form))


TRUTH = {
    "gemm": known("h200", "gemm"),
    "decode": known("a100-sxm-80gb", "decode"),
    "prefill": known("a100-sxm-80gb", "prefill"),
    "elementwise": MOVED,
}


def synthetic(noise: float, truth: dict[str, KernelConstants] = TRUTH, seed: int = 1) -> Callable[[ServedPoint], float]:
    """A clock on which each kernel takes what `truth` says, off by up to `noise`."""
    random = Random(seed)

    def timer(point: ServedPoint) -> float:
        bound = Bound(kernel=truth[point.kind], figures=as_figures(FIGURES))
        return kernel_seconds(point.op, bound) * random.uniform(1 - noise, 1 + noise)

    return timer


SOME = {"gemm": 40, "decode": 40, "prefill": 36, "elementwise": 33}
"""Of each kind, so many are fitted here: a fit of all takes twice as long."""


def some(*kinds: Kind) -> list[ServedPoint]:
    """The first of the set, in the order in which it is timed."""
    every = list(points(BF16))
    return [point for kind in kinds for point in spread([one for one in every if one.kind == kind])[: SOME[kind]]]


@pytest.fixture(scope="module")
def found() -> Found:
    """A part of the set in bf16, with 2% of noise."""
    part = some("gemm", "decode", "prefill", "elementwise")
    return calibrate_served(H200, FIGURES, part, synthetic(0.02), seconds=60, launches=lambda: STARTS)


def kernel(found: Found, op: str) -> ServedKernel:
    assert found.served is not None
    return next(each for each in found.served.kernels if each.op == op)


# --- the set ----------------------------------------------------------------------------------------


def test_the_set_has_every_size_once() -> None:
    every = list(points(BF16, fp8=True))
    assert len({(point.kernel, point.op) for point in every}) == len(every)
    # 10 rows x 8 matrices, in both formats; 4 x 5 x 4 steps; 4 x 5 x 3 prompts; 3 kinds x 11 sizes.
    assert Counter(point.kind for point in every) == {"gemm": 160, "decode": 80, "prefill": 60, "elementwise": 33}


@pytest.mark.parametrize("kind", ["gemm", "decode", "prefill", "elementwise"])
def test_small_points_launch_what_they_say(kind: Kind) -> None:
    own = [point for point in points(BF16) if point.kind == kind and point.flops < 10**8 and point.moved_bytes < 2**22]
    assert own
    for point in own[:6]:
        launch = point.make(CPU)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            launch()
        if kind == "gemm":
            assert counter.get_total_flops() == point.flops


def test_six_weights_are_multiplied_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = torch.mm

    def mm(x: torch.Tensor, w: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        seen.append(w.data_ptr())
        return real(x, w, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    launch = next(point for point in products(BF16) if point.op == Gemm(m=1, n=512, k=512, weight_copies=6)).make(CPU)
    for _ in range(2 * WEIGHTS):
        launch()
    assert seen[:WEIGHTS] == seen[WEIGHTS:]
    assert len(set(seen)) == WEIGHTS
    assert IN_A_GRAPH % WEIGHTS == 0


def test_no_wider_format_has_served_ops() -> None:
    with pytest.raises(ValueError, match="float32"):
        next(steps(torch.float32))


# --- the clock --------------------------------------------------------------------------------------


def test_the_first_points_are_of_all_sizes() -> None:
    every = list(products(BF16))
    order = spread(every)
    assert Counter(id(point) for point in order) == Counter(id(point) for point in every)
    few = [point.op for point in order[:20] if isinstance(point.op, Gemm)]
    assert {(op.n, op.k) for op in few} == set(MATRICES)
    assert min(op.m for op in few) == 1
    assert max(op.m for op in few) == 8192
    assert spread(every[:1]) == every[:1]


def timed(seconds: float, taking: dict[str, float]) -> Timed:
    """The set in bf16 where a point of a kind takes so long."""
    now = [0.0]

    def timer(point: ServedPoint) -> float:
        now[0] += taking.get(point.kind, 0.0)
        return 1e-6

    return time_served(list(points(BF16)), timer, seconds=seconds, now=lambda: now[0])


def test_each_kind_has_its_share_of_the_time_and_what_another_left() -> None:
    # 0.4 of 100 s for products at 1 s each: one more may begin when they are just over.
    kinds = Counter(sample.kind for sample in timed(100, dict.fromkeys(served_clock.SHARES, 1.0)).samples)
    assert kinds == {"gemm": 41, "decode": 25, "prefill": 25, "elementwise": 10}
    # Products and steps take nothing: prompts have all 90 s of the first three, and are done after 60.
    quick = timed(100, {"prefill": 1.0, "elementwise": 1.0})
    assert Counter(sample.kind for sample in quick.samples)["prefill"] == 60
    assert not quick.left_out
    slow = timed(100, {"gemm": 1.0})
    assert slow.left_out == {("gemm", "no time left"): 39}


def test_what_cannot_run_is_counted_and_ctrl_c_keeps_what_was_timed() -> None:
    every = list(points(BF16))
    count = 0

    def timer(point: ServedPoint) -> float:
        nonlocal count
        count += 1
        if point.kind == "gemm":
            raise RuntimeError("no kernel image\nis available")
        if point.kind == "decode" and isinstance(point.op, DecodeAttention) and point.op.batch == 512:
            raise MemoryError
        if count == 80 + 80 + 11:
            raise KeyboardInterrupt
        return 1e-6

    shown: list[tuple[str, int, int]] = []
    found = time_served(every, timer, seconds=60, progress=lambda *at: shown.append(at))
    assert found.interrupted
    assert Counter(sample.kind for sample in found.samples) == {"decode": 60, "prefill": 10}
    assert found.left_out == {
        ("gemm", "no kernel image"): 80,
        ("decode", "no memory left"): 20,
        ("prefill", "interrupted"): 1 + 49,
        ("elementwise", "interrupted"): 33,
    }
    assert shown[79] == ("gemm", 80, 80)


@pytest.mark.parametrize(
    ("once", "inside", "replays"),
    [(5e-6, 24, 30), (1e-3, 24, 30), (2e-3, 6, 30), (0.01, 6, 17), (0.1, 1, 10), (1.0, 1, 5), (0.0, 24, 30)],
)
def test_long_kernels_are_replayed_less_often(once: float, inside: int, replays: int) -> None:
    # 1 s for all launches: 24 x 30 of 1 ms are 0.72 s; of 10 ms, 1 / (6 x 0.01) = 16.7 replays; no fewer than 5, and of
    # 0.1 s one by one, as 6 x 5 would take 3 s.
    assert served_clock.plan(once) == (inside, replays)
    assert replays <= REPLAYS


# --- the fit ----------------------------------------------------------------------------------------


def test_known_constants_are_found_again(found: Found) -> None:
    assert found.notes == []
    assert found.served is not None
    assert (found.served.device, found.served.figures) == ("h200", FIGURES)
    product = kernel(found, "gemm")
    assert product.timed == 40
    for name, tolerance in (("t0", 0.1), ("e_c", 0.05), ("e_b", 0.05)):
        assert product.constants[name] == pytest.approx(TRUTH["gemm"].constants[name], rel=tolerance)
    for name in ("t0", "e_b", "hot", "r_l2"):
        assert kernel(found, "elementwise").constants[name] == pytest.approx(MOVED.constants[name], rel=0.1)
    for op in ("gemm", "decode", "prefill", "elementwise"):
        # Noise is even within 2%: half of it is beyond 1%, and nothing beyond 2% but for what the fit adds.
        each = kernel(found, op)
        assert each.median_error < 0.02
        assert each.p90_error < 0.05
        assert 0.9 < each.short[0] <= 1 <= each.short[1] < 1.1
        assert 0.9 < each.long[0] <= 1 <= each.long[1] < 1.1


def test_the_form_is_that_of_the_times(found: Found) -> None:
    assert kernel(found, "decode").form == TRUTH["decode"].form == "unsplit-mha"
    assert kernel(found, "prefill").form == TRUTH["prefill"].form == "per-head"
    other = {**TRUTH, "decode": known("h200", "decode"), "prefill": known("h200", "prefill")}
    again = calibrate_served(H200, FIGURES, some("decode", "prefill"), synthetic(0.01, other), seconds=60)
    assert (kernel(again, "decode").form, kernel(again, "prefill").form) == ("split", "packed")


def test_every_form_has_constants_in_the_catalogue_to_begin_at() -> None:
    forms = {
        (each.op, each.form)
        for entry in device.entries()
        if entry.latency is not None
        for each in entry.latency.kernels
        if each.dtype == "bf16"
    }
    assert {(op, form) for op, names in FORMS.items() if op != "elementwise" for form in names} <= forms


def test_too_few_times_are_not_fitted_and_what_there_is_is_kept() -> None:
    few = [*list(products(BF16))[::8], *(point for point in points(BF16) if point.kind == "elementwise")]
    found = calibrate_served(H200, FIGURES, few, synthetic(0.0), seconds=60)
    assert [each.op for each in found.served.kernels] == ["elementwise"] if found.served else False
    assert len(found.timed) == 10 + 33
    (note,) = found.notes
    assert note == "gemm bf16: found 10 times, expected at least 20; not fitted"
    none = calibrate_served(H200, FIGURES, few[:5], synthetic(0.0), seconds=60)
    assert none.served is None


def test_an_interruption_leaves_a_fit_of_what_was_timed() -> None:
    clock, count = synthetic(0.0), 0

    def timer(point: ServedPoint) -> float:
        nonlocal count
        count += 1
        if count > 30:
            raise KeyboardInterrupt
        return clock(point)

    moved = [point for point in points(BF16) if point.kind == "elementwise"]
    found = calibrate_served(H200, FIGURES, moved, timer, seconds=60, launches=lambda: STARTS)
    assert found.interrupted
    assert found.launches is None
    assert kernel(found, "elementwise").timed == 30
    assert found.notes == ["elementwise: 3 of 33 points not timed: interrupted"]


def test_whoever_stops_what_comes_after_the_kernels_keeps_those() -> None:
    def stopped() -> Launches:
        raise KeyboardInterrupt

    found = calibrate_served(H200, FIGURES, some("elementwise"), synthetic(0.0), seconds=60, launches=stopped)
    assert found.interrupted
    assert kernel(found, "elementwise").timed == 33


def test_all_reduce_is_fitted_for_the_groups_that_met() -> None:
    truth = known("h100-sxm-80gb", "allreduce")
    figures = as_figures(FIGURES, link=truth.constants["link"] * 1e9)

    def launcher(ranks: int, entry: object, backend: str, sizes: tuple[int, ...]) -> dict[int, list[float]]:
        assert (entry, backend) == (as_rank, "nccl")
        if ranks == 8:
            raise RuntimeError("a rank is gone\nand more")
        bound = Bound(kernel=truth, figures=figures)
        times = [kernel_seconds(Collective(bytes=size, devices=ranks), bound) for size in sizes]
        # The slowest rank counts: the others are half as long.
        return {rank: [seconds / (1 if rank == ranks - 1 else 2) for seconds in times] for rank in range(ranks)}

    found = calibrate_served(
        H200, FIGURES, [], synthetic(0.0), seconds=60, collectives=lambda: time_all_reduce(8, launcher)
    )
    assert found.notes == ["all-reduce among 8 GPUs could not be timed: a rank is gone"]
    reduced = kernel(found, "allreduce")
    assert (reduced.engine, reduced.timed) == ("torch", 2 * len(SIZES))
    names = [f"{name}_{n}" for name in ("a1", "c1", "a2", "c2") for n in (2, 4)]
    assert set(reduced.constants) == {*names, "link"}
    for name in names:
        assert reduced.constants[name] == pytest.approx(truth.constants[name], rel=0.02)
    assert found.served is not None
    made = estimate(Collective(bytes=1 << 24, devices=2, engine="torch"), model_of(found.served))
    assert made.basis == "calibrated"
    expected = kernel_seconds(Collective(bytes=1 << 24, devices=2), Bound(kernel=truth, figures=figures))
    assert made.seconds == pytest.approx(expected, rel=0.02)
    assert "allreduce,h200,torch,bfloat16" in points_csv("h200", found.timed)


def test_a_rank_times_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of one over gloo, in this process."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "0")):
        monkeypatch.setenv(name, value)
    times = as_rank("gloo", SIZES[:3])
    assert len(times) == 3
    assert all(seconds > 0 for seconds in times)


def test_starts_are_the_middle_of_their_repetitions(found: Found) -> None:
    start = kernel(found, "launch")
    assert start.constants == pytest.approx({"t_launch": 5.0, "t_replay": 9.3, "t_within": 1.0})
    assert start.short == start.long == pytest.approx((9 / 9.3, 10 / 9.3))


# --- predictions ------------------------------------------------------------------------------------


def test_predictions_on_that_device_are_those_of_the_measured_constants(found: Found) -> None:
    assert found.served is not None
    model = model_of(found.served)
    for op in (
        Gemm(m=64, n=4096, k=4096),
        Gemm(m=64, n=4096, k=4096, engine="vllm"),
        DecodeAttention(batch=8, context=1024, heads=32, kv_heads=8, head_dim=128),
        PrefillAttention(batch=1, new_tokens=4096, heads=32, kv_heads=8, head_dim=128, engine="torch"),
        Elementwise(bytes=1 << 30),
        Launch(kernels=100, graph=False),
    ):
        kind = {Gemm: "gemm", DecodeAttention: "decode", PrefillAttention: "prefill", Elementwise: "elementwise"}
        own = kernel(found, kind.get(type(op), "launch"))
        made = estimate(op, model)
        assert made.basis == "calibrated"
        assert made.seconds == pytest.approx(kernel_seconds(op, Bound(kernel=own.kernel, figures=model.figures)))
    assert estimate(Launch(kernels=100, graph=False), model).seconds == pytest.approx(100 * 5e-6)
    assert estimate(Launch(kernels=100), model).seconds == pytest.approx(9.3e-6)
    # What engines carry of their own was not timed: it stays the catalogue's.
    step = DecodeAttention(batch=8, context=1024, heads=32, kv_heads=8, head_dim=128, engine="vllm")
    assert estimate(step, model) == estimate(step, DeviceModel.of("h200"))
    assert model_of(found.served).constants("moe", "bf16", "vllm") is not None


def test_a_device_model_of_a_profile_is_made_once(found: Found) -> None:
    assert found.served is not None
    measured = applied(found.served, H200)
    assert DeviceModel.of(measured) is DeviceModel.of(measured)
    assert DeviceModel.of(H200) is not DeviceModel.of(measured)


def test_points_are_written_as_verify_reads_them(found: Found, tmp_path: Path) -> None:
    place = tmp_path / "points.csv"
    place.write_text(points_csv("h200", found.timed))
    table = read(place)
    assert table.problems == ()
    written = [sample for sample in found.timed if sample.kind != "elementwise"]
    assert len(table.rows) == len(written) == 40 + 40 + 36
    for row, sample in zip(table.rows, written, strict=True):
        expected = replace(sample.op, engine="torch") if isinstance(sample.op, Gemm) else sample.op
        assert row.op == expected
        assert row.measured == pytest.approx(sample.seconds * 1e6, rel=1e-5)


# --- the file ---------------------------------------------------------------------------------------

SERVED = Served(
    device="h200",
    measured="2026-11-30",
    figures=FIGURES,
    conditions=Conditions(driver="580.1", sm_clock_mhz=(1500, 1980), power_mw=690_000, kernels={"mm": ("gemm",)}),
    kernels=(
        ServedKernel(
            op="gemm",
            dtype="bf16",
            form="searched",
            constants=known("h200", "gemm").constants,
            short=(0.9, 1.1),
            long=(0.8, 1.2),
            timed=80,
            median_error=0.03,
            p90_error=0.1,
        ),
    ),
)
HOST = HostConstant(
    engine="vllm", version="0.11.0", device="h200", step_s=4e-3, points=4, mean_error=0.03, largest_error=0.1
)
PROFILE = Profile(
    device=Identity(kind="cuda", name="NVIDIA H200"),
    measured="2026-11-30",
    torch="2.13.0",
    models={},
    served=SERVED,
    hosts=(HOST,),
)


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = tmp_path / "x.yaml"
    place.write_text(text(PROFILE))
    assert load(place) == PROFILE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("t_s: ", "zz: ", "served.kernels[0].constants: found a mapping; expected the constants of gemm searched: t_s"),
        ("p: 6", "p: 0.0 #", "they make no time"),
        ("- 0.9\n", "- 1.9\n", "served.kernels[0].short"),
        ("- 0.8\n", "", "served.kernels[0].long"),
        ("timed: 80", "timed: 0", "served.kernels[0].timed: found 0"),
        ("op: gemm", "op: gem", "did you mean 'gemm'?"),
        ("- 1500", "- 2500", "served.conditions.sm_clock_mhz"),
        ("units: 132", "units: 0", "served.figures.units"),
        ("step_s: 0.004", "step_s: -1", "hosts[0].step_s"),
        ("driver: ", "drive: ", "drive"),
    ],
)
def test_a_profile_that_was_edited_wrongly_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in text(PROFILE)
    place = tmp_path / "x.yaml"
    place.write_text(text(PROFILE).replace(old, new, 1))
    with pytest.raises(LlmprofError) as error:
        load(place)
    assert message in str(error.value)
    assert "x.yaml:" in str(error.value)


def test_one_kernel_and_one_host_stand_once(tmp_path: Path) -> None:
    place = tmp_path / "x.yaml"
    twice = replace(SERVED, kernels=SERVED.kernels * 2)
    place.write_text(text(replace(PROFILE, served=twice)))
    with pytest.raises(LlmprofError, match="one entry for each op, dtype and engine"):
        load(place)
    place.write_text(text(replace(PROFILE, hosts=(HOST, HOST))))
    with pytest.raises(LlmprofError, match=r"hosts\[1\].engine: .* one entry for each engine, version and device"):
        load(place)


def test_what_was_not_measured_anew_stays() -> None:
    assert SERVED.kernels[0].constants
    half = replace(SERVED.kernels[0], dtype="fp16")
    later = replace(PROFILE, measured="2026-12-01", served=replace(SERVED, kernels=(half,)), hosts=())
    both = merged(later, PROFILE)
    assert both.served is not None
    assert [each.dtype for each in both.served.kernels] == ["fp16", "bf16"]
    assert both.hosts == (HOST,)
    assert both.measured == "2026-11-30"  # no kernel of a dtype was timed anew: the day is that of those that were
    assert merged(replace(later, served=None), PROFILE).served == SERVED
    elsewhere = replace(PROFILE, device=Identity(kind="cuda", name="another"))
    assert merged(later, elsewhere) == later
    figures = replace(FIGURES, units=100)
    newer = replace(later, served=replace(SERVED, kernels=(half,), figures=figures))
    joined = merged(newer, PROFILE).served
    assert joined is not None
    assert [each.dtype for each in joined.kernels] == ["fp16"]
    slower = replace(HOST, step_s=5e-3)
    assert merged(replace(later, hosts=(slower,)), PROFILE).hosts == (slower,)


def test_constants_that_refer_to_other_figures_are_refused() -> None:
    with pytest.raises(InputError, match="no longer those of the catalogue"):
        Local.of(replace(PROFILE, served=replace(SERVED, figures=replace(FIGURES, units=100))))


def test_a_host_is_that_of_its_engine_version_and_device() -> None:
    local = Local.of(PROFILE)
    vllm = stack_of("vllm", "0.11.0")
    for version in ("0.11.0", ""):
        own = local.stack(vllm, version, H200)
        assert own.host.step_seconds == pytest.approx(4e-3)
        assert own.host.basis == "fitted to 4 served points of vllm 0.11.0 on h200"
    for stack, version, name in ((vllm, "0.12", "h200"), (vllm, "0.11.0", "b200"), (stack_of("sglang"), "", "h200")):
        assert local.stack(stack, version, device.find(name)) is stack
    two = (HOST, replace(HOST, version="0.12.0"))
    with pytest.raises(InputError, match=r"vllm 0\.11\.0, 0\.12\.0 on h200"):
        host_of(two, "vllm", "", "h200")
    assert NOTHING.device(H200) is H200


# --- whose figures ----------------------------------------------------------------------------------


class Properties:
    """What a driver says."""

    multi_processor_count = 142
    L2_cache_size = 50_331_648
    clock_rate = 2_520_000


def test_figures_are_the_catalogues_and_the_drivers_where_it_is_silent() -> None:
    bare = replace(device.find("l40s"), latency=None)
    found = figures_of(bare, Properties())
    assert not isinstance(found, str)
    assert found.units == 142
    assert found.last_level_cache == 50_331_648  # the file of that device leaves it out
    assert found.bf16 == bare.figures["peak_flops.bf16"].value
    nobody = figures_of(replace(bare, peak_flops={}), Properties())
    assert nobody == "l40s: nobody says its bf16, which constants of served ops are fractions of"


def test_a_cpu_has_no_served_ops() -> None:
    assert "timed on a GPU" in str(catalogued(CPU))


@pytest.mark.parametrize(("driver", "name"), [("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb")])
def test_a_gpu_is_that_of_its_drivers_name(monkeypatch: pytest.MonkeyPatch, driver: str, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: driver)
    found = catalogued(torch.device("cuda"))
    assert not isinstance(found, str)
    assert found.name == name
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    assert "no device of the catalogue is called 'Some GPU'" in str(catalogued(torch.device("cuda")))
