"""`llmprof calibrate`, on a few small kernels, and the times that `profile` predicts with what it wrote."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llmprof import device as catalogue
from llmprof.latency import eager_fit
from llmprof.latency.device_profile import load
from llmprof.latency.serving.stacks import VLLM
from llmprof.measure.calibration import kernels
from llmprof.measure.calibration.kernels import Point
from llmprof.measure.calibration.served import ServedPoint, movers, products
from llmprof.profiling import calibration, served_calibration, served_local, small_passes
from llmprof.profiling.served_calibration import Found, Launches, calibrate_served, figures_of
from llmprof.workload import ComputeDtype
from tests.cli.conftest import Cli, Done
from tests.sharded_specs import HEADER, SPECS

QUICK = ("calibrate", "--device", "cpu", "--seconds", "0.2")


REAL = calibration.calibrate
KNOWN: dict[str, calibration.Calibrated] = {}


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest points of every kind, timed once in each dtype: what is tested is no time."""
    every = kernels.points

    def few(dtype: torch.dtype, device: torch.device) -> Iterator[Point]:
        return (point for point in every(dtype, device) if point.work.bytes < 2_000_000 and point.work.flops < 10**8)

    def once(device: torch.device, dtype: ComputeDtype, **rest: Any) -> calibration.Calibrated:
        if dtype not in KNOWN:
            KNOWN[dtype] = REAL(device, dtype, **rest)
        return KNOWN[dtype]

    monkeypatch.setattr(kernels, "points", few)
    monkeypatch.setattr(kernels, "COLD_BYTES", 8 * 2**20)
    monkeypatch.setattr(eager_fit, "FOLDS", 2)
    monkeypatch.setattr(small_passes, "WIDE", 64)
    monkeypatch.setattr(small_passes, "SIZES", ((1, 1, 16), (2, 16, 16)))
    monkeypatch.setattr(small_passes, "PASSES", 1)
    monkeypatch.setattr(calibration, "calibrate", once)


@pytest.fixture
def profile_small(cli: Cli, tmp_path: Path) -> Cli:
    """`profile` of a step of a model with layers like those of GPT-2, for the words that follow."""
    place = tmp_path / "learned.yaml"
    place.write_text(SPECS["learned"] + HEADER)

    def call(*words: str) -> Done:
        step = ("--layers", "1", "--context", "8", "--phase", "decode", "--seconds", "5", "--no-referees")
        return cli("profile", str(place), "--device", "cpu", *step, *words)

    return call


def test_a_profile_is_written_where_later_commands_find_it(cli: Cli, profile_small: Cli, tmp_path: Path) -> None:
    done = cli(*QUICK)
    assert done.code == 0
    (written,) = (tmp_path / "configuration" / "llmprof" / "devices").iterdir()
    assert done.err.rstrip().endswith(f"written: {written}")
    assert "in bf16:" in done.out
    assert "median error" in done.out
    assert "Inside a pass" in done.out
    profile = load(written)
    inside = profile.models["bf16"].in_pass
    assert inside is not None
    assert set(inside.leaves) == {"mover", "product", "fused core", "unfused core", "rope", "cache", "embed"}
    assert inside.passes == 3 * 2 * 2  # models, sizes, attentions
    assert set(profile.models) == {"bf16"}
    assert profile.device.threads == torch.get_num_threads()
    assert {family for family, _ in profile.models["bf16"].constants} == {"matmul", "batched", "core", "memory"}

    timed = profile_small("--format", "json")
    assert timed.code == 0
    assert not any("constants of torch" in note for note in timed.json["results"][0]["notes"])
    fused, unfused = timed.json["results"][0]["timings"]
    for timing in (fused, unfused):
        made = timing["predicted"]
        assert 0 < made["low_s"] <= made["seconds"] <= made["high_s"]
        assert made["ratio"] == pytest.approx(made["seconds"] / (timing["warm"]["median_ns"] / 1e9))
        assert made["bound"] == "device"
        assert len(made["contributors"]) == 3
        gaps = [abs(each["seconds"] - each["measured_s"]) for each in made["contributors"]]
        assert gaps == sorted(gaps, reverse=True)
    other = profile_small("--attention", "fused", "--dtype", "fp32")
    assert "calibrated in bf16; run `llmprof calibrate --dtype fp32`" in " ".join(other.out.split())


