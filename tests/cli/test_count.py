"""`llmprof count`: the contract, the tables, and what decides them."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from tests.cli.conftest import Cli

# The keys that issue-readers program against, in their order; a key may be added, with a line in the contract.
RECORD_KEYS = [
    "name",
    "variant",
    "phase",
    "batch",
    "new_tokens",
    "context",
    "source_tokens",
    "prefix_tokens",
    "logits",
    "routing",
    "latent",
    "mtp",
    "params_total",
    "params_embedding",
    "params_non_embedding",
    "params_active",
    "params_mtp",
    "matmul_flops_dense",
    "matmul_flops_dense_unfused",
    "matmul_flops_causal",
    "matmul_flops_dense_per_token",
    "vector_flops",
    "kv_cache_bytes",
    "kv_cache_bytes_self",
    "kv_cache_bytes_cross",
    "kv_cache_bytes_per_token",
    "recurrent_state_bytes",
    "weight_bytes",
    "weight_bytes_released",
    "weight_bytes_released_mtp",
    "activation_peak_bytes_fused",
    "activation_peak_bytes_unfused",
    "total_bytes_fused",
    "total_bytes_unfused",
    "hbm_bytes_fused",
    "hbm_bytes_unfused",
    "experts_touched",
    "experts_expected",
    "hbm_bytes_expected_fused",
    "hbm_bytes_expected_unfused",
    "hbm_level",
    "grouping",
    "unfused_reference",
    "fused_kernel",
    "sram_bytes_fused",
    "sram_kernel",
    "sram_tile_footprint_bytes",
    "arithmetic_intensity_fused",
    "arithmetic_intensity_unfused",
    "weight_dtype",
    "activation_dtype",
    "kv_dtype",
    "unconfirmed",
    "kv_engine",
    "kv_cache_bytes_engine",
    "recurrent_state_bytes_engine",
]
NOT_COUNTS = {"arithmetic_intensity_fused", "arithmetic_intensity_unfused", "unconfirmed"}


def one(cli: Cli, *words: str) -> dict[str, Any]:
    done = cli("count", *words, "--format", "json")
    assert done.code == 0, done.err
    (record,) = done.json["results"]
    return record  # type: ignore[no-any-return]


def test_the_contract_of_a_record(cli: Cli) -> None:
    done = cli("count", "llama-2-7b", "--format", "json")
    assert done.code == 0
    assert list(done.json) == ["schema_version", "results"]
    assert done.json["schema_version"] == 1
    assert [record["phase"] for record in done.json["results"]] == ["prefill", "decode"]
    for record in done.json["results"]:
        assert list(record) == RECORD_KEYS
        for key, value in record.items():
            assert isinstance(value, int | str | None.__class__) or key in NOT_COUNTS, key
            assert isinstance(value, bool) == (key == "mtp")


def test_exact_figures_of_llama_2_7b(cli: Cli) -> None:
    record = one(cli, "llama-2-7b", "--phase", "prefill", "--context", "2048")
    layer = 4 * 4096 * 4096 + 3 * 4096 * 11008
    total = 32 * (layer + 2 * 4096) + 4096 + 2 * 32000 * 4096
    assert record["params_total"] == total == 6_738_415_616
    assert record["params_embedding"] == 2 * 32000 * 4096
    assert record["weight_bytes"] == 2 * total
    # 2 per multiply-accumulate; twice (scores and values) the full square for each of 32 heads of 128.
    assert record["matmul_flops_dense"] == 2 * 2048 * (32 * layer + 32000 * 4096) + 32 * 2 * 2 * 32 * 2048**2 * 128
    assert record["matmul_flops_causal"] == 2 * 2048 * (32 * layer + 32000 * 4096) + 32 * 4 * 32 * 128 * (
        2048 * 2049 // 2
    )
    assert record["kv_cache_bytes_per_token"] == 2 * 32 * 32 * 128 * 2
    assert record["kv_cache_bytes"] == 2048 * 524_288
    assert record["total_bytes_fused"] == 2 * total + 2**30 + record["activation_peak_bytes_fused"]
    assert record["arithmetic_intensity_fused"] == record["matmul_flops_dense"] / record["hbm_bytes_fused"]
    assert record["unfused_reference"] == "lean-eager"
    assert record["fused_kernel"] == "flash"


def test_cache_bytes_are_per_token_times_tokens_and_batch(cli: Cli) -> None:
    record = one(cli, "llama-2-70b", "--phase", "decode", "--batch", "3", "--context", "1000", "--kv-dtype", "int8")
    # One byte per value and one fp16 scale per token and KV head, for k and for v, in 80 layers with 8 KV heads.
    assert record["kv_cache_bytes_per_token"] == 2 * 80 * 8 * (128 + 2)
    assert record["kv_cache_bytes"] == record["kv_cache_bytes_per_token"] * 3 * 1000


def test_comma_lists_give_a_record_each_and_repeats_none(cli: Cli) -> None:
    done = cli(
        "count", "gpt2", "gpt2", "--phase", "decode", "--batch", "1,8", "--context", "1Ki,512,1024", "--format", "json"
    )
    assert [(r["batch"], r["context"]) for r in done.json["results"]] == [(1, 1024), (8, 1024), (1, 512), (8, 512)]


def test_the_default_context_is_the_models_own_where_that_is_shorter(cli: Cli) -> None:
    assert one(cli, "gpt2", "--phase", "decode")["context"] == 1024
    assert one(cli, "llama-2-70b", "--phase", "decode")["context"] == 2048
    assert "context 1,024" in cli("count", "gpt2").out


def test_a_context_beyond_the_models_own_is_warned_of_and_one_beyond_its_table_refused(cli: Cli) -> None:
    done = cli("count", "llama-2-7b", "--context", "8192,9000", "--phase", "decode")
    assert done.code == 0
    assert done.err == "llmprof: warning: context 9,000 is beyond what llama-2-7b was made for (4,096)\n"
    done = cli("count", "gpt2", "--context", "1025")
    assert (done.code, done.out) == (2, "")
    assert "1024 learned positions" in done.err


def test_an_encoder_has_no_decode_and_that_alone_is_no_failure(cli: Cli) -> None:
    done = cli("count", "bert-base-uncased", "gpt2", "--format", "json")
    assert done.code == 0
    assert [(r["name"], r["phase"]) for r in done.json["results"]] == [
        ("bert-base-uncased", "prefill"),
        ("gpt2", "prefill"),
        ("gpt2", "decode"),
    ]
    assert "not applicable: bert-base-uncased is an encoder" in done.err


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_where_nothing_applies_there_is_no_figure_and_no_success(cli: Cli, form: str) -> None:
    done = cli("count", "bert-base-uncased", "--phase", "decode", "--format", form)
    assert done.code == 3
    assert "not applicable" in done.err
    if form == "json":
        assert done.json == {"schema_version": 1, "results": []}
    else:
        assert done.out == ""


def test_quantised_weights_make_traffic_unconfirmed_and_say_so(cli: Cli) -> None:
    record = one(cli, "llama-2-7b", "--phase", "decode", "--weight-dtype", "int4", "--group-size", "64")
    # Rows of 4096 and 11008 inputs: half a byte a value, an fp16 scale for each 64.
    rows = {4096: 4 * 4096 + 2 * 11008, 11008: 4096}
    packed = 32 * sum(count * (d_in // 2 + 2 * d_in // 64) for d_in, count in rows.items())
    others = 2 * (2 * 32000 * 4096 + 65 * 4096)
    assert record["weight_bytes"] == packed + others
    assert {"hbm_bytes_fused", "total_bytes_fused", "arithmetic_intensity_unfused"} <= set(record["unconfirmed"])
    table = cli("count", "llama-2-7b", "--weight-dtype", "int4", "--batch", "1,2", "--memory", "80GiB").out
    assert re.search(r"llama-2-7b +prefill +1 .* GiB \* ", table)
    assert re.search(r"fits, .* free \*", table)


def test_an_odd_group_and_an_odd_head_round_up(cli: Cli) -> None:
    record = one(cli, "gpt2", "--phase", "decode", "--weight-dtype", "int4", "--group-size", "7", "--kv-dtype", "int4")
    per_row = {768: 384 + 2 * 110, 3072: 1536 + 2 * 439}  # ceil(768 / 7) = 110, ceil(3072 / 7) = 439
    matrices = 12 * ((4 * 768 + 3072) * per_row[768] + 768 * per_row[3072])
    # All else stays in bf16: the tables, and per layer the biases (9 * 768, the wide one among them) and norms.
    rest = 2 * ((50257 + 1024) * 768 + 12 * (4 * 768 + 3072 + 768 + 4 * 768) + 2 * 768)
    assert record["weight_bytes"] == matrices + rest
    assert record["kv_cache_bytes_per_token"] == 2 * 12 * 12 * (32 + 2)


def test_variants_stand_under_their_base_with_ratios(cli: Cli) -> None:
    done = cli("count", "llama-2-70b", "--all-variants", "--phase", "decode")
    assert done.code == 0
    figures, _, ratios = done.out.partition("Ratio to the base")
    assert [line.split()[0] for line in figures.splitlines() if line.startswith("llama-2-70b")] == [
        "llama-2-70b",
        "llama-2-70b:mha",
        "llama-2-70b:mqa",
    ]
    mha = next(line for line in ratios.splitlines() if line.startswith("llama-2-70b:mha")).split()
    assert mha[3] == "8.000"  # 64 KV heads for 8
    assert max(map(len, done.out.splitlines())) <= 120


def test_rows_to_compare_stand_together(cli: Cli) -> None:
    done = cli("count", "attention-heads", "--variant", "base,mqa")
    names = [line.split()[:2] for line in done.out.partition("Ratio")[0].splitlines() if line.startswith("attention-")]
    assert names == [
        ["attention-heads", "prefill"],
        ["attention-heads:mqa", "prefill"],
        ["attention-heads", "decode"],
        ["attention-heads:mqa", "decode"],
    ]


def test_the_sheet_prints_the_records_exact_figures(cli: Cli) -> None:
    record = one(cli, "t5-base", "--phase", "prefill")
    text = cli("count", "t5-base", "--phase", "prefill").out
    for key, value in record.items():
        if isinstance(value, int) and key.partition("_")[0] in ("params", "matmul", "vector", "kv", "hbm", "total"):
            assert f"{value:,}" in text, key
    assert "source tokens 2,048" in text
    assert max(map(len, text.splitlines())) <= 120


def test_what_is_unconfirmed_is_starred_and_explained(cli: Cli) -> None:
    text = cli("count", "llama-2-7b").out
    assert re.search(r"^vector FLOPs, fused \* ", text, re.MULTILINE)
    assert re.search(r"^\* unconfirmed: vector_flops: ", text, re.MULTILINE)
    assert not re.search(r"^KV cache \*", text, re.MULTILINE)


def test_the_confirming_command_asks_the_same_question(cli: Cli) -> None:
    words = ("llama-2-7b", "--context", "1Ki", "--batch", "2", "--kv-dtype", "fp8", "--logits", "last")
    text = cli("count", *words, "--memory", "80GiB").out
    (command,) = [line for line in text.splitlines() if line.startswith("  llmprof profile")]
    assert sorted(command.split()) == sorted(["llmprof", "profile", *words, "--device", "meta"])


@pytest.mark.parametrize(("size", "code", "word"), [("80GiB", 0, "fits"), ("10GiB", 1, "does not fit")])
def test_memory(cli: Cli, size: str, code: int, word: str) -> None:
    done = cli("count", "llama-2-7b", "--phase", "decode", "--memory", size)
    assert done.code == code
    assert word in done.out
    done = cli("count", "llama-2-7b", "--phase", "decode", "--memory", size, "--format", "json")
    assert done.code == code
    (record,) = done.json["results"]
    assert record["memory_bytes"] == int(size.removesuffix("GiB")) * 2**30
    assert record["fits_fused"] is (code == 0)
    assert record["headroom_bytes_fused"] == record["memory_bytes"] - record["total_bytes_fused"]


@pytest.mark.parametrize("spec", ["t5-base", "attention-families:sliding"])
@pytest.mark.parametrize("level", ["module", "layer"])
def test_a_breakdown_adds_up_to_its_record(cli: Cli, level: str, spec: str) -> None:
    record = one(cli, spec, "--phase", "prefill", "--by", level)
    sums = {
        "params": "params_total",
        "kv_cache_bytes": "kv_cache_bytes",
        "matmul_flops_dense": "matmul_flops_dense",
        "matmul_flops_dense_unfused": "matmul_flops_dense_unfused",
        "hbm_bytes_fused": "hbm_bytes_fused",
        "hbm_bytes_unfused": "hbm_bytes_unfused",
    }
    for part, whole in sums.items():
        assert sum(line["count"] * line[part] for line in record["breakdown"]) == record[whole], part


def test_ops_add_up_to_their_record(cli: Cli) -> None:
    record = one(cli, "gpt2", "--phase", "decode", "--by", "op")
    for attention in ("fused", "unfused"):
        lines = [line for line in record["breakdown"] if line["attention"] == attention]
        moved = sum(line["count"] * (line["read_bytes"] + line["write_bytes"]) for line in lines)
        assert moved == record[f"hbm_bytes_{attention}"]


def test_explanations_come_to_their_figures(cli: Cli) -> None:
    record = one(cli, "gpt2", "--phase", "decode", "--explain")
    explained = {each["name"]: each for each in record["explanation"]}
    assert {"params_total", "matmul_flops_dense", "kv_cache_bytes", "hbm_bytes_fused"} <= set(explained)
    for name, each in explained.items():
        assert each["value"] == pytest.approx(record[name], rel=1e-12)
        assert each["source"]
    text = cli("count", "gpt2", "--phase", "decode", "--explain").out
    assert f"kv_cache_bytes = {record['kv_cache_bytes']:,}" in text
    assert max(len(line) for line in text.splitlines() if "source:" not in line) <= 120


def test_csv_holds_the_records(cli: Cli) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("count", "gpt2", "--format", "csv").out)))
    assert [row["phase"] for row in rows] == ["prefill", "decode"]
    assert list(rows[0]) == RECORD_KEYS
    assert rows[0]["params_total"] == "124439808"


def test_no_number_is_cut_in_a_narrow_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = cli("count", "gpt3-175b").out
    monkeypatch.setenv("COLUMNS", "40")
    assert cli("count", "gpt3-175b").out == wide
    assert "174,604,259,328" in wide


@pytest.mark.parametrize(("spec", "two"), [("attention-families", False), ("attention-families:sliding", True)])
def test_a_breakdown_has_the_flops_of_both_executions_where_they_differ(cli: Cli, spec: str, two: bool) -> None:
    text = cli("count", spec, "--phase", "prefill", "--by", "module").out
    head = next(line for line in text.splitlines() if line.startswith("module "))
    assert ("FLOPs fused   FLOPs unfused" in head) is two
    assert ("matmul FLOPs" in head) is not two


def test_a_state_that_does_not_grow_is_said_to_be_one(cli: Cli) -> None:
    text = cli("count", "attention-families:linear").out
    assert "recurrent state, of fixed size" in text
    assert "KV cache per token and sequence" not in text
    assert "fixed size" not in cli("count", "attention-families").out


def test_a_state_is_part_of_the_memory_and_of_the_breakdown(cli: Cli) -> None:
    rows = cli("count", "attention-families", "attention-families:linear", "--phase", "decode", "--memory", "1 TiB").out
    assert "recurrent state + activation peak" in rows
    assert re.search(r"KV cache +state +memory fused", rows)
    modules = cli("count", "attention-families:linear", "--phase", "decode", "--by", "module").out
    assert re.search(r"KV cache +state +matmul FLOPs", modules)
    assert " state " not in cli("count", "attention-families", "--phase", "decode", "--by", "module").out


def test_a_decoded_token_says_whether_it_completes_a_group(cli: Cli) -> None:
    # Groups of 3 end at tokens 1, 4, 7, ..: 4,095 is a multiple of 3, so that 4,096 is one of them.
    spec = "attention-families:compressed-conv"
    text = " ".join(cli("count", spec, "--phase", "decode", "--context", "4094,4095,4096").out.split())
    assert (
        f"{spec}, decode: the token at 4,096 completes a group of 3 keys, which the figures include; the tokens at 4,094 "
        "and 4,095 complete no group of 3 keys." in text
    )
    flops = [
        one(cli, spec, "--phase", "decode", "--context", n)["matmul_flops_dense"] for n in ("4095", "4096", "4097")
    ]
    assert flops[1] > flops[2] > flops[0]
    assert "group" not in cli("count", spec, "--phase", "prefill").out


KEEP_NOTHING = [("bert-base",), ("attention-families:linear",), ("attention-families:linear", "bert-base")]


@pytest.mark.parametrize("specs", KEEP_NOTHING)
def test_a_cache_dtype_that_nothing_is_kept_in_is_refused(cli: Cli, specs: tuple[str, ...]) -> None:
    done = cli("count", *specs, "--kv-dtype", "fp32")
    assert done.code == 2
    assert "--kv-dtype fp32 has no effect: " in done.err


def test_a_cache_dtype_is_taken_where_one_spec_keeps_something_in_it(cli: Cli) -> None:
    assert cli("count", "attention-families:linear", "attention-families", "--kv-dtype", "fp32").code == 0
    assert cli("count", "t5-base", "--kv-dtype", "fp32").code == 0
