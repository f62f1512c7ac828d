"""`llmprof count` of a pass that is spread over devices: records, tables, and what has no effect or no rule."""

from __future__ import annotations

import csv
import io
import re

import pytest

from tests.cli.conftest import Cli

SEVENTY = ("count", "llama-2-70b", "--phase", "prefill", "--context", "4Ki", "--batch", "4")
KEYS = {
    "tensor_parallel",
    "sequence_parallel",
    "pipeline_parallel",
    "pipeline_layers",
    "data_parallel",
    "expert_parallel",
    "context_parallel",
    "parameters_per_rank",
    "weight_bytes_per_rank",
    "kv_cache_bytes_per_rank",
    "recurrent_state_bytes_per_rank",
    "matmul_flops_dense_per_rank",
    "matmul_flops_causal_per_rank",
    "hbm_bytes_fused_per_rank",
    "activation_peak_bytes_fused_per_rank",
    "collective_calls",
    "collective_bytes_per_rank",
    "collective_wire_bytes_per_rank",
}


def test_the_record_of_a_rank(cli: Cli) -> None:
    (record,) = cli(*SEVENTY, "--tensor-parallel", "8", "--format", "json").json["results"]
    d, rows = 8192, 4 * 4096
    # 8 of 64 query heads, 1 of 8 KV heads, 3,584 of 28,672, two norms; 4,000 rows of two tables, the last norm.
    layer = 2 * 1024 * d + 2 * 128 * d + 3 * 3584 * d + 2 * d
    assert record["parameters_per_rank"] == 80 * layer + 2 * 4000 * d + d
    assert record["weight_bytes_per_rank"] == 2 * record["parameters_per_rank"]
    assert record["kv_cache_bytes_per_rank"] == record["kv_cache_bytes"] // 8
    assert record["collective_calls"] == 162
    assert record["collective_bytes_per_rank"] == 161 * rows * d * 2 + rows * 32_000 * 2
    assert record["collective_wire_bytes_per_rank"] == 161 * rows * d * 2 * 14 // 8 + rows * 32_000 * 2 * 7 // 8
    assert [record[key] for key in ("tensor_parallel", "pipeline_parallel", "data_parallel")] == [8, 1, 1]
    assert record["sequence_parallel"] is False