def test_a_named_file_keeps_the_dtypes_that_it_has(cli: Cli, profile_small: Cli, tmp_path: Path) -> None:
    place = tmp_path / "mine.yaml"
    first = cli(*QUICK, "--output", str(place), "--format", "json")
    assert first.code == 0
    assert first.json["profile"] == str(place)
    assert {record["dtype"] for record in first.json["results"]} == {"bf16"}
    leaves = {record["leaf"]: record for record in first.json["in_pass"]}
    inside = load(place).models["bf16"].in_pass
    assert inside is not None
    assert leaves["mover"]["factor"] == pytest.approx(inside.leaves["mover"].factor, rel=1e-5)
    assert leaves["rope"]["median_error"] == pytest.approx(inside.error, rel=1e-5)
    again = cli(*QUICK, "--dtype", "fp32", "--output", str(place), "--format", "csv")
    assert again.code == 0
    assert again.out.startswith("device,dtype,family,kind,launch_s")
    assert set(load(place).models) == {"bf16", "fp32"}
    place.write_text(re.sub("torch: .*", "torch: 1.0.0", place.read_text()))
    shown = profile_small("--attention", "fused", "--device-profile", str(place))
    assert shown.code == 0
    assert "with constants of torch 1.0.0, and this is " in " ".join(shown.out.split())
    assert "Predicted times" in shown.out
    assert "Where predicted and measured times differ most" in shown.out


