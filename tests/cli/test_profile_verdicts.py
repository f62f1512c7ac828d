"""Verdicts of `llmprof profile`: what fails, what stays unconfirmed, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmprof.ledger import Row, Verdict
from llmprof.measure import flops as measured_flops
from llmprof.predict.op import Contraction
from llmprof.profiling.verdict import gaps, outcome
from tests.cli.conftest import Cli
from tests.faults import planted

META = ("--device", "meta", "--no-referees", "--format", "json")
SMALL = ("--context", "16", "--layers", "1")


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        (Contraction.flops.fget, "2 * prod", "1 * prod"),  # type: ignore[attr-defined]
        (measured_flops._product, "2 * prod", "prod"),
    ],
    ids=["predicted", "measured"],
)
def test_a_fault_in_either_half_fails_and_names_the_module(cli: Cli, function: Any, old: str, new: str) -> None:
    with planted(function, old, new):
        done = cli("profile", "gpt2", *SMALL, "--phase", "decode", *META)
        table = cli("profile", "gpt2", *SMALL, "--phase", "decode", "--device", "meta", "--no-referees")
    assert done.code == table.code == 1
    (result,) = done.json["results"]
    assert result["verdict"] == "failed"
    assert "layers.0.attn.q_proj" in result["failed_modules"]
    assert "embed" not in result["failed_modules"]
    assert table.out.startswith("gpt2: failed")
    assert "layers.{0-11}.attn.q_proj" in table.out.partition("Modules that differ")[2]


def test_quantised_storage_is_confirmed_and_traffic_is_not(cli: Cli) -> None:
    done = cli("profile", "gpt2", *SMALL, "--weight-dtype", "int4", "--kv-dtype", "int4", *META)
    assert done.code == 3
    (result,) = done.json["results"]
    assert result["verdict"] == "unconfirmed"
    verdicts: dict[str, set[str]] = {}
    for row in result["rows"]:
        verdicts.setdefault(row["quantity"], set()).add(row["verdict"])
        assert row["verdict"] == "AGREES" or row["note"]
    assert verdicts["weight_bytes"] == verdicts["kv_cache_bytes"] == verdicts["matmul_flops"] == {"AGREES"}
    assert verdicts["peak_live_bytes"] == {"UNMEASURED"}
    assert verdicts["hbm_bytes"] == {"AGREES", "UNMEASURED"}
    # Nothing that was not measured goes into a ratio.
    assert all(c["traffic_ratio"] is None and c["peak_memory_ratio"] is None for c in result["comparisons"])
    assert any("attn.q_proj" in line and "hbm_bytes" in line for line in result["missing"])


def test_a_soft_cap_has_no_fused_kernel_and_never_falls_back(cli: Cli) -> None:
    words = ("attention-options:softcap", *SMALL, "--phase", "prefill")
    done = cli("profile", *words, *META)
    assert done.code == 3
    (result,) = done.json["results"]
    fused = [row for row in result["rows"] if row["attention"] == "fused"]
    assert {row["verdict"] for row in fused} == {"UNMEASURED"}
    assert all("capped" in row["note"] and row["measured"] is None for row in fused)
    assert list(result["kernels"]) == ["prefill/unfused"]
    assert result["comparisons"] == []
    table = cli("profile", *words, "--device", "meta", "--no-referees").out
    assert "FLOPs fused" not in table
    assert "fused: not run" in table
    assert cli("profile", *words, "--attention", "unfused", *META).code == 0


def test_a_phase_that_does_not_exist_spoils_nothing(cli: Cli) -> None:
    done = cli("profile", "bert-base-uncased", *SMALL, *META)
    assert done.code == 0
    (result,) = done.json["results"]
    assert result["verdict"] == "confirmed"
    assert result["not_applicable"] == ["bert-base-uncased is an encoder: it has no decode phase"]


def test_where_nothing_applies_nothing_is_confirmed_or_failed(cli: Cli) -> None:
    done = cli("profile", "bert-base-uncased", "--phase", "decode", *META)
    assert done.code == 3
    (result,) = done.json["results"]
    assert (result["verdict"], result["rows"]) == ("not-applicable", [])
    assert cli("profile", "bert-base-uncased", "gpt2", *SMALL, "--phase", "decode", *META).code == 0
    text = cli("profile", "bert-base-uncased", "--phase", "decode", "--device", "meta").out
    assert text.count("no decode phase") == 1


def row(path: str, quantity: str, *, phase: str = "", attention: str = "", verdict: Verdict = Verdict.AGREES) -> Row:
    return Row(
        path=path,
        quantity=quantity,
        attention=attention,
        phase=phase,
        predicted=1,
        measured=1,
        witness="w",
        verdict=verdict,
    )


PASSES = [("prefill", "fused"), ("prefill", "unfused")]
OF_A_PASS = ("matmul_flops", "matmul_flops_causal", "hbm_bytes")
FULL = [
    row("up", "params"),
    *(row("up", quantity, phase=p, attention=a) for p, a in PASSES for quantity in OF_A_PASS),
    row("cache.k", "kv_cache_bytes", phase="prefill"),
]


def test_a_confirmation_needs_every_row_that_was_asked_for() -> None:
    assert outcome(FULL, PASSES, cached=True) == "confirmed"
    for index, absent in enumerate(FULL):
        rest = FULL[:index] + FULL[index + 1 :]
        assert outcome(rest, PASSES, cached=True) == "unconfirmed", absent
        assert gaps(rest, PASSES, cached=True)
    assert gaps(FULL, [*PASSES, ("decode", "fused")], cached=True) == [
        "up matmul_flops decode fused",
        "up matmul_flops_causal decode fused",
        "up hbm_bytes decode fused",
        "cache.k kv_cache_bytes decode",
    ]


def test_states_are_asked_for_like_caches() -> None:
    state = row("core.state", "recurrent_state_bytes", phase="prefill")
    full = [*FULL[:-1], state]
    assert outcome(full, PASSES, cached=True) == "confirmed"
    assert outcome([*FULL, state], PASSES, cached=True) == "confirmed"
    assert gaps(full, [*PASSES, ("decode", "fused")], cached=True)[-1] == "core.state recurrent_state_bytes decode"
    assert gaps(FULL[:-1], PASSES, cached=True) == ["every cache tensor"]


def test_a_layer_that_runs_again_is_no_leaf() -> None:
    saves = row("layers.0", "saved_bytes", phase="train", attention="fused")
    assert outcome([*FULL, saves], PASSES, cached=True) == "confirmed"
    assert outcome([saves], PASSES, cached=False) == "unconfirmed", "every module is missing"


STEP = [
    row("loss", "params"),
    *(row("loss", quantity, phase="train", attention="fused") for quantity in OF_A_PASS),
    *(row("loss", quantity, phase="train") for quantity in ("loss_tokens", "gradient_bytes", "optimizer_bytes")),
    row("lm_head", "params"),
    *(row("lm_head", quantity, phase="train", attention="fused") for quantity in OF_A_PASS),
    *(row("lm_head", quantity, phase="train") for quantity in ("logits_bytes", "gradient_bytes", "optimizer_bytes")),
    row("", "matmul_flops_backward", phase="train", attention="fused"),
    row("", "optimizer_peak_bytes", phase="train"),
    row("", "hbm_bytes_optimizer", phase="train"),
]
WALKED = [row("", name, phase="train", attention="fused") for name in ("hbm_bytes_backward", "peak_live_bytes")]


def test_a_training_step_needs_its_gradients_and_its_optimiser() -> None:
    passes = [("train", "fused")]
    for whole in (STEP, [*STEP, *WALKED]):  # not every architecture has a rule for its backward
        assert gaps(whole, passes, cached=False) == []
        for absent in whole:
            rest = [each for each in whole if each is not absent]
            assert outcome(rest, passes, cached=False) == "unconfirmed", absent


def test_a_difference_fails_whatever_is_missing() -> None:
    bad = row("up", "params", verdict=Verdict.DIFFERS)
    assert outcome([bad], PASSES, cached=True) == "failed"
    assert outcome([], PASSES, cached=False) == "unconfirmed"


def test_a_pass_that_left_no_rows_is_not_confirmed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a pass skipped by mistake, nothing would differ; the verdict must still see it."""
    from llmprof.profiling import run

    original = run.joined

    def without_decode(prediction: Any, measured: Any, cut: Any, **rest: Any) -> list[Row]:
        return [] if prediction.workload.phase == "decode" else original(prediction, measured, cut, **rest)

    monkeypatch.setattr(run, "joined", without_decode)
    done = cli("profile", "gpt2", *SMALL, *META)
    assert done.code == 3
    assert done.json["results"][0]["verdict"] == "unconfirmed"


