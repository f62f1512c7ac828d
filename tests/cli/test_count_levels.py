"""`llmprof count --device-spec` and `--sram`: what they add, in every format, and what they refuse."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

KEYS = {
    "device",
    "compulsory_bytes_fused",
    "compulsory_bytes_unfused",
    "dram_bytes_fused",
    "dram_bytes_unfused",
    "dram_reread_bytes_fused",
    "l2_to_sm_bytes_fused",
    "l2_to_sm_bytes_unfused",
    "smem_bytes_fused",
    "matmul_flops_executed",
    "device_kernel",
}
ON_H200 = ("llama-3-8b", "--context", "131072", "--phase", "prefill", "--device-spec", "h200")

TABLE = """\
On h200: bytes by level (docs/reference-dram.md)
bytes by level                                 prefill, fused   prefill, unfused   decode, fused   decode, unfused
──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
compulsory: every tensor once                       15.49 GiB          15.52 GiB       14.48 GiB         14.48 GiB
DRAM: what misses the last-level cache            95.15 GiB *       227.40 GiB *     14.48 GiB *       14.48 GiB *
  keys and values read again                            0 B *                  -           0 B *                 -
op-level: what every kernel reads and writes       111.26 GiB         246.24 GiB       14.50 GiB         18.53 GiB
L2 to SM: tiles loaded again too                1014.88 GiB *         1.18 TiB *     14.65 GiB *       18.65 GiB *
shared memory, attention cores                   201.00 GiB *                  -      3.25 GiB *                 -
matmul FLOPs executed, attention cores               4.54 T *                  -       34.36 G *                 -
Attention: FlashAttention-2 forward sm90, 128x64 (d=128).
Attention: FlashAttention-2 split-KV forward sm90, 64x128 (d=128) in 32 splits.
* unconfirmed: dram_bytes_fused, dram_bytes_unfused, dram_reread_bytes_fused: equal to a simulated cache of whole
  tensors, least recently used; no hardware counter has been held against it yet.
* unconfirmed: l2_to_sm_bytes_fused, l2_to_sm_bytes_unfused: matrix products are taken to run in tiles of 128 x 128,
  and nothing else to be loaded twice by an SM.
* unconfirmed: smem_bytes_fused, matmul_flops_executed: equal to a brute-force walk of FlashAttention-2's tiles; no
  hardware counter has been held against it yet.
