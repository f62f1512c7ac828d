"""`llmprof verify --serving`: a table of served runs, its predictions, and how far they are off."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

HEAD = "backend,model_path,system,isl,osl,batch_size,tp_size"
RUN = "trtllm,meta-llama/Llama-3.1-8B-Instruct,h100_sxm,1024,128,8.0,1.0"
SERVED = ["pred_ttft_ms", "pred_tpot_ms", "lo_tpot_ms", "hi_tpot_ms", "pred_basis"]


@pytest.fixture
def measured(tmp_path: Path) -> str:
    """The runs of one model on one device that docs/latency.md reports on: three of them, and one that nobody knows."""
    path = tmp_path / "runs.csv"
    lines = (
        f"{HEAD},silicon_ttft_ms,silicon_tpot_ms",
        f"{RUN},190.95,7.94",
        f"{RUN.replace('8.0', '32.0')},127.9,13.19",
        f"{RUN.replace('meta-llama/Llama-3.1-8B-Instruct', 'acme/Unheard-Of-7B')},1,1",
    )
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_table_goes_to_a_file_and_its_errors_to_stdout(cli: Cli, measured: str, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    done = cli("verify", "--serving", measured, "--output", str(output))
    assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert list(rows[0]) == [*HEAD.split(","), "silicon_ttft_ms", "silicon_tpot_ms", *SERVED]
    for row in rows[:2]:
        low, time, high = (float(row[name]) for name in ("lo_tpot_ms", "pred_tpot_ms", "hi_tpot_ms"))
        assert low < time < high
        # The must of a served run: within 14% on average; these are within that each.
        assert time == pytest.approx(float(row["silicon_tpot_ms"]), rel=0.14)
        assert float(row["pred_ttft_ms"]) == pytest.approx(float(row["silicon_ttft_ms"]), rel=0.28)
    assert rows[2]["pred_tpot_ms"] == ""
    assert "no spec is called" in rows[2]["pred_basis"]
    assert "Served runs, predicted against measured" in done.out
    assert "1 without a prediction" in done.out
    assert "line 4: not predicted: model_path 'acme/Unheard-Of-7B'" in done.err


def test_errors_in_other_formats(cli: Cli, measured: str, tmp_path: Path) -> None:
    words = ("verify", "--serving", measured, "--output", str(tmp_path / "out.csv"), "--format")
    found = cli(*words, "json").json
    assert (found["predicted"], found["not_predicted"]) == (2, 1)
    whole = found["errors"][0]
    assert (whole["rows"], whole["number"], whole["tpot_inside"]) == ("all", 2, 1)
    assert 0 < whole["tpot_mean"] < 14
    (first, *_) = csv.DictReader(io.StringIO(cli(*words, "csv").out))
    assert float(first["tpot_mean"]) == pytest.approx(whole["tpot_mean"])
    assert cli(*words, "markdown").out.startswith("**Served runs, predicted against measured**")


def test_a_row_that_is_wrong_is_wrong_input_and_costs_no_other(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"{HEAD}\n{RUN}\n{RUN.replace('1024', '0')}\n")
    done = cli("verify", "--serving", str(path))
    assert done.code == 2
    good, bad = csv.DictReader(io.StringIO(done.out))
    assert float(good["pred_tpot_ms"]) > 0
    assert "isl is '0'" in bad["pred_basis"]


def test_without_a_file_the_table_is_on_stdout_alone(cli: Cli, measured: str) -> None:
    done = cli("verify", "--serving", measured)
    assert done.code == 0
    assert len(list(csv.DictReader(io.StringIO(done.out)))) == 3
    assert "Served runs, predicted against measured" in done.err


def test_a_table_without_measured_times_has_no_errors(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(f"{HEAD}\n{RUN}\n")
    done = cli("verify", "--serving", str(path))
    assert done.code == 0
    assert done.err == ""
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert float(row["pred_tpot_ms"]) > 0


def test_a_measured_time_that_is_none_is_told(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"{HEAD},silicon_tpot_ms\n{RUN},failed\n{RUN},7.9\n")
    done = cli("verify", "--serving", str(path), "--output", str(tmp_path / "out.csv"))
    assert done.code == 0
    assert "line 2: not compared: silicon_tpot_ms is 'failed'" in done.err


def test_a_table_of_which_nothing_can_be_predicted_is_wrong_input(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    lines = [RUN.replace("h100_sxm", f"device{n}") for n in range(7)]
    path.write_text("\n".join([HEAD, *lines, *lines[:2]]) + "\n")
    done = cli("verify", "--serving", str(path))
    assert done.code == 2
    assert "line 2 and 1 further lines: not predicted" in done.err
    assert "2 further reasons of lines that are not predicted" in done.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["none.csv"], "none.csv: cannot be read: No such file or directory"),
        ([__file__], "the header lacks backend"),
        (["none.csv", "--no-hf"], "--serving: goes alone; leave out --no-hf"),
        (["none.csv", "gpt2"], "--serving: goes alone; leave out gpt2"),
        (["none.csv", "--ops", "none.csv"], "--ops: goes alone; leave out --serving"),
        (["none.csv", "--output", "/no/such/folder/file"], "there is no directory"),
    ],
)
def test_wrong_words(cli: Cli, words: list[str], text: str) -> None:
    done = cli("verify", "--serving", *words)
    assert done.code == 2
    assert text in done.err
