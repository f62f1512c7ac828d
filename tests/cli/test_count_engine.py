"""`llmprof count --kv-engine`: what an engine keeps, in every format, and what is refused."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from llmprof.cli.engines import KEYS
from tests.cli.conftest import Cli, Done


def rows(done: Done, spec: str) -> dict[str, int]:
    """The itemisation of `spec` in a table: line -> bytes."""
    _, _, table = done.out.partition(f"\n{spec} in ")
    assert table, done.out
    found = re.findall(r"^(\S.*?|  \S.*?) {2,}([+-]?[0-9,]+)(?: {2,}.*)?$", table.partition("\n\n")[0], re.MULTILINE)
    return {line: int(figure.replace(",", "")) for line, figure in found}


@pytest.mark.parametrize(
    ("words", "engine", "kv"),
    [
        (("mistral-7b-v0.1", "--context", "8192", "--kv-engine", "hf"), "hf", 536_739_840),
        (("gemma-3-27b", "--context", "8192", "--kv-engine", "hf"), "hf", 1_106_870_272),
        (("gemma-3-27b", "--context", "8192", "--kv-engine", "vllm"), "vllm", 1_174_405_120),
        (("gemma-3-27b", "--context", "8192", "--kv-engine", "llama.cpp"), "llama.cpp", 1_325_400_064),
        (("llama-2-70b", "--context", "17", "--kv-engine", "vllm", "--page-tokens", "32"), "vllm", 32 * 327_680),
        (("llama-2-70b", "--context", "16", "--kv-engine", "vllm", "--tensor-parallel", "16"), "vllm", 32 * 327_680),
    ],
)
def test_the_keys_in_every_format(cli: Cli, words: tuple[str, ...], engine: str, kv: int) -> None:
    done = cli("count", *words, "--format", "json")
    assert done.code == 0, done.err
    for record in done.json["results"]:
        assert [record[key] for key in KEYS] == [engine, kv, 0]
        assert (KEYS[1] in record["unconfirmed"]) == (engine != "hf")
    for line in csv.DictReader(io.StringIO(cli("count", *words, "--format", "csv").out)):
        assert [line[key] for key in KEYS] == [engine, str(kv), "0"]
    for output in ("table", "markdown"):
        assert f"{kv:,}" in cli("count", *words, "--format", output).out


HYBRID = """\
name: hybrid
source: {url: https://example.org, read: recalled}
structure: causal-decoder
vocab_size: 1000
d_model: 5120
max_context: 262144
tied_embeddings: false
position: {kind: rope, theta: 10000}
layers:
  count: 64
  pattern: [state, state, state, full]
  norm: {kind: rmsnorm, placement: pre}
  ffn: {kind: swiglu, d_ff: 64}
  state:
    position: {kind: none}
    attention: {kind: gated-deltanet, n_heads: 48, n_key_heads: 16, key_dim: 128, value_dim: 128, chunk: 64, d_conv: 4}
  full: {attention: {kind: gqa, n_heads: 24, n_kv_heads: 4, head_dim: 256}}
"""


@pytest.mark.parametrize(
    ("engine", "kv", "state"),
    [
        # A log of llama.cpp for such a model: 16384.00 MiB in 262144 cells, and states of 149.62 MiB in f32.
        ("llama.cpp", 16_384 * 2**20, 144 * 2**20 + 48 * 3 * 10_240 * 4),
        ("hf", 16_384 * 2**20, 144 * 2**20 + 48 * 4 * 10_240 * 2),
    ],
)
def test_a_hybrid(cli: Cli, tmp_path: Path, engine: str, kv: int, state: int) -> None:
    spec = tmp_path / "hybrid.yaml"
    spec.write_text(HYBRID, encoding="utf-8")
    words = ("count", str(spec), "--context", "262144", "--phase", "decode", "--kv-engine", engine)
    (record,) = cli(*words, "--format", "json").json["results"]
    assert [record[key] for key in KEYS] == [engine, kv, state]
    assert record["kv_cache_bytes"] == kv
    found = rows(cli(*words), "hybrid")
    total = found.pop(next(line for line in found if line.startswith(f"recurrent state in {engine}")))
    assert (
        total == state == record["recurrent_state_bytes"] + sum(b for line, b in found.items() if "convolution" in line)
    )


def test_without_the_option_the_keys_are_null(cli: Cli) -> None:
    for record in cli("count", "llama-2-7b", "--format", "json").json["results"]:
        assert [record[key] for key in KEYS] == [None, None, None]
        assert not set(KEYS) & set(record["unconfirmed"])
    assert "kept between tokens" not in cli("count", "llama-2-7b").out


@pytest.mark.parametrize("engine", ["hf", "vllm", "llama.cpp"])
def test_the_items_sum_to_the_engine_s_figure(cli: Cli, engine: str) -> None:
    done = cli("count", "gemma-2-9b", "--context", "5000", "--batch", "2", "--kv-engine", engine)
    assert done.code == 0, done.err
    found = rows(done, "gemma-2-9b")
    assert len(found) > 2, "this model differs in every engine"
    total = found.pop(next(line for line in found if line.startswith(f"KV cache in {engine}")))
    assert sum(found.values()) == total
    record = cli("count", "gemma-2-9b", "--context", "5000", "--batch", "2", "--kv-engine", engine, "--format", "json")
    assert {each["kv_cache_bytes_engine"] for each in record.json["results"]} == {total}
    assert found["KV cache of the architecture"] == record.json["results"][0]["kv_cache_bytes"]


def test_prefill_and_decode_leave_the_same_behind(cli: Cli) -> None:
    assert cli("count", "gemma-2-9b", "--kv-engine", "vllm").out.count("gemma-2-9b in vllm") == 1
    twice = cli("count", "gemma-2-9b", "--context", "100,200", "--kv-engine", "vllm").out
    assert twice.count("gemma-2-9b in vllm") == 2


def test_what_nothing_confirms_is_starred_and_says_why(cli: Cli) -> None:
    done = cli("count", "llama-2-7b", "--kv-engine", "llama.cpp")
    assert "KV cache in llama.cpp *" in done.out
    assert "* unconfirmed: rules read in llama.cpp's source, which was not run here" in done.out
    assert "KV cache in hf *" not in cli("count", "llama-2-7b", "--kv-engine", "hf").out


def test_no_other_figure_heeds_the_engine(cli: Cli) -> None:
    words = ("count", "gemma-2-9b", "--format", "json")
    plain, asked = cli(*words).json["results"], cli(*words, "--kv-engine", "vllm").json["results"]
    for before, after in zip(plain, asked, strict=True):
        for key in before:
            if key not in (*KEYS, "unconfirmed"):
                assert before[key] == after[key], key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kv-engine", "sglang"), "--kv-engine: found 'sglang'; expected hf, vllm or llama.cpp"),
        (("--page-tokens", "32"), "--page-tokens is of vLLM's cache; add --kv-engine vllm"),
        (("--kv-engine", "hf", "--tensor-parallel", "2"), "--tensor-parallel is of vLLM's cache"),
        (("--kv-engine", "vllm", "--page-tokens", "0"), "--page-tokens: found 0; expected at least 1"),
        (("--kv-engine", "vllm", "--tensor-parallel", "x"), "--tensor-parallel: found 'x'"),
        (("--kv-engine", "vllm", "--tensor-parallel", "3"), "--tensor-parallel 3 does not divide 32 query heads"),
        (("--kv-engine", "vllm", "--objective", "auto"), "--kv-engine has no effect on a training pass"),
        (("--kv-engine", "hf", "--kv-dtype", "fp8"), "leave --kv-dtype out"),
        (("--kv-engine", "vllm", "--kv-dtype", "int4"), "error: --kv-engine vllm: vLLM has no cache in int4; use fp32"),
    ],
)
def test_wrong_options(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("count", "llama-2-7b", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_model_that_keeps_nothing_is_refused(cli: Cli) -> None:
    done = cli("count", "bert-base-uncased", "--kv-engine", "hf")
    assert done.code == 2
    assert "--kv-engine has no effect: bert-base-uncased keeps nothing between tokens" in done.err


def test_attention_that_no_engine_has_is_refused(cli: Cli) -> None:
    done = cli("count", "attention-families:linear", "--kv-engine", "hf")
    assert done.code == 2
    assert "no engine that llmprof knows keeps what linear attention does" in done.err


def test_an_encoder_decoder(cli: Cli) -> None:
    done = cli("count", "t5-small", "--context", "100", "--source-tokens", "33", "--kv-engine", "vllm")
    assert rows(done, "t5-small")["KV cache in vllm *"] == (112 + 48) * 6 * 2 * 8 * 64 * 2
