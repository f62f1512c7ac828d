"""`llmprof specs`: the catalogue, what it shows, and what it checks."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from llmprof import catalog
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
        "family": "llama",
        "structure": "causal-decoder",
        "n_layers": 80,
        "params_total": 68_976_648_192,
        "variants": ["mha", "mqa"],
        "aliases": found["aliases"],
    }
    rows = list(csv.DictReader(io.StringIO(cli("specs", "list", "--format", "csv").out)))
    assert [row["name"] for row in rows] == [spec["name"] for spec in specs]
    # A spreadsheet takes such a cell for a formula.
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


@pytest.mark.parametrize(("option", "value"), [("--family", "bert"), ("--structure", "encoder")])
def test_the_list_can_be_narrowed(cli: Cli, option: str, value: str) -> None:
    specs = cli("specs", "list", option, value, "--format", "json").json["specs"]
    assert specs
    assert {spec[option.removeprefix("--")] for spec in specs} == {value}


def test_narrowing_to_nothing_names_the_choices(cli: Cli) -> None:
    done = cli("specs", "list", "--family", "lama")
    assert done.code == 2
    assert "llama" in done.err
    assert cli("specs", "list", "--structure", "decoder").code == 2
    assert cli("specs", "list", "--family", "gpt2", "--structure", "encoder").code == 2


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