def test_what_a_rank_runs_is_in_its_record_and_on_its_page(cli: Cli) -> None:
    words = (*SEVENTY, "--logits", "last", "--tensor-parallel", "8")
    (record,) = cli(*words, "--format", "json").json["results"]
    d, rows = 8192, 4 * 4096
    layer = 2 * rows * (2 * 1024 * d + 2 * 128 * d + 3 * 3584 * d)
    core = 2 * 2 * 4 * 8 * 4096 * 128  # scores and values, of 4 sequences and 8 heads, for each key
    assert record["matmul_flops_dense_per_rank"] == 80 * (layer + core * 4096) + 2 * 4 * d * 4000
    assert record["matmul_flops_causal_per_rank"] == 80 * (layer + core * 4097 // 2) + 2 * 4 * d * 4000
    # In a layer's second norm: its input, what the attention left (d each, 2 bytes), the same in fp32, what it is scaled
    # to, and one value of each row in fp32; beside them the token ids and the tables of the rotation.
    constants = 8 * rows + 2 * 2 * 4096 * 128
    assert record["activation_peak_bytes_fused_per_rank"] == rows * (2 * 2 * d + 2 * 4 * d + 4) + constants
    assert not {key for key in record["unconfirmed"] if "per_rank" in key} - {"collective_wire_bytes_per_rank"}
    assert "What each of them runs" in cli(*words).out


def test_what_no_kernel_reads_is_marked(cli: Cli) -> None:
    passes = ("--phase", "decode", "--context", "4Ki", "--batch", "8", "--weight-dtype", "fp8")
    words = ("count", "mixtral-8x7b", *passes, "--tensor-parallel", "4", "--expert-parallel", "2")
    (record,) = cli(*words, "--format", "json").json["results"]
    said = record["unconfirmed"]
    for key in ("hbm_bytes_fused_per_rank", "activation_peak_bytes_fused_per_rank"):
        assert "no kernel of the reference computes in fp8" in said[key]
    assert "weight_bytes_per_rank" not in said
    out = " ".join(cli(*words).out.split())
    assert "GiB * " in out.partition("What each of them runs")[2]
    assert "tensor 4, experts 2, of those devices" in out


def test_devices_share_the_tokens_of_a_sequence(cli: Cli) -> None:
    (whole,) = cli(*SEVENTY, "--format", "json").json["results"]
    words = (*SEVENTY, "--context-parallel", "4")
    (record,) = cli(*words, "--format", "json").json["results"]
    assert record["context_parallel"] == 4
    assert record["kv_cache_bytes_per_rank"] * 4 == whole["kv_cache_bytes"]
    assert record["matmul_flops_causal_per_rank"] * 4 == whole["matmul_flops_causal"]
    assert record["collective_bytes_per_rank"] == 80 * 3 * 2 * (4 * 1024 * 8 * 128) * 2
    out = cli(*words).out
    assert "On each of 4 devices: tensor 1, context 4, which share the tokens of a sequence" in out
    assert "layers.{0-79}.attn.core   send" in out


def test_stages_keep_the_states_of_their_layers(cli: Cli) -> None:
    words = ("count", "mamba-130m", "--phase", "decode", "--context", "64", "--batch", "4", "--data-parallel", "2")
    (record,) = cli(*words, "--pipeline-parallel", "2", "--format", "json").json["results"]
    assert record["kv_cache_bytes_per_rank"] == 0
    assert record["recurrent_state_bytes_per_rank"] * 4 == record["recurrent_state_bytes"] > 0
    assert "KV cache states calls" in " ".join(cli(*words).out.split())


def test_stages_have_as_many_layers_as_they_are_told(cli: Cli) -> None:
    words = ("count", "llama-2-70b", "--phase", "decode", "--context", "64", "--format", "json")
    layer = 855_654_400
    for options, split, fullest in (
        (("--pipeline-parallel", "3"), "27,27,26", 27 * layer + 32_000 * 8192),
        (("--pipeline-layers", "30,25,25"), "30,25,25", 30 * layer + 32_000 * 8192),
    ):
        done = cli(*words, *options)
        (record,) = done.json["results"]
        assert (record["pipeline_parallel"], record["pipeline_layers"]) == (3, split)
        assert record["parameters_per_rank"] == fullest
    page = cli(*words[:-2], "--pipeline-layers", "30,25,25").out
    assert "--pipeline-parallel 3 --pipeline-layers 30,25,25 --device meta" in page
    assert "On each of 3 devices: tensor 1, pipeline 3" in page
    assert re.findall(r"decode at 64 +(\d\S*) +(\d+) ", page)[:3] == [("0", "30"), ("1", "25"), ("2", "25")]


def test_nothing_else_of_a_record_changes(cli: Cli) -> None:
    (plain,) = cli(*SEVENTY, "--format", "json").json["results"]
    (spread,) = cli(*SEVENTY, "--format", "json", "--pipeline-parallel", "4").json["results"]
    assert spread.keys() - plain.keys() == KEYS
    said = spread["unconfirmed"].pop("collective_wire_bytes_per_rank")
    assert "no instrument" in said
    assert {key: spread[key] for key in plain} == plain
    assert spread["parameters_per_rank"] == 20 * 855_654_400 + 32_000 * 8192 + 8192, "the last stage: a head, a norm"


def test_replicas_share_the_batch(cli: Cli) -> None:
    (whole,) = cli(*SEVENTY, "--format", "json").json["results"]
    (row,) = csv.DictReader(io.StringIO(cli(*SEVENTY, "--data-parallel", "2", "--format", "csv").out))
    assert int(row["kv_cache_bytes_per_rank"]) * 2 == whole["kv_cache_bytes"]
    assert (row["collective_calls"], row["collective_wire_bytes_per_rank"]) == ("0", "0")


def test_the_tables_of_a_spread_pass(cli: Cli) -> None:
    words = ("--tensor-parallel", "8", "--sequence-parallel", "--pipeline-parallel", "4", "--data-parallel", "2")
    done = cli(*SEVENTY, *words)
    assert (done.code, done.err) == (0, "")
    assert "On each of 64 devices: tensor 8 with sequence parallelism, pipeline 4, data 2, which share" in done.out
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    held = [line.split() for line in lines if line.startswith("llama-2-70b prefill")]
    assert [line[5] for line in held] == ["0", "1-2", "3"] * 2, "what they hold, and what they run"
    assert "layers.{0-79}.ffn.down reduce-scatter 80 128.00 MiB 112.00 MiB 10.00 GiB 8.75 GiB" in lines
    assert "layers.{19,39,59} send 3 16.00 MiB 16.00 MiB 48.00 MiB 48.00 MiB" in lines
    assert "On each of" not in cli(*SEVENTY).out


def test_a_chunk_of_a_prompt_is_named_with_its_context(cli: Cli) -> None:
    words = ("--phase", "prefill", "--new-tokens", "8", "--context", "8,64,128", "--tensor-parallel", "2")
    lines = [" ".join(line.split()) for line in cli("count", "gpt2", *words).out.splitlines()]
    held = [line.partition(" 62.64 M ")[0] for line in lines if " 62.64 M " in line]
    assert held == ["gpt2 prefill 8", "gpt2 prefill 8 at 64", "gpt2 prefill 8 at 128"]


def test_one_device_says_nothing(cli: Cli) -> None:
    done = cli("count", "gpt2", "--tensor-parallel", "1", "--context", "16")
    assert done.code == 0
    assert "On each of 1 device: tensor 1\n" in done.out
    assert "What the devices say" not in done.out


def test_an_engine_divides_its_own_cache_alone(cli: Cli) -> None:
    words = ("--kv-engine", "vllm", "--tensor-parallel", "8", "--format", "json")
    (record,) = cli(*SEVENTY, *words).json["results"]
    assert not KEYS & record.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("llama-2-7b", "--tensor-parallel", "3"),
            "error: in prefill: --tensor-parallel is 3, but it does not divide n_heads (32) of llama-2-7b; use one of: 1, 2,",
        ),
        (("llama-2-7b", "--pipeline-parallel", "33"), "more stages than the 32 layers of llama-2-7b; use at most 32"),
        (("gpt2", "--pipeline-layers", "6,5"), "--pipeline-layers is 6,5; each has to be at least 1"),
        (
            ("gpt2", "--pipeline-layers", "6,6", "--pipeline-parallel", "3"),
            "--pipeline-layers is 6,6, for 2 of 3 stages (--pipeline-parallel); give one number for each, such as 4,4,4",
        ),
        (
            ("gpt2", "--data-parallel", "2"),
            "gpt2 in prefill: --data-parallel is 2, which does not divide the batch of 1",
        ),
        (("gpt2", "--batch", "3000", "--data-parallel", "7"), "500, 600, 750, 1000, or a larger divisor"),
        (
            ("olmo-2-7b", "--tensor-parallel", "2"),
            "one norm of queries or keys runs over (all-heads), in layers of olmo",
        ),
        (("gpt2", "--tensor-parallel", "2", "--sequence-parallel"), "gpt2 in decode: sequence parallelism"),
        (("gpt2", "--context-parallel", "2"), "gpt2 in decode: --context-parallel is 2, but the phase is decode"),
        (("gpt2", "--phase", "decode", "--context-parallel", "2"), "leave it at 1; --phase prefill asks for no decode"),
        (
            ("gpt2", "--phase", "prefill", "--context-parallel", "2", "--kv-dtype", "int8"),
            "gpt2 in prefill: --context-parallel is 2, but the cache is packed (int8)",
        ),
        (("gpt2", "--sequence-parallel"), "--sequence-parallel divides tokens among the devices of --tensor-parallel"),
        (("gpt2", "--tensor-parallel", "0"), "--tensor-parallel: found 0; expected at least 1"),
        (("gpt2", "--pipeline-parallel", "x"), "--pipeline-parallel: found 'x'"),
        *(
            (
                ("gpt2", "--pipeline-layers", text),
                f"found {text!r}; expected the layers of each stage, such as 16,15,15,15",
            )
            for text in ("6,x", "", "6,6,", "-1,13", "6.0,6", "1Ki,1")
        ),
        (("mixtral-8x7b", "--data-parallel", "2", "--batch", "2", "--expert-parallel", "4"), "--expert-parallel is 4"),
        (("gpt2", "--expert-parallel", "2"), "has no experts"),
        (("gpt2", "--context-parallel", "0"), "--context-parallel: found 0; expected at least 1"),
        (("gpt2", "--tensor-parallel", "2", "--memory", "80GiB"), "--memory has no effect on a pass that is spread"),
        (("gpt2", "--data-parallel", "2", "--device-spec", "h200"), "--device-spec has no effect on a pass that is"),
        (("gpt2", "--tensor-parallel", "2", "--sram", "auto"), "--sram has no effect on a pass that is spread"),
        (("gpt2", "--kv-engine", "vllm", "--data-parallel", "2"), "--data-parallel has no effect beside --kv-engine"),
        (("gpt2", "--kv-engine", "hf", "--pipeline-parallel", "2"), "--pipeline-parallel has no effect beside"),
        (("gpt2", "--kv-engine", "hf", "--pipeline-layers", "6,6"), "--pipeline-layers has no effect beside"),
        (("gpt2", "--phase", "train", "--pipeline-parallel", "2"), "--pipeline-parallel has no effect on a training"),
        (("gpt2", "--phase", "train", "--expert-parallel", "2"), "--expert-parallel has no effect on a training"),
        (("gpt2", "--phase", "train", "--context-parallel", "2"), "--context-parallel has no effect on a training"),
    ],
)
def test_what_cannot_be_spread(cli: Cli, words: tuple[str, ...], said: str) -> None:
    done = cli("count", *words)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.split())
