"""`llmprof profile --objective`: a training pass, confirmed figure by figure."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
import torch

from tests.cli.conftest import Cli
from tests.cli.test_profile import RESULT_KEYS, ROW_KEYS, total

SMALL = ("--context", "32", "--layers", "1")
META = ("--device", "meta")
JSON = ("--format", "json")
TRAINING_KEYS = ["objective", "text_tokens", "trained"]


def rows(result: dict[str, Any], quantity: str) -> list[dict[str, Any]]:
    return [row for row in result["rows"] if row["quantity"] == quantity]


def test_the_contract_of_a_training_pass(cli: Cli) -> None:
    done = cli("profile", "gpt2", "--objective", "causal-lm", "--batch", "2", *SMALL, *META, *JSON)
    assert (done.code, done.err) == (0, "")
    assert done.json["schema_version"] == 1
    (result,) = done.json["results"]
    assert list(result) == [*RESULT_KEYS, *TRAINING_KEYS]
    assert result["verdict"] == "confirmed"
    assert (result["objective"], result["text_tokens"]) == ("causal-lm", 32)
    (workload,) = result["workloads"]
    assert (workload["phase"], workload["objective"], workload["loss_tokens"]) == ("train", "causal-lm", 32)
    assert all(list(row) == ROW_KEYS and row["verdict"] == "AGREES" for row in result["rows"])
    assert result["kernels"] == {"train/fused": "flash", "train/unfused": "lean-eager"}
    assert total(result["rows"], "loss_tokens", "train", "") == 2 * 32
    assert total(result["rows"], "logits_bytes", "train", "") == 2 * 32 * 50257 * 2
    # Of the one layer that ran: twice the forward figure unfused, and half of the core's once more fused.
    one, forward = 1 / 12, {a: total(result["rows"], "matmul_flops", "train", a) for a in ("fused", "unfused")}
    core = next(r["measured"] for r in rows(result, "matmul_flops") if r["path"] == "layers.0.attn.core")
    head = next(r["measured"] for r in rows(result, "matmul_flops") if r["path"] == "lm_head")
    ran = round((forward["unfused"] - head) * one) + head
    assert {row["attention"]: row["measured"] for row in rows(result, "matmul_flops_backward")} == {
        "unfused": 2 * ran,
        "fused": 2 * ran + core // 2,
    }
    assert all(row["note"] == "of 1 of 12 layers" for row in rows(result, "matmul_flops_backward"))
    assert [trained["attention"] for trained in result["trained"]] == ["fused", "unfused"]
    # There are shapes alone: no loss, and no gradient.
    assert all(t["loss"] is None and t["gradients"] == {"layers.0": None} for t in result["trained"])


@pytest.mark.parametrize(
    ("spec", "objective", "loss"),
    [
        ("gpt2", "causal-lm", 32),
        ("glm-130b", "prefix-lm", 32 - 16 + 1),
        # 32 tokens: (96 + 10) / 20 = 5 of noise in (10 + 3) / 6 = 2 runs
        ("glm-130b", "blank-infilling", 5 + 2),
        ("t5-small", "span-corruption", 5 + 2 + 1),
        ("bert-base-uncased", "masked-lm", 5),
    ],
)
def test_every_objective_is_confirmed(cli: Cli, spec: str, objective: str, loss: int) -> None:
    done = cli("profile", spec, "--objective", objective, *SMALL, *META, *JSON, "--attention", "unfused")
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (0, "confirmed")
    assert total(result["rows"], "loss_tokens", "train", "") == loss


def test_auto_is_the_structure_s_own(cli: Cli) -> None:
    done = cli("profile", "gpt2", "bert-base-uncased", "t5-small", "--objective", "auto", *SMALL, *META, *JSON)
    found = [result["objective"] for result in done.json["results"]]
    assert found == ["causal-lm", "masked-lm", "span-corruption"]


def test_a_prefix_can_be_given(cli: Cli) -> None:
    words = ("glm-130b", "--objective", "prefix-lm", "--prefix-tokens", "20", *SMALL, *META)
    done = cli("profile", *words, *JSON, "--attention", "unfused")
    assert total(done.json["results"][0]["rows"], "loss_tokens", "train", "") == 32 - 20 + 1


def test_a_pass_on_the_cpu_has_a_loss_and_gradients(cli: Cli) -> None:
    words = ("gpt2", "--objective", "causal-lm", "--context", "16", "--layers", "2", "--device", "cpu")
    done = cli("profile", *words, "--dtype", "fp32", *JSON)
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (0, "confirmed")
    fused, unfused = result["trained"]
    assert list(fused["gradients"]) == ["layers.0", "layers.1"]
    # Random weights know nothing: about ln 50257 = 10.8 nats.
    assert 10.5 < fused["loss"] < 11.5
    assert fused["loss"] == pytest.approx(unfused["loss"], rel=1e-5)
    assert list(fused["gradients"].values()) == pytest.approx(list(unfused["gradients"].values()), rel=1e-3)
    alone = (*words, "--dtype", "fp32", "--attention", "fused", *JSON)
    again = cli("profile", *alone).json["results"][0]["trained"]
    other = cli("profile", *alone, "--seed", "1").json["results"][0]["trained"]
    assert again == [fused]
    assert other[0]["loss"] != fused["loss"]


def test_the_table(cli: Cli) -> None:
    words = ("gpt2", "--objective", "causal-lm", "--context", "16", "--layers", "2")
    done = cli("profile", *words, "--device", "cpu", "--dtype", "fp32")
    assert done.out.startswith("gpt2, causal-lm: confirmed (")
    for title in (
        "What is read and learned, in tokens per sequence; batch 1",
        "The whole model",
        "train, module by module",
        "Gradient norm by layer",
    ):
        assert title in done.out.splitlines()
    for quantity in ("positions with loss", "logits, bytes", "matmul FLOPs, backward"):
        assert any(line.startswith(quantity) and line.endswith("AGREES") for line in done.out.splitlines())
    bars = [line for line in done.out.splitlines() if line.startswith("layers.") and line.endswith("#")]
    assert len(bars) == 2
    assert max(line.count("#") for line in bars) == 40
    assert "KV cache" not in done.out
    markdown = cli("profile", *words, *META, "--format", "markdown").out
    assert "**gpt2, causal-lm: confirmed" in markdown
    assert "Gradient norm by layer" not in markdown, "shapes alone have no gradients"


def test_csv_has_the_rows(cli: Cli) -> None:
    done = cli("profile", "gpt2", "--objective", "auto", *SMALL, *META, "--format", "csv")
    found = list(csv.DictReader(io.StringIO(done.out)))
    assert {row["phase"] for row in found} == {"", "train"}
    assert {"loss_tokens", "logits_bytes", "matmul_flops_backward"} < {row["quantity"] for row in found}


def test_what_the_device_has_no_backward_for_is_unmeasured(cli: Cli) -> None:
    words = ("t5-small", "--objective", "auto", *SMALL, "--device", "cpu")
    done = cli("profile", *words, *JSON)
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (3, "unconfirmed")
    notes = {row["note"] for row in result["rows"] if row["verdict"] == "UNMEASURED"}
    assert len({note.partition("; of 2 of 12 layers")[0] for note in notes}) == 1  # one reason, of a slice where it is
    assert "encoder.layers.0.attn.core: no fused kernel fits: that of the CPU has no gradient" in notes.pop()
    assert [trained["attention"] for trained in result["trained"]] == ["unfused"]
    assert cli("profile", *words, "--attention", "unfused").code == 0


def test_a_kernel_too_many_is_found(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.twin.loss import Loss

    honest = Loss.forward

    def wasteful(self: Loss, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return honest(self, logits * 1.0, targets)

    monkeypatch.setattr(Loss, "forward", wasteful)
    done = cli("profile", "gpt2", "--objective", "auto", *SMALL, *META, *JSON)
    (result,) = done.json["results"]
    assert (done.code, result["verdict"], result["failed_modules"]) == (1, "failed", ["loss", "(whole model)"])


def test_a_loss_that_is_not_finite_is_null_and_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.twin.loss import Loss

    honest = Loss.forward
    monkeypatch.setattr(Loss, "forward", lambda self, x, t: honest(self, x, t).div_(0))
    done = cli("profile", "gpt2", "--objective", "auto", *SMALL, "--device", "cpu", "--attention", "unfused", *JSON)
    (result,) = done.json["results"]
    assert result["trained"][0]["loss"] is None
    assert "unfused: the loss or a gradient is not finite in bf16" in result["notes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gpt2", "--objective", "masked-lm"), "masked-lm trains"),
        (("gpt2", "--objective", "lm"), "--objective: found 'lm'; expected auto, causal-lm"),
        (("gpt2", "--objective", "auto", "--phase", "decode"), "--phase has no effect on a training pass"),
        (("gpt2", "--objective", "auto", "--new-tokens", "4"), "--new-tokens has no effect"),
        (("t5-small", "--objective", "auto", "--source-tokens", "4"), "--source-tokens has no effect"),
        (("gpt2", "--objective", "auto", "--logits", "last"), "--logits has no effect"),
        (("gpt2", "--objective", "auto", "--kv-dtype", "fp8"), "--kv-dtype has no effect"),
        (("gpt2", "--objective", "auto", "--seconds", "5"), "--seconds has no effect"),
        (("gpt2", "--objective", "auto", "--weight-dtype", "int8"), "quantised"),
        (("gpt2", "--objective", "auto", "--context", "1"), "at least 2 tokens of text"),
        (("gpt2", "--objective", "auto", "--context", "1025"), "1024 learned positions"),
        (("gpt2", "--objective", "auto", "--prefix-tokens", "4"), "causal-lm takes none"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("profile", *words, *META)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_what_cannot_fit_is_refused_before_it_is_built(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.measure import device

    # Weights of 124 M values in fp32, as much for their gradients, and three times 8 x 50257 logits: 0.93 GiB.
    monkeypatch.setattr(device, "free_bytes", lambda where, **_: 900 * 2**20)
    done = cli("profile", "gpt2", "--objective", "auto", "--context", "8", "--dtype", "fp32", "--device", "cpu")
    assert (done.code, done.out) == (3, "")
    assert "would fit" in done.err
