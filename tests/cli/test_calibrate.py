"""`llmprof calibrate`, on a few small kernels, and the times that `profile` predicts with what it wrote."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llmprof.latency.device_profile import load
from llmprof.measure.calibration import kernels
from llmprof.measure.calibration.kernels import Point
from tests.cli.conftest import Cli

QUICK = ("calibrate", "--device", "cpu", "--seconds", "0.2")


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest points of every kind: what is tested is no time."""
    every = kernels.points

    def few(dtype: torch.dtype, device: torch.device) -> Iterator[Point]:
        return (
            point for point in every(dtype, device) if point.work.bytes < 9_000_000 and point.work.flops < 4 * 10**8
        )

    monkeypatch.setattr(kernels, "points", few)
    monkeypatch.setattr(kernels, "COLD_BYTES", 8 * 2**20)


def test_a_profile_is_written_where_later_commands_find_it(cli: Cli, tmp_path: Path) -> None:
    done = cli(*QUICK)
    assert done.code == 0
    (written,) = (tmp_path / "configuration" / "llmprof" / "devices").iterdir()
    assert done.err.rstrip().endswith(f"written: {written}")
    assert "in bf16:" in done.out
    assert "median error" in done.out
    profile = load(written)
    assert set(profile.models) == {"bf16"}
    assert profile.device.threads == torch.get_num_threads()
    assert {family for family, _ in profile.models["bf16"].constants} == {"matmul", "batched", "core", "memory"}

    timed = cli("profile", "gpt2", "--device", "cpu", "--layers", "1", "--context", "8", "--phase", "decode",
                "--seconds", "0.3", "--no-referees", "--format", "json")  # fmt: skip
    assert timed.code == 0
    fused, unfused = timed.json["results"][0]["timings"]
    for timing in (fused, unfused):
        made = timing["predicted"]
        assert 0 < made["low_s"] <= made["seconds"] <= made["high_s"]
        assert made["ratio"] == pytest.approx(made["seconds"] / (timing["warm"]["median_ns"] / 1e9))
        assert made["bound"] == "device"
        assert len(made["contributors"]) == 3
        gaps = [abs(each["seconds"] - each["measured_s"]) for each in made["contributors"]]
        assert gaps == sorted(gaps, reverse=True)
    other = cli("profile", "gpt2", "--device", "cpu", "--layers", "1", "--context", "8", "--phase", "decode",
                "--attention", "fused", "--seconds", "0.3", "--no-referees", "--dtype", "fp32")  # fmt: skip
    assert "calibrated in bf16; run `llmprof calibrate --dtype fp32`" in " ".join(other.out.split())


def test_a_named_file_keeps_the_dtypes_that_it_has(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "mine.yaml"
    first = cli(*QUICK, "--output", str(place), "--format", "json")
    assert first.code == 0
    assert first.json["profile"] == str(place)
    assert {record["dtype"] for record in first.json["results"]} == {"bf16"}
    again = cli(*QUICK, "--dtype", "fp32", "--output", str(place), "--format", "csv")
    assert again.code == 0
    assert again.out.startswith("device,dtype,family,kind,launch_s")
    assert set(load(place).models) == {"bf16", "fp32"}
    shown = cli("profile", "gpt2", "--device", "cpu", "--layers", "1", "--context", "8", "--phase", "decode",
                "--attention", "fused", "--seconds", "0.3", "--no-referees", "--device-profile", str(place))  # fmt: skip
    assert shown.code == 0
    assert "Predicted times" in shown.out
    assert "Where predicted and measured times differ most" in shown.out


def test_a_device_without_a_profile_has_no_predicted_times_and_says_why(cli: Cli) -> None:
    done = cli("profile", "gpt2", "--device", "cpu", "--layers", "1", "--context", "8", "--phase", "decode",
               "--attention", "fused", "--seconds", "0.3", "--no-referees", "--format", "json")  # fmt: skip
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
