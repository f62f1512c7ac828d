"""`llmprof count --unfused-reference` and `--grouping`: other kernels for the same arithmetic."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli

ASKED = ("count", "llama-3-8b", "--context", "256")


def test_a_reference_changes_the_unfused_figures_alone(cli: Cli) -> None:
    names = ("lean-eager", "hf-eager", "sdpa-math")
    found = {name: cli(*ASKED, "--unfused-reference", name, "--format", "json").json["results"] for name in names}
    for name, records in found.items():
        for record, lean in zip(records, found["lean-eager"], strict=True):
            assert record["unfused_reference"] == name
            differing = {key for key in record if record[key] != lean[key]}
            assert differing <= {
                "unfused_reference",
                "hbm_bytes_unfused",
                "activation_peak_bytes_unfused",
                "total_bytes_unfused",
                "arithmetic_intensity_unfused",
            }
            assert ("hbm_bytes_unfused" in differing) is (name != "lean-eager")


def test_breakdown_explanation_and_the_command_that_confirms(cli: Cli) -> None:
    text = cli(*ASKED, "--unfused-reference", "sdpa-math", "--by", "op", "--phase", "prefill").out
    assert "isneginf" in text
    assert "unfused is the reference sdpa-math, fused runs flash (docs/reference-unfused.md)" in text
    assert "llmprof profile llama-3-8b --phase prefill --context 256 --unfused-reference sdpa-math" in text
    explained = cli(*ASKED, "--unfused-reference", "hf-eager", "--explain", "--format", "json").json["results"][0]
    figure = next(each for each in explained["explanation"] if each["name"] == "hbm_bytes_unfused")
    assert figure["value"] == explained["hbm_bytes_unfused"]


def test_bytes_by_level_are_those_of_the_reference(cli: Cli) -> None:
    asked = (
        "count",
        "llama-3-8b",
        "--context",
        "4096",
        "--device-spec",
        "h200",
        "--phase",
        "prefill",
        "--format",
        "json",
    )
    lean, eager = (cli(*asked, "--unfused-reference", name).json["results"][0] for name in ("lean-eager", "hf-eager"))
    assert lean["dram_bytes_unfused"] != eager["dram_bytes_unfused"]
    assert lean["dram_bytes_fused"] == eager["dram_bytes_fused"]
    assert eager["compulsory_bytes_unfused"] <= eager["dram_bytes_unfused"] <= eager["hbm_bytes_unfused"]


def test_grouped_leaves_have_no_peak(cli: Cli) -> None:
    text = " ".join(cli(*ASKED, "--grouping", "compiled").out.split())
    assert "activation peak" not in text
    assert "leaves around the cores share kernels as under torch.compile" in text
    table = cli("count", "llama-3-8b", "llama-2-7b", "--context", "256", "--grouping", "compiled").out
    assert "memory fused" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--unfused-reference", "eager"), "--unfused-reference: found 'eager'; expected lean-eager, hf-eager or sdpa-math"),
        (("--grouping", "fused"), "--grouping: found 'fused'; expected eager or compiled"),
        (("--grouping", "compiled", "--memory", "80GiB"), "--memory needs to know what lives how long"),
        (("--grouping", "compiled", "--device-spec", "h200"), "--device-spec needs to know what lives how long"),
        (("--objective", "auto", "--grouping", "compiled"), "--grouping has no effect on a training pass"),
        (("--objective", "auto", "--unfused-reference", "hf-eager"), "--unfused-reference has no effect on a training pass"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli(*ASKED, *words)
    assert done.code == 2
    assert message in done.err


def test_a_core_without_an_op_list_names_its_layer(cli: Cli) -> None:
    done = cli("count", "t5-small", "--context", "64", "--unfused-reference", "hf-eager")
    assert done.code == 2
    assert "encoder.layers.0.attn: hf-eager has no op list for a T5 bias" in done.err
