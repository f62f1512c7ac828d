"""`llmprof count --objective`: the contract, the tables, and what is refused."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from llmprof.predict.training.rank_record import KEYS as RANK_KEYS
from tests.cli.conftest import Cli

OF_AN_EXECUTION = [
    "matmul_flops_forward",
    "matmul_flops_backward",
    "matmul_flops_recomputed",
    "matmul_flops",
    "matmul_flops_per_text_token",
    "hbm_bytes_forward",
    "hbm_bytes_backward",
    "saved_bytes",
    "activation_peak_bytes",
    "total_bytes",
]
RECORD_KEYS = [
    "name",
    "variant",
    "structure",
    "objective",
    "recompute",
    "dropout",
    "batch",
    "text_tokens",
    "source_tokens",
    "new_tokens",
    "prefix_tokens",
    "loss_tokens",
    "loss_fraction",
    "logits_bytes",
    "params_total",
    "weight_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "optimizer_peak_bytes",
    "hbm_bytes_optimizer",
    *(f"{key}_fused" for key in OF_AN_EXECUTION),
    *(f"{key}_unfused" for key in OF_AN_EXECUTION),
    *RANK_KEYS,
    "hbm_level",
    "unfused_reference",
    "fused_kernel",
    "weight_dtype",
    "activation_dtype",
    "unconfirmed",
    "unpredicted",
]


def records(cli: Cli, *words: str) -> list[dict[str, Any]]:
    done = cli("count", *words, "--format", "json")
    assert done.code == 0, done.err
    assert list(done.json) == ["schema_version", "results"]
    assert done.json["schema_version"] == 1
    return done.json["results"]  # type: ignore[no-any-return]


def test_the_contract_of_a_record(cli: Cli) -> None:
    (record,) = records(cli, "gpt2", "--objective", "causal-lm", "--context", "64", "--batch", "2")
    assert list(record) == RECORD_KEYS
    assert (record["objective"], record["structure"]) == ("causal-lm", "causal-decoder")
    assert (record["text_tokens"], record["new_tokens"], record["loss_tokens"], record["batch"]) == (64, 64, 64, 2)
    assert record["loss_fraction"] == 1.0
    assert record["logits_bytes"] == 2 * 64 * 50257 * 2
    for execution in ("fused", "unfused"):
        forward, backward = (record[f"matmul_flops_{way}_{execution}"] for way in ("forward", "backward"))
        assert record[f"matmul_flops_{execution}"] == forward + backward
        assert record[f"matmul_flops_per_text_token_{execution}"] == (forward + backward) / (2 * 64)
    assert record["matmul_flops_backward_unfused"] == 2 * record["matmul_flops_forward_unfused"]
    # 12 layers, 12 heads, 2 sequences: the scores once more
    scores = 12 * 2 * 12 * 2 * 64 * 64 * 64
    assert record["matmul_flops_backward_fused"] == record["matmul_flops_backward_unfused"] + scores
    assert record["unconfirmed"] == {}
    assert record["unpredicted"] == {}


PARAMS = 124_439_808


def test_what_a_step_keeps(cli: Cli) -> None:
    (record,) = records(cli, "gpt2", "--phase", "train", "--context", "64", "--batch", "2")
    assert (record["objective"], record["recompute"], record["dropout"]) == ("causal-lm", "none", 0.0)
    assert record["weight_bytes"] == record["gradient_bytes"] == 2 * PARAMS
    assert record["optimizer_bytes"] == (4 + 4 + 4) * PARAMS  # master, m, v
    assert record["optimizer_peak_bytes"] == (2 + 4) * PARAMS  # gradients and their casts
    assert record["hbm_bytes_optimizer"] == 12 + 40 * PARAMS
    for execution in ("fused", "unfused"):
        peak = record[f"activation_peak_bytes_{execution}"]
        assert record["gradient_bytes"] + record["logits_bytes"] < peak < record["optimizer_peak_bytes"]
        assert record[f"total_bytes_{execution}"] == (2 + 12 + 6) * PARAMS
    # Long texts live mostly of what is saved: then backward is the higher of the two peaks.
    (long,) = records(cli, "gpt2", "--phase", "train", "--context", "512", "--batch", "8")
    for execution in ("fused", "unfused"):
        peak = long[f"activation_peak_bytes_{execution}"]
        assert peak > long["optimizer_peak_bytes"]
        assert long[f"total_bytes_{execution}"] == (2 + 12) * PARAMS + peak
    assert long["unconfirmed"] == {}


def test_the_objective_alone_means_a_training_step(cli: Cli) -> None:
    assert records(cli, "gpt2", "--objective", "auto") == records(cli, "gpt2", "--phase", "train")


def test_what_is_computed_again_is_not_saved(cli: Cli) -> None:
    none, selective, full = (
        records(cli, "gpt2", "--phase", "train", "--context", "64", "--recompute", what)[0]
        for what in ("none", "selective", "full")
    )
    assert none["saved_bytes_unfused"] > selective["saved_bytes_unfused"] > full["saved_bytes_unfused"]
    forward = none["matmul_flops_forward_unfused"]
    cores, head = 12 * 2 * 12 * 2 * 64 * 64 * 64, 2 * 64 * 768 * 50257
    assert [each["matmul_flops_recomputed_unfused"] for each in (none, selective, full)] == [0, cores, forward - head]
    for each in (selective, full):
        again = each["matmul_flops_recomputed_unfused"]
        assert each["matmul_flops_backward_unfused"] == none["matmul_flops_backward_unfused"] + again
        assert each["hbm_bytes_backward_unfused"] > none["hbm_bytes_backward_unfused"]
        assert each["hbm_bytes_forward_unfused"] == none["hbm_bytes_forward_unfused"]
    assert full["recompute"] == "full"


def test_what_no_rule_says_is_null_with_its_reason(cli: Cli) -> None:
    (record,) = records(cli, "mamba-130m", "--phase", "train", "--context", "16")
    walked = ("hbm_bytes_backward", "saved_bytes", "activation_peak_bytes", "total_bytes")
    keys = {f"{key}_{execution}" for key in walked for execution in ("fused", "unfused")}
    assert set(record["unpredicted"]) == keys
    assert {record[key] for key in keys} == {None}
    assert record["gradient_bytes"] == 2 * record["params_total"]
    assert record["matmul_flops_backward_fused"] > 0
    done = cli("count", "mamba-130m", "--phase", "train", "--context", "16")
    assert "no rule says what its backward moves and keeps: layers.0: attention of kind mamba-1" in " ".join(
        done.out.split()
    )
    refused = cli("count", "mamba-130m", "--phase", "train", "--context", "16", "--memory", "80GiB")
    assert (refused.code, refused.out) == (2, "")
    assert "--memory: whether a training step of mamba-130m fits cannot be said" in refused.err


def test_whether_a_step_fits(cli: Cli) -> None:
    words = ("gpt2", "--phase", "train", "--context", "64")
    (record,) = records(cli, *words)
    need = record["total_bytes_fused"]
    for memory, code, verdict in ((need, 0, "fits, 0 B free"), (need - 1, 1, "does not fit: 1 B short")):
        done = cli("count", *words, "--memory", f"{memory}B")
        assert done.code == code
        assert verdict in done.out
        as_json = cli("count", *words, "--memory", f"{memory}B", "--format", "json").json["results"][0]
        assert (as_json["fits_fused"], as_json["headroom_bytes_fused"]) == (code == 0, memory - need)


def test_a_step_by_module(cli: Cli) -> None:
    (record,) = records(cli, "gpt2", "--phase", "train", "--context", "64", "--by", "module")
    rows = {row["path"]: row for row in record["breakdown"]}
    for key in ("gradient_bytes", "optimizer_bytes", "saved_bytes_fused", "saved_bytes_unfused", "hbm_bytes_fused"):
        whole = record["hbm_bytes_forward_fused"] if key == "hbm_bytes_fused" else record[key]
        assert sum(row["count"] * row[key] for row in rows.values()) == whole, key
    row, heads = 64 * 768 * 2, 12 * 64
    assert rows["layers.{0-11}.attn.core"]["saved_bytes_fused"] == 4 * row + 4 * heads + 24  # q, k, v, o, lse, seed
    assert rows["layers.{0-11}.attn.core"]["saved_bytes_unfused"] == 3 * row + 2 * heads * 64  # q, k, v, probabilities
    (by_layer,) = records(cli, "gpt2", "--phase", "train", "--context", "64", "--by", "layer")
    assert [each["path"] for each in by_layer["breakdown"]][2:] == ["layers.{0-11}", "final_norm", "lm_head", "loss"]


def test_a_step_by_op_lists_the_kernels_of_both_passes(cli: Cli) -> None:
    words = ("gpt2", "--phase", "train", "--context", "64")
    (record,) = records(cli, *words, "--by", "op")
    for execution in ("fused", "unfused"):
        for name in ("forward", "backward"):
            lines = [k for k in record["breakdown"] if (k["attention"], k["pass"]) == (execution, name)]
            moved = sum(k["count"] * (k["read_bytes"] + k["write_bytes"]) for k in lines)
            assert moved == record[f"hbm_bytes_{name}_{execution}"]
            flops = sum(k["count"] * k["matmul_flops"] for k in lines)
            assert flops == record[f"matmul_flops_{name}_{execution}"]
    clones = {k["path"]: k["count"] for k in record["breakdown"] if k["kind"] == "clone" and k["pass"] == "backward"}
    # Unfused, the gradients of heads are copied to be rows of one projection again: those of q and v, of one sequence.
    assert clones == {"layers.{0-11}.attn.q_proj": 12, "layers.{0-11}.attn.v_proj": 12}
    out = cli("count", *words, "--by", "op").out
    assert "native_layer_norm_backward" in out
    bare = cli("count", "mamba-130m", "--phase", "train", "--context", "16", "--by", "op").out
    assert "No rule says backward's." in bare


def test_auto_is_the_objective_of_each_structure(cli: Cli) -> None:
    asked = ("gpt2", "t5-small", "bert-base-uncased", "chatglm-6b")
    chosen = {record["name"]: record["objective"] for record in records(cli, *asked, "--objective", "auto")}
    assert list(chosen.values()) == ["causal-lm", "span-corruption", "masked-lm", "prefix-lm"]
    assert list(chosen) == list(asked)


def test_span_corruption_has_the_lengths_of_the_paper(cli: Cli) -> None:
    (record,) = records(cli, "t5-small", "--objective", "span-corruption", "--context", "568")
    assert (record["source_tokens"], record["new_tokens"], record["loss_tokens"]) == (512, 114, 114)


def test_lists_give_one_record_each(cli: Cli) -> None:
    found = records(cli, "gpt2", "--objective", "auto", "--context", "8,16", "--batch", "1,3")
    assert [(record["text_tokens"], record["batch"]) for record in found] == [(8, 1), (8, 3), (16, 1), (16, 3)]


def test_the_text_is_as_long_as_the_model_reads_unless_told_otherwise(cli: Cli) -> None:
    found = records(cli, "gpt2", "llama-2-7b", "--objective", "auto")
    assert [record["text_tokens"] for record in found] == [1024, 2048]


def test_the_prefix_is_half_of_the_text_or_as_told(cli: Cli) -> None:
    (half,) = records(cli, "chatglm-6b", "--objective", "prefix-lm", "--context", "9")
    assert (half["prefix_tokens"], half["loss_tokens"]) == (4, 6)
    (none,) = records(cli, "chatglm-6b", "--objective", "prefix-lm", "--context", "9", "--prefix-tokens", "0")
    assert (none["prefix_tokens"], none["loss_tokens"]) == (0, 9)


def rows_of(out: str, name: str) -> list[str]:
    """The rows of the tables that have one for each execution."""
    return [line for line in out.splitlines() if line.startswith(name) and "fused" in line]


def test_a_kernel_that_does_not_exist_leaves_its_figures_unconfirmed(cli: Cli, tmp_path: Any) -> None:
    spec = tmp_path / "capped.yaml"
    spec.write_text(CAPPED, encoding="utf-8")
    (record,) = records(cli, str(spec), "--objective", "causal-lm")
    assert set(record["unconfirmed"]) == {
        "hbm_bytes_forward_fused",
        "matmul_flops_backward_fused",
        "matmul_flops_fused",
        "matmul_flops_per_text_token_fused",
        "hbm_bytes_backward_fused",
        "saved_bytes_fused",
        "activation_peak_bytes_fused",
        "total_bytes_fused",
    }
    done = cli("count", str(spec), "--objective", "causal-lm")
    assert "* unconfirmed: no fused kernel of the reference runs this attention" in done.out
    costs, kept = rows_of(done.out, "capped")[:2], rows_of(done.out, "capped")[2:]
    assert [line.count(" *") for line in costs] == [5, 0]
    assert [line.count(" *") for line in kept] == [3, 0]


CAPPED = """\
name: capped
source: {url: https://example.org, read: recalled}
structure: causal-decoder
vocab_size: 50
d_model: 16
max_context: 32
tied_embeddings: true
position: {kind: none}
layers:
  count: 1
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 2, n_kv_heads: 2, head_dim: 8, softcap: 30.0}
  ffn: {kind: swiglu, d_ff: 24}
