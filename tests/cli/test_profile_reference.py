"""`llmprof profile --unfused-reference`: whose kernels the unfused cores are, confirmed like all others."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli

META = ("--device", "meta", "--context", "12", "--layers", "1", "--no-referees", "--format", "json")


@pytest.mark.parametrize("reference", ["lean-eager", "hf-eager", "sdpa-math"])
def test_a_named_reference_is_confirmed_and_seen(cli: Cli, reference: str) -> None:
    done = cli("profile", "qwen3-0.6b", "--unfused-reference", reference, *META)
    assert done.code == 0, done.err
    (result,) = done.json["results"]
    assert result["verdict"] == "confirmed"
    assert {way: seen for way, seen in result["kernels"].items() if way.endswith("/unfused")} == {
        "prefill/unfused": reference,
        "decode/unfused": reference,
    }
    assert "flash" in result["kernels"]["prefill/fused"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("llama-3-8b", "--unfused-reference", "eager"), "--unfused-reference"),
        (("llama-3-8b", "--unfused-reference", "hf-eager", "--attention", "fused"), "has no effect: --attention is fused"),
        (("llama-3-8b", "--unfused-reference", "hf-eager", "--objective", "auto"), "no effect on a training pass"),
        (("bloom-560m", "--unfused-reference", "hf-eager"), "hf-eager has no op list for ALiBi"),
        (("deepseek-v2-lite", "--unfused-reference", "sdpa-math"), "no op list for attention of kind mla"),
        (("gemma-2-2b", "--unfused-reference", "sdpa-math"), "no op list for a soft cap"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(cli: Cli, arguments: tuple[str, ...], reason: str) -> None:
    done = cli("profile", *arguments, "--device", "meta", "--context", "12", "--no-referees")
    assert done.code == 2
    assert reason in done.err
