"""`llmprof verify`: predictions side by side with the twin, transformers, the config and the published figure."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmprof.conformance import configs, formulas, transformers, twin
from llmprof.conformance.rows import Result
from llmprof.workload import Workload
from tests.cli.conftest import Cli, Done

RESULT_KEYS = [
    "name",
    "variant",
    "verdict",
    "interrupted",
    "workloads",
    "predicted",
    "ran",
    "matched",
    "explanations",
    "errors",
    "rows",
]
ROW_KEYS = ["path", "quantity", "phase", "witness", "predicted", "found", "verdict", "note", "explanations"]


def carried(name: str) -> Path:
    path = configs.carried(name)
    assert path is not None
    return path


def rows(done: Done, name: str) -> list[dict[str, Any]]:
    (result,) = (each for each in done.json["results"] if each["name"] == name)
    found: list[dict[str, Any]] = result["rows"]
    return found


def verdicts(done: Done, name: str) -> set[str]:
    """Those of a model of which no total is published."""
    return {row["verdict"] for row in rows(done, name) if row["witness"] != "published"}


def test_every_witness_has_its_rows_and_all_agree(cli: Cli) -> None:
    done = cli("verify", "gpt2", "--format", "json")
    assert done.code == 0
    assert list(done.json) == ["schema_version", "witnesses", "results"]
    assert set(done.json["witnesses"]) == {"torch", "transformers"}
    (result,) = done.json["results"]
    assert list(result) == RESULT_KEYS
    assert all(list(row) == ROW_KEYS for row in result["rows"])
    assert {row["verdict"] for row in result["rows"]} == {"AGREES"}
    by = {(row["witness"], row["quantity"], row["phase"]): row["found"] for row in result["rows"]}
    assert by["published", "params_total", ""] == by["transformers", "params_total", ""] == 124_439_808
    # Two tables: 50257 tokens and 1024 positions of 768.
    assert by["twin", "params_embedding", ""] == by["transformers", "params_embedding", ""] == (50_257 + 1024) * 768
    # 36,864 bytes a token
    assert by["transformers", "kv_cache_bytes", "prefill"] == by["twin", "kv_cache_bytes", "prefill"] == 128 * 36_864
    assert by["transformers", "matmul_flops", "decode"] == by["twin", "matmul_flops", "decode"] == 251_819_520
    assert by["config.json", "architecture", ""] == 0
    assert result["matched"] == {"twin": "160 of 160 modules", "transformers": "75 of 75 modules"}
    assert [w["phase"] for w in result["workloads"]] == ["prefill", "decode"]


def test_the_table_shows_figures_explanations_and_what_ran(cli: Cli) -> None:
    done = cli("verify", "t5-v1_1-small")
    assert done.code == 0
    assert "60,511,616 *" in done.out
    assert "t5-forced-tying: the class ties the output matrix" in done.out
    assert "transformers: ran T5ForConditionalGeneration, 16 layers" in done.out
    assert "config.json: says the same as the spec" in done.out


def test_csv_has_a_row_for_each_figure_and_witness(cli: Cli) -> None:
    done = cli("verify", "gpt2", "--no-hf", "--format", "csv")
    assert done.code == 0
    found = list(csv.DictReader(io.StringIO(done.out)))
    assert list(found[0]) == ["name", "variant", *ROW_KEYS]
    assert {row["witness"] for row in found} == {"twin", "published", "config.json"}


def test_markdown_is_the_page(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = cli("verify", "gpt2", "t5-v1_1-small", "--format", "markdown", "--output", str(page))
    assert done.code == 0
    text = page.read_text(encoding="utf-8")
    assert "`llmprof verify gpt2 t5-v1_1-small --format markdown`" in text
    assert "| gpt2 | 124,439,808 | 128 | 32,228,179,968 | 251,819,520 | 4,718,592 | - | agrees | agrees |" in text
    assert "explained: t5-forced-tying" in text
    assert "tie_word_embeddings = True" in text


def test_many_are_a_row_each(cli: Cli) -> None:
    names = ["gpt2", "pythia-14m", "pythia-31m", "bert-base-uncased", "t5-small", "smollm-135m"]
    done = cli("verify", *names, "--no-hf")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == names


@pytest.mark.parametrize("ref", ["bert-base-uncased:pooler", "attention-heads"])
def test_a_variant_and_a_study_have_the_twin_alone(cli: Cli, ref: str) -> None:
    done = cli("verify", ref)
    assert done.code == 0
    assert transformers.NO_CONFIG in done.out


# --- configs --------------------------------------------------------------------------------------


def test_a_config_or_its_folder_is_its_own_witness(cli: Cli, tmp_path: Path) -> None:
    shutil.copy(carried("gpt2"), tmp_path / "config.json")
    for ref in (str(tmp_path / "config.json"), str(tmp_path)):
        done = cli("verify", ref, "--format", "json")
        assert done.code == 0
        (result,) = done.json["results"]
        assert {row["witness"] for row in result["rows"]} == {"twin", "transformers", "published"}
        assert {row["verdict"] for row in result["rows"] if row["witness"] != "published"} == {"AGREES"}


def test_a_spec_of_ones_own_is_held_against_its_config(cli: Cli, tmp_path: Path) -> None:
    shown = cli("specs", "show", "pythia-14m")
    spec = tmp_path / "mine.yaml"
    spec.write_text(shown.out, encoding="utf-8")
    assert transformers.NO_CONFIG in cli("verify", str(spec)).out
    right = cli("verify", str(spec), "--config", str(carried("pythia-14m")), "--format", "json")
    assert right.code == 0
    assert verdicts(right, "pythia-14m") == {"AGREES"}
    wrong = cli("verify", str(spec), "--config", str(carried("pythia-31m")))
    assert wrong.code == 1
    assert "d_model: 128 in the spec, 256 in the config" in wrong.out
    assert "DIFFERENT" in wrong.out


def test_a_config_that_is_none_is_refused(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "config.json"
    broken.write_text("{", encoding="utf-8")
    done = cli("verify", "gpt2", "--config", str(broken))
    assert done.code == 2
    assert "config.json" in done.err


def test_a_class_that_is_not_there_leaves_its_column_unmeasured(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(carried("gpt2").read_text()), "model_type": "gpt9"}), encoding="utf-8")
    done = cli("verify", "gpt2", "--config", str(path), "--format", "json")
    assert done.code == 0
    row = next(row for row in rows(done, "gpt2") if row["witness"] == "transformers")
    assert row["verdict"] == "UNMEASURED"
    assert "has no class of the model_type gpt9" in row["note"]


# --- what may go wrong ------------------------------------------------------------------------------


def test_without_transformers_the_others_decide(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "transformers" else real(name, *rest)
    )
    done = cli("verify", "gpt2")
    assert done.code == 0
    assert "pip install 'llmprof[hf]'" in done.out


def test_one_wrong_spec_does_not_lose_the_others(cli: Cli) -> None:
    done = cli("verify", "no-such-model", "gpt2", "--no-hf", "--format", "json")
    assert done.code == 2
    assert "no spec is called 'no-such-model'" in done.err
    assert [result["name"] for result in done.json["results"]] == ["gpt2"]


def test_a_bug_costs_one_architecture(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = twin.add_rows

    def add_rows(result: Result, asked: tuple[Workload, ...]) -> None:
        if result.arch.name == "gpt2":
            raise RuntimeError("planted")
        real(result, asked)

    monkeypatch.setattr(twin, "add_rows", add_rows)
    done = cli("verify", "gpt2", "pythia-14m", "--no-hf", "--format", "json")
    assert done.code == 70
    assert "gpt2: internal error, please report it: RuntimeError: planted" in done.err
    assert verdicts(done, "pythia-14m") == {"AGREES"}


def test_ctrl_c_prints_what_there_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = twin.add_rows

    def add_rows(result: Result, asked: tuple[Workload, ...]) -> None:
        if result.arch.name == "pythia-14m":
            raise KeyboardInterrupt
        real(result, asked)

    monkeypatch.setattr(twin, "add_rows", add_rows)
    done = cli("verify", "gpt2", "pythia-14m", "pythia-31m", "--no-hf", "--format", "json")
    assert done.code == 130
    assert "interrupted" in done.err
    assert [(result["name"], result["interrupted"]) for result in done.json["results"]] == [
        ("gpt2", False),
        ("pythia-14m", True),
    ]
    assert any(row["witness"] == "twin" for row in rows(done, "gpt2"))


def test_one_value_more_differs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = twin.tables_of
    monkeypatch.setattr(twin, "tables_of", lambda made: real(made) + 1)
    done = cli("verify", "gpt2", "--no-hf", "--format", "json")
    assert done.code == 1
    bad = [row for row in rows(done, "gpt2") if row["verdict"] == "DIFFERS"]
    assert [(row["witness"], row["quantity"], row["found"] - row["predicted"]) for row in bad] == [
        ("twin", "params_embedding", 1)
    ]


def test_a_wrong_explanation_is_a_difference(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "output_matrix", lambda arch: arch.vocab_size * arch.d_model + 1)
    done = cli("verify", "t5-v1_1-small", "--format", "json")
    assert done.code == 1
    bad = {(row["quantity"], row["path"]) for row in rows(done, "t5-v1_1-small") if row["verdict"] == "DIFFERS"}
    assert bad == {("params_total", ""), ("params_embedding", ""), ("params", "lm_head")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gpt2", "--format", "html"), "--format: found 'html'"),
        (("gpt2", "--output", "no/such/place.md"), "there is no directory"),
    ],
)
def test_wrong_options_are_refused(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("verify", *words)
    assert done.code == 2
    assert message in done.err
