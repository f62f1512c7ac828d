"""`llmprof profile --counters` on a machine without a GPU: what it refuses, and how counters change code and formats."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from llmprof.ledger import Verdict
from llmprof.profiling import Request, Result
from llmprof.profiling.counter_rows import CounterRow
from llmprof.profiling.counters import Counters
from tests.cli.conftest import Cli

SMALL = ("profile", "gpt2", "--context", "16", "--layers", "1", "--phase", "decode", "--no-referees")
META = (*SMALL, "--device", "meta")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ("--device", "meta", "--counters", "ncu"),
            3,
            "--counters ncu reads the counters of a CUDA device, and --device",
        ),
        (("--device", "cpu", "--counters", "nvml"), 3, "use --device cuda, or --counters none"),
        (("--device", "cuda", "--counters", "ncu"), 3, "device 'cuda' is not there"),
        (
            ("--device", "meta", "--counters", "all"),
            2,
            "--counters: found 'all'; expected auto, ncu, cupti, nvml or none",
        ),
        (("--device", "meta", "--caches", "hot"), 2, "--caches: found 'hot'; expected cold or warm"),
        (
            ("--device", "meta", "--caches", "warm"),
            2,
            "--caches has no effect: no counters are read (--counters auto, meta)",
        ),
        (("--counters", "none", "--device-spec", "gb200"), 2, "the size of the last-level cache of gb200 is not known"),
        (("--counters", "nvml", "--caches", "warm"), 2, "--caches has no effect on --counters nvml"),
        (("--device-spec", "h100"), 2, "no device is called 'h100'"),
    ],
)
def test_what_is_refused_before_anything_runs(cli: Cli, options: tuple[str, ...], code: int, message: str) -> None:
    done = cli(*SMALL, *options)
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_an_automatic_device_without_a_gpu_is_refused_by_what_it_turns_out_to_be(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("llmprof.measure.device.resolve_device", lambda choice, **rest: torch.device("cpu"))
    done = cli(*SMALL, "--counters", "ncu")
    assert (done.code, "and --device is cpu" in done.err) == (3, True)


def test_training_has_no_counters(cli: Cli) -> None:
    train = ("profile", "gpt2", "--objective", "auto", "--context", "16", "--layers", "1", "--device", "meta")
    for option, value in (("--counters", "ncu"), ("--caches", "warm"), ("--device-spec", "h200")):
        done = cli(*train, option, value)
        assert (done.code, f"{option} has no effect on a training pass" in done.err) == (2, True)


def test_without_a_gpu_auto_reads_nothing_and_says_nothing(cli: Cli) -> None:
    done = cli(*META, "--format", "json")
    assert done.code == 0
    assert "counters" not in done.json["results"][0]
    assert cli(*META, "--counters", "none").code == 0


def row(verdict: Verdict | None, path: str = "", note: str = "") -> CounterRow:
    return CounterRow(
        path=path,
        quantity="dram_bytes",
        phase="decode",
        attention="fused",
        caches="cold",
        tier="ncu" if verdict is not Verdict.UNMEASURED else "none",
        predicted=2_000_000,
        measured=None if verdict is Verdict.UNMEASURED else 3_000_000,
        band=0.05,
        verdict=verdict,
        note=note,
        kernels=("void cutlass::Kernel<int>(T)",),
    )


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a GPU say `rows` of whatever is profiled."""

    def say(*rows: CounterRow, asked: bool = False) -> None:
        def count(request: Request, result: Result, question: object, progress: object) -> None:
            result.counters = Counters(asked=asked, rows=list(rows), notes=["counted by a fake"])

        monkeypatch.setattr("llmprof.profiling.counters.count", count)

    return say


@pytest.mark.parametrize(
    ("rows", "asked", "code"),
    [
        ([row(Verdict.AGREES)], True, 0),
        ([row(None, note="small")], True, 0),
        ([row(Verdict.AGREES), row(Verdict.DIFFERS, "lm_head")], False, 1),
        ([row(Verdict.UNMEASURED, note="no permission; ask")], True, 3),
        ([row(Verdict.UNMEASURED, note="no permission; ask")], False, 0),
    ],
)
def test_counters_fail_a_result_and_leave_open_only_what_was_asked_for(
    cli: Cli, counting: Any, rows: list[CounterRow], asked: bool, code: int
) -> None:
    counting(*rows, asked=asked)
    done = cli(*META, "--format", "json")
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (code, {0: "confirmed", 1: "failed", 3: "unconfirmed"}[code])
    assert result["failed_modules"] == (["lm_head"] if code == 1 else [])
    assert result["missing"] == (["dram_bytes decode fused (counters)"] if code == 3 else [])


def test_every_format_has_them(cli: Cli, counting: Any) -> None:
    counting(row(Verdict.DIFFERS, "lm_head", "beyond its band"), row(None, note="why"))
    found = cli(*META, "--format", "json").json["results"][0]["counters"]
    assert (found["outcome"], found["notes"]) == ("failed", ["counted by a fake"])
    first, second = found["rows"]
    assert (first["verdict"], first["ratio"], first["kernels"]) == ("DIFFERS", 1.5, ["void cutlass::Kernel<int>(T)"])
    assert second["verdict"] is None
    table = cli(*META).out
    assert "Bytes to and from memory: decode, fused, cold caches, counted by Nsight Compute" in table
    assert "(whole pass)" in table
    assert "DIFFERS [1]" in table
    assert "| lm_head | 1 | 1.91 MiB | 2,000,000 | 3,000,000 |" in cli(*META, "--format", "markdown").out
    records = list(csv.DictReader(io.StringIO(cli(*META, "--format", "csv").out)))
    mine = [r for r in records if r["quantity"] == "dram_bytes"]
    assert [(r["name"], r["witness"], r["verdict"]) for r in mine] == [
        ("gpt2", "ncu, cold caches", "DIFFERS"),
        ("gpt2", "ncu, cold caches", "no verdict"),
    ]
    assert mine[0]["ratio"] == "1.5"


def test_a_gpu_that_fails_under_the_counters_costs_nothing_that_was_measured_before(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: Request, result: Result, question: object, progress: object) -> None:
        result.counters = Counters(asked=True)
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr("llmprof.profiling.counters.count", fail)
    done = cli(*META, "--format", "json")
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (3, "unconfirmed")
    assert result["missing"] == ["counters"]
    assert "the counters were not read: CUDA error: an illegal memory access" in result["notes"]
    assert {row["verdict"] for row in result["rows"]} == {"AGREES"}