def test_what_lies_there_is_kept_or_written_anew(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile of another device is not overwritten, one of another version is, and Ctrl-C keeps whole dtypes."""
    place = tmp_path / "mine.yaml"
    words = (*QUICK, "--output", str(place))
    assert cli(*words).code == 0
    text = place.read_text()
    place.write_text(text.replace("schema_version: 2", "schema_version: 1"))
    assert (cli(*words).code, [*load(place).models]) == (0, ["bf16"])
    other = text.replace("  name: ", "  name: Not ")
    place.write_text(other)
    done = cli(*words)
    assert (done.code, place.read_text()) == (2, other)
    assert "this is the profile of Not " in done.err

    def stopped(device: torch.device, dtype: ComputeDtype, **rest: Any) -> calibration.Calibrated:
        if dtype == "fp32":
            raise KeyboardInterrupt
        return KNOWN[dtype]

    monkeypatch.setattr(calibration, "calibrate", stopped)
    place.unlink()
    done = cli(*words, "--dtype", "bf16,fp32")
    assert (done.code, [*load(place).models]) == (130, ["bf16"])
    assert f"written: {place}, with bf16" in done.err


def test_a_device_without_a_profile_has_no_predicted_times_and_says_why(profile_small: Cli) -> None:
    done = profile_small("--attention", "fused", "--format", "json")
    (result,) = done.json["results"]
    assert "predicted" not in result["timings"][0]
    assert "times are not predicted: this device is not calibrated; run `llmprof calibrate`" in result["notes"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--device", "meta"), 2, "meta"),
        (("--device", "tpu"), 2, "tpu"),
        (("--dtype", "fp8"), 2, "fp8"),
        (("--dtype", ""), 2, "--dtype"),
        (("--seconds", "0"), 2, "nothing would be timed"),
        (("--seconds", "-1"), 2, "--seconds"),
        (("--seconds", "nan"), 2, "--seconds"),
        (("--format", "xml"), 2, "--format"),
        (("--output", "/no/such/place/x.yaml"), 2, "there is no directory"),
        (("--device", "cpu", "--points", "x.csv"), 3, "served ops are timed on a GPU"),
        (("--served-points", "/no/such/file.csv"), 2, "/no/such/file.csv"),
    ],
)
def test_wrong_input(cli: Cli, words: tuple[str, ...], code: int, message: str) -> None:
    done = cli("calibrate", *words)
    assert (done.code, done.out) == (code, "")
    assert message in done.err


def test_a_file_that_is_no_profile_is_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "notes.yaml"
    place.write_text("shopping: [milk]\n")
    done = cli(*QUICK, "--output", str(place))
    assert done.code == 2
    assert "notes.yaml:1:1" in done.err
    assert place.read_text() == "shopping: [milk]\n"


def test_without_scipy_there_is_the_line_that_installs_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "scipy":
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return real(name, *rest)  # type: ignore[arg-type]

    for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("llmprof.profiling.calibration.import_module", lambda name: without(name))
    done = cli(*QUICK)
    assert done.code == 3
    assert "pip install 'llmprof[calibrate]'" in done.err


def test_a_profile_that_is_named_and_wrong_is_refused_before_anything_runs(cli: Cli, tmp_path: Path) -> None:
    done = cli("profile", "gpt2", "--device", "cpu", "--device-profile", str(tmp_path / "none.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "none.yaml" in done.err
    (tmp_path / "empty.yaml").write_text("")
    done = cli("profile", "gpt2", "--device", "cpu", "--device-profile", str(tmp_path / "empty.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "'device:' and 'dtypes:'" in done.err
    done = cli("profile", "gpt2", "--device", "meta", "--device-profile", str(tmp_path / "none.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "on meta nothing takes time" in done.err


RUNS = """backend,backend_version,model_path,system,isl,osl,batch_size,tp_size,silicon_tpot_ms
vllm,0.19.0,meta-llama/Llama-3.1-8B-Instruct,h100_sxm,1024,64,{batch},1,{tpot}
"""


def served_runs(place: Path, *, host_ms: float, cli: Cli) -> None:
    """Runs whose times per token are the predicted ones, and so many milliseconds for each pass in place of its own."""
    lines = [RUNS.format(batch=batch, tpot="").strip().splitlines() for batch in (1, 8)]
    place.write_text("\n".join([lines[0][0], lines[0][1], lines[1][1]]) + "\n")
    done = cli("verify", "--serving", str(place))
    columns, *rows = [line.split(",") for line in done.out.splitlines()]
    at = columns.index("pred_tpot_ms")
    text = [lines[0][0]]
    for row, (_, line) in zip(rows, lines, strict=True):
        text.append(f"{line}{float(row[at]) - 1e3 * VLLM.host.step_seconds + host_ms:.6f}")
    place.write_text("\n".join(text) + "\n")


def test_served_points_give_a_host_its_own_constant(cli: Cli, tmp_path: Path) -> None:
    points, place = tmp_path / "runs.csv", tmp_path / "profile.yaml"
    served_runs(points, host_ms=2.0, cli=cli)
    words = ("calibrate", "--device", "cpu", "--seconds", "0", "--served-points", str(points), "--output", str(place))
    done = cli(*words, "--format", "json")
    assert done.code == 0
    assert done.json["results"] == []
    (host,) = done.json["deployments"]
    assert (host["device"], host["engine"], host["version"], host["points"]) == ("h100-sxm-80gb", "vllm", "0.19.0", 2)
    assert host["step_s"] == pytest.approx(2e-3, rel=0.05)
    assert load(place).hosts[0].step_s == pytest.approx(host["step_s"], rel=1e-5)
    assert "served points" in cli(*words).out

    plain = cli("verify", "--serving", str(points), "--output", str(tmp_path / "a.csv"), "--format", "json")
    own = cli("verify", "--serving", str(points), "--output", str(tmp_path / "b.csv"), "--format", "json",
              "--device-profile", str(place))  # fmt: skip
    assert own.code == 0
    errors = [next(each for each in done.json["errors"] if each["rows"] == "all") for done in (plain, own)]
    assert errors[1]["tpot_mean"] < 2 < errors[0]["tpot_mean"]


def test_wrong_served_points_are_refused_before_anything_is_timed(cli: Cli, tmp_path: Path) -> None:
    points, place = tmp_path / "runs.csv", tmp_path / "profile.yaml"
    for text, message in (
        (RUNS.format(batch="many", tpot=8), "line 2: batch_size"),
        (RUNS.format(batch=1, tpot=""), "no row has a measured time per token"),
    ):
        points.write_text(text)
        done = cli(*QUICK, "--served-points", str(points), "--output", str(place))
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert not place.exists()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Served ops of a GPU that is none, on a synthetic clock. The list says whether somebody stops it half-way."""
    stops = [False]
    h200 = catalogue.find("h200")
    figures = figures_of(h200, None)
    assert not isinstance(figures, str)

    def local(*_: object, **__: object) -> Found:
        asked: list[ServedPoint] = []

        def timer(point: ServedPoint) -> float:
            asked.append(point)
            if stops[0] and len(asked) > 23:
                raise KeyboardInterrupt
            return 2e-6 + point.moved_bytes / 4e12

        starts = Launches(each=(5e-6, 6e-6), replay=(9e-6, 9e-6), within=1e-6)
        few = [*list(products(torch.bfloat16))[:3], *movers(torch.bfloat16)]
        return calibrate_served(h200, figures, few, timer, seconds=9, launches=lambda: starts)

    monkeypatch.setattr(served_local, "calibrate_local", local)
    monkeypatch.setattr(served_calibration, "catalogued", lambda device: h200)
    monkeypatch.setattr("llmprof.cli.calibrate._check_points", lambda *_: None)
    return stops


@pytest.mark.usefixtures("gpu")
def test_served_ops_are_shown_written_and_used(cli: Cli, tmp_path: Path) -> None:
    place, points = tmp_path / "gpu.yaml", tmp_path / "points.csv"
    words = (*QUICK, "--output", str(place), "--points", str(points))
    done = cli(*words)
    assert done.code == 0
    assert "h200 as `plan` and `verify` see it" in done.out
    assert "gemm bf16: found 3 times, expected at least 20; not fitted" in " ".join(done.out.split())
    served = load(place).served
    assert served is not None
    assert {each.op for each in served.kernels} == {"elementwise", "launch"}
    moved = next(each for each in served.kernels if each.op == "elementwise")
    assert moved.constants["t0"] == pytest.approx(2, rel=0.05)

    # Of the three products no constants were fitted: they are held against the catalogue's.
    assert len(points.read_text().splitlines()) == 1 + 3
    held = cli("verify", "--ops", str(points), "--device-profile", str(place))
    assert (held.code, len(held.out.splitlines())) == (0, 1 + 3)

    again = cli(*words, "--format", "json")
    families = {record["family"]: record for record in again.json["served"]}
    assert families.keys() == {"served elementwise", "served launch"}
    assert families["served launch"]["launch_s"] == pytest.approx(5.5e-6)
    assert any("not fitted" in note for note in again.json["notes"])
    assert again.json["profile_text"] == place.read_text()
    assert "served elementwise" in cli(*words, "--format", "csv").out


def test_who_stops_it_keeps_what_was_timed(cli: Cli, tmp_path: Path, gpu: list[bool]) -> None:
    gpu[0] = True
    place, points = tmp_path / "gpu.yaml", tmp_path / "points.csv"
    done = cli(*QUICK, "--output", str(place), "--points", str(points))
    assert done.code == 130
    assert "elementwise: 13 of 33 points not timed: interrupted" in " ".join(done.out.split())
    profile = load(place)
    assert set(profile.models) == {"bf16"}
    assert profile.served is not None
    assert [(each.op, each.timed) for each in profile.served.kernels] == [("elementwise", 20)]
    assert len(points.read_text().splitlines()) == 1 + 3


def test_a_profile_without_anything_for_verify_is_refused(cli: Cli, tmp_path: Path) -> None:
    place, points = tmp_path / "cpu.yaml", tmp_path / "points.csv"
    assert cli(*QUICK, "--output", str(place)).code == 0
    points.write_text("row_id,op,device,m,n,k\n1,gemm,h200,1,2,3\n")
    done = cli("verify", "--ops", str(points), "--device-profile", str(place))
    assert (done.code, done.out) == (2, "")
    assert "no constants of served ops" in done.err
    idle = cli("verify", "--device-profile", str(place))
    assert (idle.code, idle.out) == (2, "")
    assert "no effect without --ops or --serving" in idle.err