"""


def test_the_table(cli: Cli) -> None:
    done = cli("count", "llama-3-8b", "--context", "4096", "--device-spec", "h200")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"\n{TABLE}")


def test_the_keys_are_there_with_the_option_alone(cli: Cli) -> None:
    plain, with_it = (cli("count", *words, "--format", "json").json["results"][0] for words in (ON_H200[:-2], ON_H200))
    assert set(with_it) - set(plain) == KEYS
    assert {key: with_it[key] for key in plain if key != "unconfirmed"} == {
        key: value for key, value in plain.items() if key != "unconfirmed"
    }
    assert set(with_it["unconfirmed"]) - set(plain["unconfirmed"]) <= KEYS


def test_the_figures_in_json_and_csv(cli: Cli) -> None:
    """What is read again by hand: tests/unit/test_predict_levels.py."""
    (record,) = cli("count", *ON_H200, "--format", "json").json["results"]
    assert record["device"] == "h200"
    assert record["device_kernel"] == "FlashAttention-2 forward sm90, 128x64 (d=128)"
    assert record["dram_reread_bytes_fused"] == 32 * 5_502_926_848
    assert record["compulsory_bytes_fused"] <= record["dram_bytes_fused"] - record["dram_reread_bytes_fused"]
    assert record["dram_bytes_fused"] - record["dram_reread_bytes_fused"] <= record["hbm_bytes_fused"]
    assert record["compulsory_bytes_unfused"] <= record["dram_bytes_unfused"] <= record["hbm_bytes_unfused"]
    (line,) = csv.DictReader(io.StringIO(cli("count", *ON_H200, "--format", "csv").out))
    assert {key: line[key] for key in KEYS} == {key: str(record[key]) for key in KEYS}


def test_several_specs_are_rows(cli: Cli) -> None:
    done = cli("count", "gpt2", "llama-2-7b", "--context", "256", "--device-spec", "A100-40GB", "--phase", "decode")
    _, found, table = done.out.partition("On a100-40gb: bytes by level")
    assert found, done.err
    rows = [line.split()[0] for line in table.splitlines()[3:5]]
    assert rows == ["gpt2", "llama-2-7b"]


def test_a_device_whose_kernel_has_no_tile(cli: Cli) -> None:
    words = ("count", "llama-3-8b", "--context", "512", "--phase", "prefill", "--device-spec", "mi300x")
    (record,) = cli(*words, "--format", "json").json["results"]
    nothing = ("l2_to_sm_bytes_fused", "smem_bytes_fused", "matmul_flops_executed", "dram_reread_bytes_fused")
    assert [record[key] for key in nothing] == [None] * 4
    assert not set(nothing) & set(record["unconfirmed"])
    why = "of the fused kernel flash no tile is known on mi300x (gfx942), and so not what it reads again"
    assert why in record["unconfirmed"]["dram_bytes_fused"]
    assert why in " ".join(cli(*words).out.split())
    assert "shared memory" not in cli(*words).out


@pytest.mark.parametrize(("level", "first"), [("module", "layers.0.attn.rope"), ("layer", "layers.0")])
def test_by_module_and_layer(cli: Cli, level: str, first: str) -> None:
    """Figures of a breakdown add up to those of the record.

    The first layer differs from the others: what they share, such as the angles' cosines, comes from memory for it.
    """
    words = ("count", "llama-3-8b", "--context", "4096", "--phase", "prefill", "--device-spec", "h200", "--by", level)
    (record,) = cli(*words, "--format", "json").json["results"]
    lines = record["breakdown_levels"]
    assert first in [line["path"] for line in lines]
    for key in KEYS - {"device", "device_kernel", "dram_reread_bytes_fused"}:
        assert sum(line["count"] * (line[key] or 0) for line in lines) == record[key], key
    assert f"llama-3-8b, prefill, by {level} on h200\n{level} " in cli(*words).out


def test_single_kernels_have_no_levels(cli: Cli) -> None:
    (record,) = cli("count", *ON_H200, "--by", "op", "--format", "json").json["results"]
    assert "breakdown" in record
    assert "breakdown_levels" not in record


def test_experts_in_random_order_say_so(cli: Cli) -> None:
    words = ("count", "mixtral-8x7b", "--context", "64", "--phase", "prefill", "--device-spec", "h200", "--format")
    (even,) = cli(*words, "json").json["results"]
    (random,) = cli(*words, "json", "--routing", "random:7").json["results"]
    assert "order" not in even["unconfirmed"]["dram_bytes_fused"]
    assert "order" in random["unconfirmed"]["dram_bytes_fused"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device-spec", "h2"), "--device-spec: no device is called 'h2'; did you mean h20 or h200?"),
        (("--device-spec", ""), "--device-spec: no device is called ''"),
        (("--device-spec", "tpu-v4"), "--device-spec: the size of the last-level cache of tpu-v4 is not known"),
        (("--device-spec", "h200", "--phase", "train"), "--device-spec has no effect on a training pass"),
        (("--device-spec", "h200", "--grouping", "compiled"), "--device-spec needs to know what lives how long"),
        (("--sram", "many"), "--sram: found 'many'; expected a number such as 80GiB or 80GB"),
        (("--sram", "64KiB,,"), "--sram: found ''"),
        (("--sram", ""), "--sram: found ''"),
        (("--sram", "0B"), "--sram: found 0 bytes; expected a size such as 100KiB"),
        (("--sram", "1B"), "--sram: 1 bytes do not hold one value of 2 bytes"),
        (("--sram", "auto", "--phase", "decode"), "--sram is of prefill, but --phase is decode"),
        (("--sram", "auto", "--phase", "train"), "--sram has no effect on a training pass"),
        (("--sram", "auto", "--device-spec", "h200"), "--device-spec has no effect with --sram"),
        (("--sram", "auto", "--grouping", "compiled"), "--grouping has no effect with --sram"),
        (("--sram", "auto", "--by", "op"), "--by has no effect with --sram"),
        (("--sram", "auto", "--explain"), "--explain has no effect with --sram"),
        (("--sram", "auto", "--memory", "80GB"), "--memory has no effect with --sram"),
        (("--sram", "auto", "--kv-engine", "hf"), "--kv-engine has no effect with --sram"),
        (("--sram", "auto", "--kv-dtype", "fp8"), "--kv-dtype has no effect with --sram"),
        (("--sram", "auto", "--weight-dtype", "int8"), "--weight-dtype has no effect with --sram"),
        (("--sram", "auto", "--logits", "last"), "--logits has no effect with --sram"),
    ],
)
def test_refusals(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("count", "llama-3-8b", "--context", "512", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("deepseek-v3", "--context", "64"), "but layers.{0-2} of deepseek-v3 has mla"),
        (("t5-small", "--context", "64", "--source-tokens", "64"), "encoder.layers.{0-5}.attn.core of t5-small has a"),
        (("mamba-130m", "--context", "64"), "but layers.{0-23} of mamba-130m has mamba-1"),
    ],
)
def test_cores_that_the_theorem_says_nothing_of(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("count", *words, "--sram", "auto")
    assert (done.code, done.out) == (2, "")
    assert message in done.err


SWEPT = ("count", "gpt2", "--context", "1024", "--sram", "128KiB,8KiB,32B")


def test_the_sweep_as_a_table_with_its_plot(cli: Cli) -> None:
    done = cli(*SWEPT)
    assert (done.code, done.err) == (0, "")
    title, head, _, *rows = done.out.splitlines()
    assert title == ("gpt2, layers.{0-11}.attn.core: batch 1, T 1,024, S 1,024, 12 heads, d 64, causal mask, bf16")
    assert head.split()[:4] == ["M", "elements", "FA1", "tile"]
    assert [row.split()[:3] for row in rows[:3]] == [
        ["32", "B", "16"],
        ["8.00", "KiB", "4,096"],
        ["128.00", "KiB", "65,536"],
    ]
    assert [row[-13:].strip() for row in rows[:3]] == ["M < d", "d <= M <= N d", "d <= M <= N d"]
    assert rows[3].startswith("Standard attention (lean-eager, op-level): ")
    assert "Bytes over M, both logarithmic" in rows
    assert any(row.endswith("● FlashAttention 1   ○ FlashAttention 2, L2 to SM   ─ standard") for row in rows)


def test_the_sweep_as_records(cli: Cli) -> None:
    payload = cli(*SWEPT, "--format", "json").json
    assert payload["schema_version"] == 1
    records = payload["results"]
    assert [record["sram_bytes"] for record in records] == [32, 8192, 131_072]
    assert [record["theorem"] for record in records] == ["M < d", "d <= M <= N d", "d <= M <= N d"]
    assert [record["fa2_rows"] for record in records] == [None, 32, 992]
    assert {record["standard_bytes"] for record in records} == {records[0]["standard_bytes"]}
    lines = list(csv.DictReader(io.StringIO(cli(*SWEPT, "--format", "csv").out)))
    assert [line["fa1_bytes"] for line in lines] == [str(record["fa1_bytes"]) for record in records]
    assert set(lines[0]) == set(records[0])


def test_the_sweep_as_markdown_and_in_a_file(cli: Cli, tmp_path: Path) -> None:
    page = cli(*SWEPT, "--format", "markdown").out
    assert "| 8.00 KiB | 4,096 |" in page
    assert "●" not in page
    out = tmp_path / "sweep.txt"
    assert cli(*SWEPT, "--output", str(out)).code == 0
    assert out.read_text(encoding="utf-8") == cli(*SWEPT).out


def test_the_reference_of_the_standard_attention(cli: Cli) -> None:
    lean, hf = (
        cli(*SWEPT, "--format", "json", "--unfused-reference", name).json["results"][0]
        for name in ("lean-eager", "hf-eager")
    )
    assert lean["unfused_reference"] == "lean-eager"
    assert hf["unfused_reference"] == "hf-eager"
    assert lean["standard_bytes"] < hf["standard_bytes"]
    assert lean["fa1_bytes"] == hf["fa1_bytes"]


def test_sizes_of_their_own_choosing(cli: Cli) -> None:
    records = cli("count", "gpt2", "--context", "64", "--sram", "auto", "--format", "json").json["results"]
    assert [record["sram_bytes"] for record in records] == [2**power for power in range(13, 21)]
