"""`llmprof specs`: the catalogue, what it shows, and what it checks."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from llmprof import catalog
from llmprof.cli.listing import ATTENTIONS, Row, by_attention, by_size, by_text, kinds, narrowed, rows, words
from llmprof.spec.attention import Attention
from llmprof.spec.kinds import all_kinds
from tests.cli.conftest import Cli

SPEC = """\
name: tiny
source: {url: "https://example.org", read: recalled}
structure: causal-decoder
vocab_size: 10
d_model: 4
max_context: 16
tied_embeddings: true
position: {kind: rope, theta: 10000}
layers:
  count: 1
  norm: {kind: rmsnorm, placement: pre, eps: 0.00001}
  attention: {kind: gqa, n_heads: 2, n_kv_heads: 1, head_dim: 2}
  ffn: {kind: swiglu, d_ff: 8}
"""
# tokens 10 * 4; q, o 2 * 4 * 4; k, v 2 * 4 * 2; three matrices 3 * 4 * 8; three norms 3 * 4.
PARAMS = 40 + 32 + 16 + 96 + 12


def test_the_list_names_every_spec_and_fits(cli: Cli) -> None:
    done = cli("specs", "list")
    assert (done.code, done.err) == (0, "")
    names = {line.split()[0] for line in done.out.splitlines() if line and not line.startswith(" ")}
    assert {entry.name for entry in catalog.entries()} <= names
    assert "68,976,648,192" in done.out
    assert max(map(len, done.out.splitlines())) <= 120


def test_the_list_as_data(cli: Cli) -> None:
    specs = cli("specs", "list", "--format", "json").json["specs"]
    (found,) = [spec for spec in specs if spec["name"] == "llama-2-70b"]
    assert found == {
        "name": "llama-2-70b",
        "variant": None,
        "family": "llama",
        "structure": "causal-decoder",
        "n_layers": 80,
        "params_total": 68_976_648_192,
        "params_non_embedding": 68_976_648_192 - 2 * 32_000 * 8192,
        "params_active": 68_976_648_192,
        "kv_cache_bytes_per_token": 80 * 2 * 8 * 128 * 2,  # layers, keys and values, heads, head_dim, bytes
        "attention": "gqa 64:8",
        "attention_kinds": ["gqa"],
        "max_context": 4096,
        "variants": ["mha", "mqa"],
        "aliases": found["aliases"],
    }
    assert "meta-llama/Llama-2-70b-hf" in found["aliases"]
    rows = list(csv.DictReader(io.StringIO(cli("specs", "list", "--format", "csv").out)))
    assert [row["name"] for row in rows] == [spec["name"] for spec in specs]
    assert [row["params_total"] for row in rows] == [str(spec["params_total"]) for spec in specs]
    # A spreadsheet takes such a cell for a formula.
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


@pytest.fixture(scope="module")
def shipped() -> list[Row]:
    """The base of every spec, loaded once."""
    return list(rows(catalog.entries(), variants=False))


def listed(cli: Cli, *typed: str) -> dict[str, dict[str, Any]]:
    """The list as data, by label."""
    done = cli("specs", "list", *typed, "--format", "json")
    assert (done.code, done.err) == (0, "")
    return {":".join(filter(None, (spec["name"], spec["variant"]))): spec for spec in done.json["specs"]}


@pytest.mark.parametrize(("option", "value"), [("--family", "bert"), ("--structure", "encoder")])
def test_the_list_can_be_narrowed(cli: Cli, option: str, value: str) -> None:
    specs = listed(cli, option, value)
    assert specs
    assert {spec[option.removeprefix("--")] for spec in specs.values()} == {value}


@pytest.mark.parametrize(
    ("size", "there", "absent"),
    [
        # 124,439,808; 354,823,168; 774,030,080; 1,557,611,200 parameters.
        ("..500M", {"gpt2", "gpt2-medium"}, {"gpt2-large", "gpt2-xl"}),
        ("0.5B..1B", {"gpt2-large"}, {"gpt2-medium", "gpt2-xl"}),
        ("1_000M..", {"gpt2-xl"}, {"gpt2-large"}),
        ("774030080..774030080", {"gpt2-large"}, {"gpt2", "gpt2-medium", "gpt2-xl"}),
        ("774030081..1.6G", {"gpt2-xl"}, {"gpt2-large"}),
        ("1k .. 0.0007T", {"gpt2", "gpt2-medium"}, {"gpt2-large"}),
    ],
)
def test_a_range_of_sizes_has_both_its_ends(shipped: list[Row], size: str, there: set[str], absent: set[str]) -> None:
    found = {row.arch.label for row in narrowed(shipped, [by_size(size)])}
    assert there <= found
    assert not absent & found


@pytest.mark.parametrize(
    ("attention", "there", "absent"),
    [
        ("mha", {"llama-2-7b", "gpt2", "bert-base-uncased", "t5-small"}, {"llama-2-70b", "falcon-7b", "mamba-130m"}),
        ("gqa", {"llama-2-70b", "jamba-v0.1"}, {"llama-2-7b", "falcon-7b", "deepseek-v3"}),
        ("mqa", {"falcon-7b", "starcoder", "gemma-3-1b"}, {"llama-2-70b"}),
        ("mla", {"deepseek-v3", "deepseek-v3.2", "kimi-k2"}, {"glm-4.5-air"}),
        ("indexed", {"deepseek-v3.2", "glm-5"}, {"deepseek-v3"}),
        ("windowed", {"gemma-2-9b", "mistral-7b-v0.1", "gpt-neo-1.3b"}, {"mistral-7b-v0.3", "gpt2"}),
        ("windowed,mqa", {"gemma-3-1b"}, {"gemma-3-4b", "falcon-7b"}),
        ("chunked", {"llama-4-scout-17b-16e"}, {"llama-3.1-8b"}),
        ("recurrent", {"mamba-130m", "rwkv-4-169m", "jamba-v0.1", "falcon-h1-0.5b", "lfm2-1.2b"}, {"gpt2"}),
        ("gated-deltanet", {"qwen3-next-80b-a3b"}, {"mamba-130m"}),
        ("mamba-2,gqa", {"falcon-h1-0.5b", "nemotron-h-8b"}, {"mamba2-130m", "jamba-v0.1"}),
    ],
)
def test_a_layer_with_that_attention(shipped: list[Row], attention: str, there: set[str], absent: set[str]) -> None:
    found = {row.arch.label for row in narrowed(shipped, [by_attention(attention)])}
    assert there <= found
    assert not absent & found


def test_every_kind_of_the_language_has_a_name_here() -> None:
    of_language = set(all_kinds(Attention)) - {"none"}
    assert of_language - set(ATTENTIONS) == set()
    assert set(ATTENTIONS) - of_language == {"mha", "mqa", "windowed", "chunked", "indexed", "recurrent"}
    # The studies have the kinds that no model of the catalogue has.
    found: set[str] = set()
    for row in rows(catalog.entries(), variants=True):
        found |= kinds(row.arch)
    assert found == set(ATTENTIONS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt2", "mha 12"),
        ("bart-large", "mha 16"),  # both stacks alike
        ("falcon-7b", "mqa 71"),
        ("gemma-3-1b", "22 mqa 4 windowed, 4 mqa 4"),  # 26 layers, every sixth of them global: 6, 12, 18, 24
        ("deepseek-v3.2", "mla 128 indexed"),
        ("falcon-h1-0.5b", "gqa 8:2 + mamba-2"),
        ("mamba-130m", "mamba-1"),
        # 52 layers, of which 24 are feed-forwards.
        ("nemotron-h-8b", "24 mamba-2, 4 gqa 32:8"),
    ],
)
def test_the_words_about_attention(name: str, said: str) -> None:
    assert words(catalog.find(name).base) == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("META-LLAMA/meta-llama-3.1-8b", {"llama-3.1-8b"}),
        ("opt-1", {"opt-125m", "opt-13b", "opt-175b", "opt-1.3b"}),
        ("uncased", {"bert-base-uncased", "bert-large-uncased", "distilbert-base-uncased"}),
    ],
)
def test_a_text_is_looked_for_in_names_and_aliases(shipped: list[Row], text: str, expected: set[str]) -> None:
    assert {row.arch.label for row in narrowed(shipped, [by_text(text)])} == expected


def test_the_list_says_what_the_golden_tables_say(cli: Cli) -> None:
    found = listed(cli, "--variants")
    golden = Path(__file__).parent.parent / "golden"
    with (golden / "params.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            spec = found[":".join(filter(None, (row["name"], row["variant"])))]
            assert spec["params_total"] == int(row["params_total"])
            assert spec["params_non_embedding"] == int(row["params_non_embedding"])
            assert spec["kv_cache_bytes_per_token"] == int(row["kv_bytes_per_token_bf16"] or 0), row["name"]
    with (golden / "active.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert found[row["name"]]["params_active"] == int(row["params_active"])


def test_variants_have_rows_and_figures_of_their_own(cli: Cli) -> None:
    found = listed(cli, "llama-2-70b", "--variants")
    assert list(found) == ["llama-2-70b", "llama-2-70b:mha", "llama-2-70b:mqa"]
    # 80 layers, two matrices of 8192 x 128 for each key-value head: 64 and 1 instead of 8.
    grown = [spec["params_total"] - 68_976_648_192 for spec in found.values()]
    assert grown == [0, 80 * 2 * 8192 * 128 * 56, -80 * 2 * 8192 * 128 * 7]
    assert [spec["attention"] for spec in found.values()] == ["gqa 64:8", "mha 64", "mqa 64"]
    table = cli("specs", "list", "llama-2-70b", "--variants", "--format", "markdown").out
    assert "| llama-2-70b:mqa | llama | causal-decoder | mqa 64 | 80 |" in table


def test_narrowing_to_nothing_names_the_choices(cli: Cli) -> None:
    done = cli("specs", "list", "--family", "lama")
    assert done.code == 2
    assert "llama" in done.err
    assert cli("specs", "list", "--structure", "decoder").code == 2
    done = cli("specs", "list", "--family", "gpt2", "--structure", "encoder")
    assert done.code == 2
    assert "(--family gpt2 alone: 5; --structure encoder alone: " in done.err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--size", "7B"), "--size: found '7B'; expected a range of parameters such as 1B..10B, ..7B or 70B.."),
        (("--size", ".."), "--size: found '..'; expected a range"),
        (("--size", ""), "--size: found ''; expected a range"),
        (("--size", "1B..2B..3B"), "--size: found '1B..2B..3B'; expected a range"),
        (("--size", "-1B.."), "--size: found '-1B..'; expected a range"),
        (("--size", "1GB.."), "with k, M, B (or G) or T"),
        (("--size", f"{'9' * 5000}.."), "expected a range"),
        (("--size", "10B..1B"), "whose lower end is above its upper end"),
        (("--attention", "flash"), "--attention: found 'flash'; expected mha, gqa, mqa, windowed"),
        (("--attention", "mha,"), "--attention: found ''; expected mha"),
        (("no-such-model",), "none of"),
        ((" ",), "TEXT: found ' '; expected a part of a name or of an alias"),
        (("gpt2", "--size", "70B.."), "'gpt2' alone: 5; --size 70B.. alone:"),
    ],
)
def test_a_wish_that_cannot_be_is_told(cli: Cli, typed: tuple[str, ...], message: str) -> None:
    done = cli("specs", "list", *typed)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


@pytest.mark.parametrize("name", ["llama-2-70b:mqa", "t5-small", "attention-options:window", "glm-130b"])
def test_what_show_prints_loads_and_costs_the_same(cli: Cli, tmp_path: Path, name: str) -> None:
    shown = cli("specs", "show", name)
    assert (shown.code, shown.err) == (0, "")
    path = tmp_path / "shown.yaml"
    path.write_text(shown.out)
    figures = []
    for ref in (name, str(path)):
        record = cli("count", ref, "--phase", "decode", "--context", "100", "--format", "json").json["results"][0]
        figures.append({key: value for key, value in record.items() if key not in ("name", "variant")})
    assert figures[0] == figures[1]


def test_the_whole_catalogue_checks(cli: Cli) -> None:
    done = cli("specs", "check")
    assert (done.code, done.err) == (0, "")
    assert "llama-2-70b: loads; 68,976,648,192 parameters" in done.out
    assert "DIFFERS" not in done.out


@pytest.mark.parametrize(
    ("published", "code", "word"),
    [
        ("", 0, "no published figure"),
        (f"published: {{params_total: {PARAMS}, source: {{url: x, read: recalled}}}}\n", 0, "as published"),
        (f"published: {{params_total: {PARAMS + 1}, source: {{url: x, read: recalled}}}}\n", 1, "DIFFERS"),
        ("published: {params_total: 200, rounded: true, source: {url: x, read: recalled}}\n", 0, "rounded"),
    ],
)
def test_a_published_figure_is_held_against_ours(
    cli: Cli, tmp_path: Path, published: str, code: int, word: str
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC + published)
    done = cli("specs", "check", str(path))
    assert done.code == code, done.err
    assert f"{PARAMS} parameters" in done.out
    assert word in done.out


def test_a_wrong_file_does_not_hide_the_others(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC.replace("n_heads: 2,", ""))
    done = cli("specs", "check", str(path), "gpt2", "nope")
    assert done.code == 2
    assert "gpt2: loads" in done.out
    assert "missing key 'n_heads'" in done.err
    assert "'nope'" in done.err


def test_the_schema_accepts_what_loads(cli: Cli) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = cli("specs", "schema").json
    jsonschema.Draft202012Validator.check_schema(schema)
    yaml = pytest.importorskip("yaml")
    assert jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(SPEC))
    assert not jsonschema.Draft202012Validator(schema).is_valid({"name": "x"})


RELEASED = """\
name: packed
source: {url: https://example.org, read: 2026-11-30}
structure: causal-decoder
vocab_size: 100
d_model: 12
max_context: 64
tied_embeddings: true
position: {kind: rope, theta: 10000}
layers:
  count: 2
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 2, n_kv_heads: 1, head_dim: 6}
  ffn: {kind: swiglu, d_ff: 20}
release: RELEASE
"""


@pytest.mark.parametrize(
    ("release", "words"),
    [
        (
            "{dtype: bf16, packing: {kind: mxfp4}}",
            "release: the matrix at layers.0.attn.q_proj, 12 x 12, does not fill",
        ),
        ("{dtype: bf16, packing: {kind: mxfp4}, spared: [lm_head]}", "release.spared: 'lm_head' is no matrix"),
        ("{dtype: bf16, spared: [layers.0.*]}", ":14:32: release.spared: found a list; expected no spared matrices"),
        ("{packing: {kind: mxfp4}}", ":14:10: release: missing key 'dtype'; expected fp32, bf16 or fp16"),
        ("{dtype: bf16, packing: {kind: gptq, bits: 5}}", "release.packing.bits: found 5; expected 2, 3, 4 or 8"),
    ],
)
def test_a_release_that_cannot_be(cli: Cli, tmp_path: Path, release: str, words: str) -> None:
    file = tmp_path / "packed.yaml"
    file.write_text(RELEASED.replace("RELEASE", release), encoding="utf-8")
    done = cli("specs", "check", str(file))
    assert done.code == 2
    assert words in done.err
