"""`llmprof count --phase train` divided over devices: what the fullest of them keeps, and what cannot be divided."""

from __future__ import annotations

import csv
import io

import pytest

from tests.cli.conftest import Cli

STEP = ("count", "gpt2", "--phase", "train", "--context", "64")
DIVIDED = ("--zero", "3", "--data-parallel", "8", "--tensor-parallel", "4", "--sequence-parallel")


def test_the_record_of_a_division(cli: Cli) -> None:
    (record,) = cli(*STEP, *DIVIDED, "--format", "json").json["results"]
    assert (record["zero_stage"], record["data_parallel"], record["tensor_parallel"]) == (3, 8, 4)
    assert record["sequence_parallel"] is True
    # Divided by four: 12 layers of 12 d^2 and 7 d of biases, and the token table, padded from 50,257 rows; whole: two
    # norms and two biases of a layer, positions, and the last norm.
    d = 768
    parts = 12 * (12 * d * d + 7 * d) // 4 + 12_565 * d
    whole = 12 * 6 * d + 1024 * d + 2 * d
    assert record["parameters_per_rank"] == parts + whole
    assert record["weight_bytes_per_rank"] == record["gradient_bytes_per_rank"] == 2 * -(-(parts + whole) // 8)
    assert record["optimizer_bytes_per_rank"] == 6 * record["weight_bytes_per_rank"]
    assert record["unconfirmed"]["saved_bytes_per_rank_fused"] == "a formula: no sharded run has confirmed it"


def test_saved_activations_fall_with_every_device_but_no_state_does(cli: Cli) -> None:
    def saved(*options: str) -> int:
        (record,) = cli(*STEP, *options, "--format", "json").json["results"]
        assert record["optimizer_bytes_per_rank"] == 12 * record["parameters_per_rank"]
        return int(record["saved_bytes_per_rank_unfused"])

    rows = saved("--tensor-parallel", "2")
    tokens = saved("--tensor-parallel", "2", "--sequence-parallel")
    (alone,) = cli(*STEP, "--format", "json").json["results"]
    assert tokens < rows < saved("--data-parallel", "8") == alone["saved_bytes_unfused"]
    assert alone["saved_bytes_per_rank_unfused"] is None


def test_the_table_of_a_division(cli: Cli) -> None:
    done = cli(*STEP, *DIVIDED)
    assert (done.code, done.err) == (0, "")
    assert "On each of 32 devices: data 8, ZeRO stage 3, tensor 4 with sequence parallelism\n" in done.out
    assert "* unconfirmed: a formula: no sharded run has confirmed it." in done.out
    assert "On each of" not in cli(*STEP).out


def test_a_division_as_csv(cli: Cli) -> None:
    (row,) = csv.DictReader(io.StringIO(cli(*STEP, "--data-parallel", "2", "--format", "csv").out))
    assert (row["data_parallel"], row["zero_stage"]) == ("2", "0")


def test_states_of_what_has_no_rule_for_activations(cli: Cli) -> None:
    words = ("count", "mixtral-8x7b", "--phase", "train", "--context", "64", "--zero", "2", "--data-parallel", "8")
    (record,) = cli(*words, "--format", "json").json["results"]
    assert record["saved_bytes_per_rank_fused"] is None
    assert record["gradient_bytes_per_rank"] == 2 * -(-record["params_total"] // 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            (*STEP, "--tensor-parallel", "5"),
            "n_heads (12) and n_kv_heads (12) and d_ff (3072) of gpt2; use one of 1, 2, 3",
        ),
        ((*STEP[:4], "--context", "63", "--tensor-parallel", "2", "--sequence-parallel"), "new tokens (63)"),
        ((*STEP, "--sequence-parallel"), "--sequence-parallel divides tokens among the devices of --tensor-parallel"),
        ((*STEP, "--zero", "1"), "--zero 1 divides states over the devices of --data-parallel"),
        ((*STEP, "--zero", "4", "--data-parallel", "2"), "--zero: found '4'"),
        (("count", "gpt2", "--zero", "1"), "--zero has no effect"),
        (("count", "mixtral-8x7b", *STEP[2:], "--tensor-parallel", "2"), "nothing says how mixtral-8x7b is divided"),
    ],
)
def test_what_cannot_be_divided(cli: Cli, words: tuple[str, ...], said: str) -> None:
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.split())
