"""`llmprof profile --phase train`: a training step, what runs again in it and what it drops."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_profile_objective import JSON, META, SMALL, rows

STEP = {
    "matmul_flops_backward",
    "hbm_bytes_backward",
    "saved_bytes",
    "peak_live_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "optimizer_peak_bytes",
    "hbm_bytes_optimizer",
}


def test_the_phase_means_the_structure_s_own_objective(cli: Cli) -> None:
    words = ("gpt2", "bert-base-uncased", *SMALL, *META, *JSON, "--attention", "unfused")
    by_phase, by_objective = cli("profile", *words, "--phase", "train"), cli("profile", *words, "--objective", "auto")
    assert (by_phase.code, by_phase.err) == (0, "")
    assert by_phase.json["results"] == by_objective.json["results"]
    for result in by_phase.json["results"]:
        assert {row["quantity"] for row in result["rows"]} >= STEP
    chosen = cli("profile", "gpt2", "--phase", "train", "--objective", "causal-lm", *SMALL, *META, *JSON)
    assert chosen.json["results"][0]["objective"] == "causal-lm"


def test_what_runs_again_and_what_is_dropped(cli: Cli) -> None:
    words = ("profile", "gpt2", "--phase", "train", *SMALL, *META, *JSON)
    plain = cli(*words).json["results"][0]
    done = cli(*words, "--recompute", "full", "--dropout", "0.1")
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (0, "confirmed")
    (workload,) = result["workloads"]
    assert (workload["recompute"], workload["dropout"]) == ("full", 0.1)
    assert (plain["workloads"][0]["recompute"], plain["workloads"][0]["dropout"]) == ("none", 0.0)
    # 12 layers of 32 rows of 768 in 16 bits, at the layer itself; the leaves of a layer save nothing.
    kept = {r["path"]: r["measured"] for r in rows(result, "saved_bytes") if r["attention"] == "unfused"}
    assert kept["layers.0"] == 32 * 768 * 2
    assert kept["layers.0.attn_dropout"] == 0
    assert kept["embed_dropout"] == 32 * 768
    assert not [r for r in rows(plain, "saved_bytes") if "dropout" in r["path"]]


def test_a_slice_stands_for_the_depth_where_layers_share_nothing(cli: Cli) -> None:
    """What is counted as a whole is that of the layers that ran, in the prediction too."""
    (result,) = cli("profile", "gpt2", "--phase", "train", *SMALL, *META, *JSON).json["results"]
    saved = {r["path"] for r in rows(result, "saved_bytes")}
    assert "layers.11.ffn.act" in saved
    (peak,) = (r for r in rows(result, "peak_live_bytes") if r["attention"] == "fused")
    assert peak["note"] == "of 1 of 12 layers"
    assert any("are those of the layers that ran" in note for note in result["notes"])
    (result,) = cli("profile", "t5-small", "--phase", "train", *SMALL, *META, *JSON).json["results"]
    assert result["verdict"] == "confirmed"
    saved = {r["path"] for r in rows(result, "saved_bytes")}
    assert "decoder.layers.0.ffn.act" in saved
    assert "decoder.layers.5.ffn.act" not in saved, "the first layer saves the memory and the bias for all"


def test_what_has_no_rule_is_said(cli: Cli) -> None:
    done = cli("profile", "mixtral-8x7b", "--phase", "train", *SMALL, *META, *JSON, "--attention", "unfused")
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (0, "confirmed")
    assert not {row["quantity"] for row in result["rows"]} & {"saved_bytes", "peak_live_bytes", "hbm_bytes_backward"}
    (note,) = (note for note in result["notes"] if note.startswith("measured, not predicted"))
    assert "saved_bytes" in note
    assert "kind moe" in note


def test_the_table_has_what_is_saved(cli: Cli) -> None:
    done = cli("profile", "gpt2", "--phase", "train", *SMALL, *META)
    for quantity in ("saved for backward, bytes", "optimiser states, bytes", "op-level bytes, backward"):
        assert any(line.startswith(quantity) and line.endswith("AGREES") for line in done.out.splitlines()), quantity
    (head,) = (line for line in done.out.splitlines() if line.startswith("module "))
    assert head.split("   ")[-3].strip() == "saved fused"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gpt2", "--phase", "prefill,train"), "--phase: found 'prefill,train'; train stands alone"),
        (("gpt2", "--recompute", "full"), "--recompute has no effect: it is of a training step; add --phase train"),
        (("gpt2", "--dropout", "0.1"), "--dropout has no effect: it is of a training step; add --phase train"),
        (("gpt2", "--phase", "train", "--recompute", "some"), "--recompute: found 'some'; expected none, selective or"),
        (("gpt2", "--phase", "train", "--dropout", "1"), "--dropout: found '1'; expected a probability of at least 0"),
        (("gpt2", "--phase", "train", "--dropout", "a" * 99), "--dropout: found 'a text of 99 characters'; expected"),
        (
            ("mixtral-8x7b", "--phase", "train", "--dropout", "0.1"),
            "mixtral-8x7b cannot be trained with dropout 0.1: layers.0: a feed-forward of kind moe, for which no rule",
        ),
        (("gpt2", "--phase", "train", "--new-tokens", "4"), "--new-tokens has no effect on a training pass"),
        (("gpt2", "--phase", "training"), "--phase: found 'training'"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("profile", *words, *META)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_what_a_slice_cannot_run_is_predicted_for_that_slice(cli: Cli) -> None:
    """The CPU has no fused gradient of T5's bias: its rows stand beside those of the layers that ran unfused."""
    done = cli(
        *("profile", "t5-small", "--phase", "train", "--device", "cpu", "--dtype", "fp32", "--layers", "2"),
        *("--context", "16", "--format", "json"),
    )
    assert done.code == 3
    (result,) = done.json["results"]
    flops = {row["attention"]: row for row in result["rows"] if row["quantity"] == "matmul_flops_backward"}
    assert flops["fused"]["verdict"] == "UNMEASURED"
    assert flops["unfused"]["verdict"] == "AGREES"
    assert flops["fused"]["note"].endswith("of 4 of 12 layers")
    # The same layers: a fused backward makes their scores once more, and nothing else.
    assert 1 < flops["fused"]["predicted"] / flops["unfused"]["predicted"] < 1.05
