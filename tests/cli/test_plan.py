"""`llmprof plan`: what it prints, its record, what it refuses, and its exit codes."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from llmprof.planning.terms import MemoryBar, Term
from llmprof.report.plan_memory import WIDTH, drawn
from llmprof.report.plan_tables import duration, money, rate
from tests.cli.conftest import Cli

EIGHT = ("plan", "llama-3.1-8b", "--context", "4Ki")
CONTRACT = Path(__file__).parents[2] / "docs" / "machine-contract.md"
PAIRED = re.compile(r"^\| (`.+?) \|", re.MULTILINE)


def test_what_is_asked_found_and_bounded(cli: Cli) -> None:
    done = cli(*EIGHT, "--device", "h100-sxm,l4", "--concurrency", "16", "--top", "2")
    assert done.code == 0
    out = done.out
    assert "llama-3.1-8b: prompts of 4,096 tokens, answers of 256, 16 at once; all in bf16" in out
    assert "Kept of a request: prompt+output, 4,352 tokens (--scenario)" in out
    assert "8 to a node (--node-size)" in out
    first = next(line for line in out.splitlines() if line.startswith("1   1 x h100-sxm-80gb"))
    # 15.01 GB of weights but for the token table, and 16 x 4,224 tokens of 131,072 bytes, at 3.35 TB/s.
    step = (2 * (8_030_261_248 - 128_256 * 4096) + 16 * 4224 * 131_072) / 3.35e12
    assert f"{1000 * step:.2f} ms" in first
    assert first.endswith("weights 63%")
    for heading in ("first >=", "step >=", "tokens/s <=", "lower bounds", "an upper bound"):
        assert heading in out
    for title in (
        "Memory of 1 h100-sxm-80gb", "How many requests have room", "What bounds 1 x h100-sxm-80gb",
        "Fewest devices that have room", "To serve it so on 1 x h100-sxm-80gb",
    ):  # fmt: skip
        assert title in out
    assert "vllm serve meta-llama/Llama-3.1-8B --dtype bfloat16" in out
    assert "--max-num-seqs 16" in out
    assert re.search(r"^free +░+ +\d+\.\d\d GiB", out, re.MULTILINE), "the bar ends in what is free"


def test_the_record_is_the_one_of_the_contract(cli: Cli) -> None:
    done = cli(*EIGHT, "--device", "h100-sxm", "--concurrency", "16", "--format", "json", "--top", "1")
    (record,) = done.json["results"]
    section = CONTRACT.read_text(encoding="utf-8").split("## `plan --format json`")[1].split("\n## ")[0]
    said = set(re.findall(r"`([a-z_]+)`", " ".join(PAIRED.findall(section))))
    made = {*record, *record["configurations"][0]}
    assert made == said
    (best,) = record["configurations"]
    assert best["used_bytes"] == sum(term["bytes"] for term in best["memory"])
    assert best["capacity_bytes"] == best["used_bytes"] + best["free_bytes"]
    assert best["memory"][0]["bytes"] == 2 * 8_030_261_248
    assert best["decode_ns_lower_bound"] == int(
        (2 * (8_030_261_248 - 128_256 * 4096) + 16 * 4224 * 131_072) / 3.35e12 * 1e9
    )
    assert [best[f"decode_context_{end}"] for end in ("first", "last")] == [4097, 4351]
    assert {"decode_ns_lower_bound", "tokens_per_s_upper_bound", "free_bytes"} <= set(best["unconfirmed"])
    assert [each["engine"] for each in best["commands"]] == ["vllm", "sglang", "tensorrt-llm"]
    assert [each["scenario"] for each in record["scenarios"]] == ["prompt", "prompt+output", "full-context"]
    assert record["fewest"][0] == {"device": "h100-sxm-80gb", "weight_dtype": "bf16", "gpus": 1}
    assert record["nearest"] == []


def test_one_line_for_a_configuration(cli: Cli) -> None:
    done = cli(*EIGHT, "--device", "l4", "--weight-dtype", "bf16,int4", "--format", "csv", "--top", "all")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert {row["weight_dtype"] for row in rows} == {"bf16", "int4"}
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    assert all(int(row["free_bytes"]) >= 0 for row in rows)
    assert rows[0]["weights_bytes"]
    assert not {"memory", "commands"} & set(rows[0])


def test_markdown_has_the_same_tables(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "plan.md"
    done = cli(*EIGHT, "--device", "l4", "--top", "1", "--format", "markdown", "--output", str(file))
    assert (done.code, done.out) == (0, "")
    assert file.read_text(encoding="utf-8").count("|---") >= 5


def test_prices_rank_and_cost(cli: Cli) -> None:
    words = (*EIGHT, "--device", "h100-sxm,l4", "--price", "h100-sxm=2.5", "--price", "l4=0.4")
    done = cli(*words, "--format", "json", "--top", "all")
    (record,) = done.json["results"]
    prices = [each["price_per_hour"] for each in record["configurations"]]
    assert record["rank"] == "price"
    assert prices == sorted(prices)
    assert prices[0] == 0.4
    for each in record["configurations"]:
        per_million = each["price_per_hour"] / 3600 / each["tokens_per_s_upper_bound"] * 1e6
        assert each["cost_per_million_tokens_lower_bound"] == pytest.approx(per_million)
    assert "per hour" in cli(*words).out


def test_nothing_has_room(cli: Cli) -> None:
    words = ("plan", "llama-3.1-70b", "--device", "l4", "--max-gpus", "2")
    done = cli(*words)
    assert done.code == 1
    assert "nothing has room for llama-3.1-70b" in done.err
    assert re.search(r"^--max-gpus 8 +8 x l4 +TP8", done.out, re.MULTILINE)
    assert re.search(r"^--device \S+ +1 x ", done.out, re.MULTILINE)
    (record,) = cli(*words, "--format", "json").json["results"]
    assert (record["fits"], record["configurations"]) == (False, [])
    changes = {each["change"]: each for each in record["nearest"]}
    more = changes["devices"]
    again = cli(*words[:-1], str(more["value"]))
    assert again.code == 0
    assert f"{more['value']} x l4" in again.out
    assert cli(*words[:-1], str(more["value"] - 1)).code == 1
    assert (
        cli("plan", "llama-3.1-8b", "--device", "l4", "--max-gpus", "1", "--context", "50000", "--format", "csv").out
        == ""
    )


def test_what_is_left_out_is_listed(cli: Cli) -> None:
    done = cli(*EIGHT, "--device", "l4,t4,h200", "--max-gpus", "3", "--node-size", "2")
    assert "the catalogue has no peak in bf16 for it, only in fp16 (--dtype fp16): t4" in done.out
    assert "+ nothing is known of the links between these devices" in done.out
    heads = cli("plan", "qwen2.5-0.5b", "--device", "h200").out
    assert "\nTP4, TP8: does not divide n_heads (14) of qwen2.5-0.5b; use one of: 1, 2\n" in heads
    (record,) = cli(*EIGHT, "--device", "l4,t4", "--format", "json").json["results"]
    assert [each["device"] for each in record["unplanned_devices"]] == ["t4"]


def test_a_model_that_fits_into_a_cache_is_told_of(cli: Cli) -> None:
    assert "Weights fit into the last-level cache of mi300x" in cli("plan", "gpt2", "--device", "mi300x,l4").out
    assert "Weights fit" not in cli("plan", "gpt2", "--device", "l4", "--max-gpus", "1").out


def test_several_models(cli: Cli) -> None:
    done = cli(
        "plan", "llama-2-70b", "gpt2", "--variant", "base", "--device", "h200", "--max-gpus", "2", "--format", "json"
    )
    assert [each["name"] for each in done.json["results"]] == ["llama-2-70b", "gpt2"]
    assert done.json["results"][1]["prompt_tokens"] == 1024 - 256, "what the model's limit leaves of a prompt"


def test_experts_are_told_of(cli: Cli) -> None:
    done = cli("plan", "olmoe-1b-7b", "--device", "h200", "--max-gpus", "1", "--routing", "concentrated")
    assert "by the rule concentrated (--routing)" in done.out


def test_other_structures(cli: Cli) -> None:
    encoder = cli("plan", "bert-base", "--device", "l4", "--top", "1").out
    assert "Nothing is kept of a request" in encoder
    assert "step >=" not in encoder
    assert "beside those of its source" in cli("plan", "t5-small", "--device", "l4", "--top", "1").out
    alone = cli("plan", "rwkv-4-169m", "--device", "l4", "--top", "1").out
    assert "Memory is what the architecture needs, not what an engine takes" in alone


def test_what_is_not_listed_is_counted(cli: Cli) -> None:
    """Six numbers of a device in more than twelve ways; of a single one there is nothing more to say."""
    words = ("plan", "llama-3.2-1b", "--device", "l4", "--concurrency", "8", "--max-gpus", "6")
    out = " ".join(cli(*words, "--top", "3").out.split())
    (record,) = cli(*words, "--format", "json", "--top", "all").json["results"]
    others = record["with_room"] - len(record["configurations"])
    assert len(record["configurations"]) == 6
    assert others > 6
    assert f"ranks best; {others} other ways to spread them have room; 3 more numbers with --top all. free" in out
    one = " ".join(cli(*words[:-1], "1").out.split())
    assert "spread as ranks best. free" in one
    assert "at most 1 device (--max-gpus)" in one


def test_a_longer_context_than_the_model_was_made_for(cli: Cli) -> None:
    done = cli("plan", "llama-3.1-8b", "--device", "h200", "--context", "200000", "--top", "1")
    assert done.code == 0
    assert "may keep 131,072 tokens at most, all that the model was made for" in done.out
    assert "warning: context 200,255 is beyond what llama-3.1-8b was made for (131,072)" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "h100"), "--device: no device is called 'h100'; did you mean h100-pcie-80gb or h100-sxm-80gb?"),
        (("--device", "l4,"), "--device: found an empty name"),
        (
            ("--device", "t4"),
            "t4 cannot be planned: the catalogue has no peak in bf16 for it, only in fp16 (--dtype fp16)",
        ),
        (("--device", "v100-16gb"), "no peak in bf16 for it, nor in any other dtype"),
        (("--device", "epyc-9654"), "as much memory as is installed"),
        (("--device", "l4", "--dtype", "fp32"), "no peak in fp32"),
        (("--context", "0"), "--context: found 0; expected at least 1"),
        (("--context", "nan"), "--context: found 'nan'"),
        (("--context", "1" + "0" * 16), "expected at most"),
        (("--output-tokens", "-1"), "--output-tokens: found '-1'"),
        (("--concurrency", "0"), "--concurrency: found 0"),
        (("--concurrency", "most"), "--concurrency: found 'most'; expected a number such as 4096 or 4Ki, or max"),
        (("--chunk-tokens", "0"), "--chunk-tokens: found 0"),
        (("--max-gpus", "0"), "--max-gpus: found 0"),
        (("--max-gpus", "1025"), "--max-gpus: found 1,025; expected at most 1,024"),
        (("--node-size", "x"), "--node-size: found 'x'"),
        (("--price", "cheap"), "--price: found 'cheap'"),
        (("--price", "nan"), "--price: found 'nan'"),
        (("--price", "-1"), "--price: found '-1'"),
        (("--price", "0"), "--price: found '0'"),
        (("--price", "9" * 100), "a text of 100 characters"),
        (("--price", "l4=1,h200"), "found 'h200'; expected a device and its price"),
        (("--price", "l4=1,l4=2"), "l4 has two prices"),
        (("--price", "l4=1", "--price", "l4=2"), "l4 has two prices"),
        (("--price", "nope=1"), "--price: no device is called 'nope'"),
        (("--price", "=1"), "--price: found an empty name"),
        (("--device", "l4", "--price", "h200=1"), "h200 is none of the devices that are planned"),
        (("--rank", "cost"), "--rank cost needs to know what devices cost; add --price"),
        (("--rank", "best"), "--rank: found 'best'"),
        (("--top", "0"), "--top: found 0; expected at least 1, or all"),
        (("--scenario", "all"), "--scenario: found 'all'"),
        (("--weight-dtype", "fp4"), "--weight-dtype: found 'fp4'"),
        (("--weight-dtype", "fp8", "--group-size", "64"), "--group-size is of int4 weights"),
        (("--overhead", "graph=1GiB"), "--overhead: found 'graph'"),
        (("--overhead", "graphs=1"), "--overhead graphs: found '1'"),
        (("--overhead", "graphs=1MiB,graphs=2MiB"), "--overhead: graphs has two sizes; leave one out"),
        (("--engine", "tgi"), "--engine: found 'tgi'"),
        (("--routing", "random:1"), "llama-3.1-8b has none"),
        (("--format", "xml"), "--format: found 'xml'"),
        (("--output", "/nowhere/at/all"), "there is no directory /nowhere/at"),
    ],
)
def test_what_is_wrong_is_said(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("plan", "llama-3.1-8b", *words)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bert-base", "--output-tokens", "4"), "is an encoder, which answers nothing"),
        (("bert-base", "--scenario", "prompt"), "is an encoder, which keeps nothing of a request"),
        (("bert-base", "--concurrency", "max"), "any number of requests has room"),
        (("bert-base", "--kv-dtype", "fp8"), "--kv-dtype fp8 has no effect"),
        (("mamba-130m", "--scenario", "full-context"), "states no max_context"),
        (("gpt2", "--context", "1024"), "1024 learned positions"),
    ],
)
def test_what_a_model_does_not_have_is_said(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("plan", *words, "--device", "l4")
    assert (done.code, message in done.err) == (2, True), done.err


def test_what_was_measured_takes_the_place_of_what_is_assumed(cli: Cli) -> None:
    words = (*EIGHT, "--device", "l4", "--max-gpus", "1", "--format", "json")

    def free(*more: str) -> int:
        (record,) = cli(*words, *more).json["results"]
        found: int = record["configurations"][0]["free_bytes"]
        return found

    assumed = free()
    assert free("--overhead", "modules=0B,workspace=0B") > assumed
    terms = {
        term["name"]: term["bytes"]
        for term in cli(*words, "--overhead", "graphs=1MiB,kept-free=2MiB").json["results"][0]["configurations"][0][
            "memory"
        ]
    }
    assert (terms["graphs"], terms["kept free by the engine"]) == (2**20, 2**21)
    assert free("--engine", "architecture") > assumed


def test_a_bar_has_no_gap_and_ends_at_the_capacity() -> None:
    def bar(*parts: int) -> list[str]:
        terms = tuple(Term(name="x", bytes=part, basis="confirmed", note="") for part in parts)
        return drawn(MemoryBar(capacity_bytes=80, terms=terms))

    full = bar(20, 0, 40)
    assert full == ["█" * 10, " " * 10 + "█" * 20, " " * 30 + "░" * 10]
    assert max(map(len, full)) == WIDTH
    less = bar(80, -20, 10)
    assert less == ["█" * 40, " " * 30 + "▒" * 10, " " * 30 + "█" * 5, " " * 35 + "░" * 5]
    assert max(len(line) for line in bar(100, -60)) == WIDTH, "what engines take back is drawn within the width too"


def test_figures_are_never_cut() -> None:
    assert [duration(each) for each in (123.4, 0.0123, 1e-5, 4.5e-8, 1234.5)] == [
        "123.4 s", "12.30 ms", "10.00 us", "45.00 ns", "1,234 s",
    ]  # fmt: skip
    assert [money(each) for each in (None, 1234.5, 0.1, 0.0123, 2.5e-9)] == [
        "-",
        "1,234.50",
        "0.10",
        "0.0123",
        "2.5e-09",
    ]
    assert [rate(each) for each in (0.00171, 3.14159, 512.4, 123_456.7, 4.2e6)] == [
        "0.0017", "3.14", "512", "123,457", "4.20 M",
    ]  # fmt: skip