def test_an_interruption_keeps_what_had_finished(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from llmprof.profiling import run

    original, calls = run.joined, []

    def second_time_interrupted(*arguments: Any, **rest: Any) -> list[Row]:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **rest)

    monkeypatch.setattr(run, "joined", second_time_interrupted)
    target = tmp_path / "result.json"
    done = cli("profile", "gpt2", "bert-base-uncased", *SMALL, *META, "--output", str(target))
    assert (done.code, done.out, done.err) == (130, "", "llmprof: interrupted\n")
    (result,) = json.loads(target.read_text())["results"]
    assert (result["verdict"], result["interrupted"]) == ("unconfirmed", True)
    assert {r["attention"] for r in result["rows"] if r["quantity"] == "matmul_flops"} == {"fused"}
    assert os.listdir(tmp_path) == ["result.json"]


def test_an_interrupted_phase_has_no_table_that_looks_agreed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmprof.profiling import run

    original = run.joined

    def decode_interrupted(prediction: Any, *arguments: Any, **rest: Any) -> list[Row]:
        if prediction.workload.phase == "decode":
            raise KeyboardInterrupt
        return original(prediction, *arguments, **rest)

    monkeypatch.setattr(run, "joined", decode_interrupted)
    done = cli("profile", "gpt2", *SMALL, "--device", "meta", "--no-referees")
    assert done.code == 130
    assert "prefill, module by module" in done.out
    assert "decode, module by module" not in done.out


WHEN_TIMED = """
import runpy, signal, sys
from llmprof.measure.time import _Sampler
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it runs in the background
warm_up = _Sampler.warm_up

def told(self):
    print("timing", file=sys.stderr, flush=True)
    warm_up(self)

_Sampler.warm_up = told
runpy.run_module("llmprof", run_name="__main__")
"""
"""The command, which says when it begins to time."""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send there")
def test_a_real_ctrl_c_ends_with_130_one_line_and_the_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    words = ["profile", "gpt2", *SMALL, "--device", "cpu", "--seconds", "600", "--no-referees", "--format", "json"]
    process = subprocess.Popen(
        [sys.executable, "-c", WHEN_TIMED, *words, "--output", str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "timing\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "llmprof: interrupted\n")
    (result,) = json.loads(target.read_text())["results"]
    assert result["interrupted"] is True
