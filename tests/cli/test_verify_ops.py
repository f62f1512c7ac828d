"""`llmprof verify --ops`: predictions to a file or stdout, errors beside them, and bad rows by line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

HEAD = "row_id,op,device,framework,dtype,m,n,k,us\n"
GOOD = "a,gemm,h200,vllm,bfloat16,16,4096,4096,12\nb,gemm,h200,vllm,bfloat16,8192,4096,4096,400\n"


@pytest.fixture
def ops(tmp_path: Path) -> Path:
    path = tmp_path / "ops.csv"
    path.write_text(HEAD + GOOD, encoding="utf-8")
    return path


def test_predictions_and_errors(cli: Cli, ops: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = cli("verify", "--ops", str(ops), "--output", str(out))
    assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert list(rows[0]) == ["row_id", "pred_us", "lo_us", "hi_us"]
    assert [row["row_id"] for row in rows] == ["a", "b"]
    assert all(0 < float(row["lo_us"]) < float(row["pred_us"]) < float(row["hi_us"]) for row in rows)
    assert "median error" in done.out
    assert "calibrated" in done.out


def test_without_an_output_predictions_are_on_stdout_and_errors_on_stderr(cli: Cli, ops: Path) -> None:
    done = cli("verify", "--ops", str(ops))
    assert done.code == 0
    assert done.out.startswith("row_id,pred_us,lo_us,hi_us\na,")
    assert "median error" in done.err


def test_errors_as_a_record(cli: Cli, ops: Path, tmp_path: Path) -> None:
    done = cli("verify", "--ops", str(ops), "--output", str(tmp_path / "o.csv"), "--format", "json")
    assert (done.json["rows"], done.json["not_understood"]) == (2, 0)
    assert [each["op"] for each in done.json["errors"]] == ["gemm", "gemm", "all"]
    assert set(done.json["errors"][0]) == {"op", "device", "dtype", "basis", "count", "median", "p90", "coverage"}


def test_bad_rows_are_named_by_line_and_the_others_predicted(cli: Cli, ops: Path, tmp_path: Path) -> None:
    ops.write_text(HEAD + GOOD + "c,gemm,h200,vllm,bfloat16,x,1,1,\nd,conv,h200,,,,,,\n", encoding="utf-8")
    out = tmp_path / "out.csv"
    done = cli("verify", "--ops", str(ops), "--output", str(out))
    assert done.code == 2
    assert f"{ops}:4: c: m: found 'x', expected a whole number from 1" in done.err
    assert f"{ops}:5: d: op 'conv' is not known" in done.err
    assert len(out.read_text(encoding="utf-8").splitlines()) == 3


def test_what_is_not_calibrated_says_so(cli: Cli, ops: Path) -> None:
    ops.write_text(
        HEAD + "a,gemm,gb200_sxm,vllm,bfloat16,16,64,64,\nb,gemm,h100,vllm,fp8,16,64,64,\n", encoding="utf-8"
    )
    done = cli("verify", "--ops", str(ops))
    assert done.code == 2
    assert "gb200_sxm, gemm: 1 rows uncalibrated (family): constants of b200 (the same target)" in done.err
    assert f"{ops}:3: b: no device is called 'h100'; did you mean h100-pcie-80gb or h100-sxm-80gb?" in done.err
    assert len(done.out.splitlines()) == 2
    for line in done.out.splitlines()[1:]:
        _, time, low, high = line.split(",")
        assert float(low) <= float(time) / 1.999
        assert float(high) >= float(time) * 1.999


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "gpt2", "--ops", "x.csv"], "--ops: goes alone; leave out gpt2"),
        (["verify", "--ops", "none.csv"], "none.csv: No such file"),
    ],
)
def test_what_cannot_go_together_or_be_read(cli: Cli, arguments: list[str], said: str) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert said in done.err


def test_a_table_without_rows_is_wrong_input(cli: Cli, ops: Path) -> None:
    ops.write_text(HEAD, encoding="utf-8")
    done = cli("verify", "--ops", str(ops))
    assert done.code == 2
    assert "no rows" in done.err