"""


# --- how it is printed --------------------------------------------------------------------------------


def test_the_tables_say_what_is_read_and_what_it_costs(cli: Cli) -> None:
    done = cli("count", "t5-small", "--objective", "auto", "--context", "568", "--batch", "1,8")
    assert done.code == 0
    lines = done.out.splitlines()
    read = [line.split() for line in lines if "span-corruption" in line]
    assert read == [["t5-small", "span-corruption", "568", "512", "114", "-", "114", "100.0%"]], "once for both batches"
    rows = [line.split()[:3] for line in rows_of(done.out, "t5-small")]
    assert rows == 2 * [["t5-small", way, batch] for batch in ("1", "8") for way in ("fused", "unfused")]
    assert "  llmprof profile t5-small --batch 1,8 --context 568 --objective auto" in lines


def test_markdown_has_the_same_tables(cli: Cli) -> None:
    done = cli("count", "gpt2", "--objective", "causal-lm", "--context", "8", "--format", "markdown")
    assert "| gpt2 | causal-lm | 8 | - | 8 | - | 8 | 100.0% |" in done.out


def test_csv_has_a_row_for_each_record(cli: Cli) -> None:
    done = cli("count", "gpt2", "--objective", "causal-lm", "--context", "8,16", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["text_tokens"] for row in rows] == ["8", "16"]
    assert list(rows[0]) == RECORD_KEYS


def test_output_goes_to_the_file(cli: Cli, tmp_path: Any) -> None:
    target = tmp_path / "out.json"
    words = ("count", "gpt2", "--objective", "auto", "--context", "8", "--format", "json")
    printed = cli(*words).out
    assert cli(*words, "--output", str(target)).out == ""
    assert target.read_text(encoding="utf-8") == printed


def test_a_sequence_beyond_what_the_model_was_made_for_is_warned_about(cli: Cli) -> None:
    done = cli("count", "chatglm-6b", "--objective", "blank-infilling")
    # 307 of 2,048 tokens in 102 runs, each with a mask and a start
    assert "context 2,252 is beyond what chatglm-6b was made for (2,048)" in done.err


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--phase", "prefill"), "--phase has no effect on a training pass: it is neither prefill nor decode"),
        (("--new-tokens", "8"), "--new-tokens has no effect on a training pass: the objective says how many tokens"),
        (("--source-tokens", "8"), "--source-tokens has no effect on a training pass: the objective says how many"),
        (("--logits", "last"), "--logits has no effect on a training pass: the objective says which positions"),
        (("--kv-dtype", "bf16"), "--kv-dtype has no effect on a training pass: nothing is cached"),
        (("--weight-dtype", "int4", "--group-size", "64"), "--group-size has no effect on a training pass"),
        (("--recompute", "some"), "--recompute: found 'some'; expected none, selective or full"),
        (("--dropout", "1"), "--dropout: found '1'; expected a probability"),
        (("--explain",), "--explain has no effect on a training pass"),
        (("--prefix-tokens", "3"), "causal-lm takes none; prefix-lm alone does"),
        (("--weight-dtype", "int8"), "a training pass keeps nothing in a quantised format"),
        (("--context", "1"), "at least 2 tokens of text"),
        (("--context", "2048"), "gpt2 has 1024 learned positions"),
        (("--batch", "0"), "--batch: found 0; expected at least 1"),
    ],
)
def test_what_has_no_effect_or_cannot_be_is_refused(cli: Cli, words: tuple[str, ...], reason: str) -> None:
    done = cli("count", "gpt2", "--objective", "causal-lm", *words)
    assert done.code == 2
    assert reason in done.err
    assert done.out == ""


def test_an_unknown_objective_names_the_known_ones(cli: Cli) -> None:
    done = cli("count", "gpt2", "--objective", "denoising")
    assert done.code == 2
    assert "--objective: found 'denoising'; expected auto, causal-lm, prefix-lm, span-corruption" in done.err


def test_an_objective_of_another_structure_is_refused(cli: Cli) -> None:
    done = cli("count", "gpt2", "--objective", "masked-lm")
    assert done.code == 2
    assert "masked-lm trains a model of structure encoder" in done.err


def test_help_names_every_objective(cli: Cli) -> None:
    text = "".join(cli("count", "--help").out.split())  # names may be broken over lines
    for name in ("causal-lm", "prefix-lm", "span-corruption", "blank-infilling", "masked-lm", "auto"):
        assert name in text


def test_a_prefix_of_nothing_is_a_length_and_no_prefix_is_none(cli: Cli) -> None:
    def prefix(spec: str, *words: str) -> str:
        lines = cli("count", spec, *words).out.splitlines()
        return dict(zip(lines[1].split(), lines[3].split(), strict=False))["prefix"]

    assert prefix("chatglm-6b", "--objective", "prefix-lm", "--prefix-tokens", "0") == "0"
    assert prefix("gpt2", "--objective", "causal-lm") == "-"


def test_every_row_names_its_reference_where_they_differ(cli: Cli) -> None:
    text = cli("count", "attention-families", "attention-families:linear", "--objective", "auto").out
    rows = [line.split()[:3] for line in text.splitlines() if line.startswith("attention-families")]
    assert rows[2:] == 2 * [
        ["attention-families", "fused", "flash"],
        ["attention-families", "unfused", "lean-eager"],
        ["attention-families:linear", "fused", "linear-chunked"],
        ["attention-families:linear", "unfused", "linear-parallel"],
    ]
    assert "reference " not in cli("count", "gpt2", "--objective", "auto").out.splitlines()[6]


def test_a_phase_that_is_none_is_named_with_all_that_are(cli: Cli) -> None:
    for wrong in ("TRAIN", "", "prefill,training"):
        done = cli("count", "gpt2", "--phase", wrong)
        assert done.code == 2, wrong
        assert "expected prefill, decode or train" in done.err
    assert cli("count", "gpt2", "--phase", "train, train", "--context", "16").code == 0
