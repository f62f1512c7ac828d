"""`llmprof sweep`: every point is what `count` says, in every format."""

from __future__ import annotations

import csv
import io

import pytest

from llmprof.report.sweep_tables import TITLES
from tests.cli.conftest import Cli


def counted(cli: Cli, *words: str) -> dict[str, int]:
    (record,) = cli("count", *words, "--logits", "last", "--format", "json").json["results"]
    return record  # type: ignore[no-any-return]


def test_every_row_of_csv_is_what_count_says(cli: Cli) -> None:
    done = cli("sweep", "mistral-7b-v0.1", "--batch", "1..3", "--context", "1Ki,8..40:x2", "--format", "csv")
    assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(row["batch"], row["context"]) for row in rows] == [
        (str(batch), context) for batch in (1, 2, 3) for context in ("8", "16", "32", "1024")
    ]
    for row in rows[::5]:
        record = counted(
            cli, "mistral-7b-v0.1", "--phase", "decode", "--batch", row["batch"], "--context", row["context"]
        )
        for name in TITLES:
            assert int(row[name]) == record[name], (row["batch"], row["context"], name)


def test_where_memory_ends(cli: Cli) -> None:
    """A cache token of Llama-3-8B takes 128 KiB: 8 GiB hold 65,536 of them beside 14.96 GiB of weights and a peak."""
    words = ("sweep", "llama-3-8b", "--batch", "1..80", "--context", "1024,2048", "--memory", "23GiB")
    (made,) = cli(*words, "--format", "json").json["results"]
    assert made["memory_bytes"] == 23 * 2**30
    for context, largest in zip(made["contexts"], made["largest_batch"], strict=True):
        fits, over = (
            counted(cli, "llama-3-8b", "--phase", "decode", "--batch", str(batch), "--context", str(context))
            for batch in (largest, largest + 1)
        )
        assert fits["total_bytes_fused"] <= 23 * 2**30 < over["total_bytes_fused"]
    done = cli(*words)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "llama-3-8b, decode: weights + KV cache + states + activation peak, by context and batch"
    assert lines[1].split()[-1] == "fits"
    assert [line.split()[-1] for line in lines[3:5]] == [f"{each}" for each in made["largest_batch"]]
    assert "(" in lines[3]
    assert "9 of 80 batches and 2 of 2 contexts; csv and json have all." in done.out


def test_nothing_fits(cli: Cli) -> None:
    done = cli("sweep", "llama-3-8b", "--batch", "1", "--context", "1024", "--memory", "1GiB")
    assert done.code == 0
    assert done.out.splitlines()[3].split()[-1] == "none"


def test_longer_contexts_than_a_model_has_are_left_out_and_said(cli: Cli) -> None:
    done = cli("sweep", "gpt2", "--batch", "1", "--context", "512..4Ki:x2", "--format", "json")
    assert done.json["results"][0]["contexts"] == [512, 1024]
    assert "gpt2 was made for 1,024 positions: longer contexts are left out" in done.err


def test_several_specs_and_quantities_as_markdown(cli: Cli) -> None:
    done = cli("sweep", "gpt2", "llama-3-8b", "--context", "512", "--batch", "1,2", "--quantity", "matmul_flops_dense",
               "--phase", "prefill", "--format", "markdown")  # fmt: skip
    assert done.code == 0
    assert done.out.count("FLOPs of contractions, dense, by context and batch") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", "0"), "--batch: found 0; expected at least 1"),
        (("--batch", "8..1"), "'8..1', which ends before it begins"),
        (("--batch", "8:2"), "a step needs a range"),
        (("--batch", "1..8:x1"), "--batch: found 1; expected at least 2"),
        (("--batch", "1..8:0"), "--batch: found 0; expected at least 1"),
        (("--batch", "1..many"), "--batch"),
        (("--batch", ""), "--batch"),
        (("--batch", "1..10000000"), "more than 4,000,000 lengths"),
        (("--batch", "1..3000", "--context", "1..3000"), "3,000 x 3,000 points; expected at most 4,000,000"),
        (
            ("--context", "8Ki..64Ki:x2"),
            "made for 1,024 positions, and the shortest that is asked for is 8,192",
        ),
        (("--phase", "train"), "--phase"),
        (("--quantity", "time"), "--quantity"),
        (("--memory", "-1"), "--memory"),
        (("--logits", "some"), "--logits"),
        (("--group-size", "64"), "--group-size is of int4 weights"),
    ],
)
def test_wrong_input(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("sweep", "gpt2", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_what_has_no_such_grid(cli: Cli) -> None:
    assert "is an encoder-decoder" in cli("sweep", "t5-small").err
    done = cli("sweep", "bert-base-uncased", "--context", "512")
    assert done.code == 3
    assert "it has no decode phase" in done.err
