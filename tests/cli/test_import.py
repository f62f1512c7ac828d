"""`llmprof import`, and configs wherever a spec is taken."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmprof.spec.load import load_file, load_text
from tests.cli.conftest import Cli

SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
# Table 300 x 48. A layer: q and o 2 x 48 x 48, k and v 2 x 48 x 16, 3 x 48 x 80, two norms of 48; a last norm of 48.
TOTAL = 300 * 48 + 3 * (2 * 48 * 48 + 2 * 48 * 16 + 3 * 48 * 80 + 2 * 48) + 48


def write(at: Path, config: dict[str, Any] = SMALL, **changes: Any) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(json.dumps(config | changes, indent=2), encoding="utf-8")
    return at


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "small" / "config.json")
    return tmp_path


def test_the_spec_of_a_config(cli: Cli, folder: Path) -> None:
    done = cli("import", "small")
    assert done.code == 0
    head, _, body = done.out.partition("structure:")
    assert head.startswith("# Read from config.json, family LlamaConfig.")
    assert "name: small\n" in head
    assert (
        body
        == """ causal-decoder
vocab_size: 300
d_model: 48
max_context: 256
tied_embeddings: true
position: {kind: rope, theta: 10000}
layers:
  count: 3
  norm: {kind: rmsnorm, placement: pre, eps: 1e-05}
  # head_dim: not stated, so 48 values over 6 heads, as the family has it
  attention: {kind: gqa, n_heads: 6, n_kv_heads: 2, head_dim: 8, qkv_bias: false, out_bias: false}
  ffn: {kind: swiglu, d_ff: 80, bias: false}
release: {dtype: bf16}
"""
    )
    assert done.err == "llmprof: small: read as llama; every field that decides something is in the file\n"


def test_what_is_written_is_a_spec(cli: Cli, folder: Path) -> None:
    assert cli("import", "small/config.json", "--name", "mine", "--output", "mine.yaml").code == 0
    spec = load_file("mine.yaml")
    assert (spec.name, spec.base.d_model) == ("mine", 48)
    assert cli("count", "mine.yaml", "--format", "json").json["results"][0]["params_total"] == TOTAL
    assert cli("specs", "check", "mine.yaml").code == 0


def test_defaults_are_said(cli: Cli, folder: Path) -> None:
    write(folder / "bare.json", {"model_type": "llama"})
    done = cli("import", "bare.json")
    assert "# d_ff: intermediate_size is not in the file: 11008 is the default of LlamaConfig" in done.out
    assert load_text(done.out).base.d_model == 4096
    told = cli("count", "bare.json", "--format", "json")
    assert "bare.json: read as llama; not in the file, so taken from LlamaConfig: hidden_size = 4096" in told.err
    assert told.json["results"][0]["params_total"] == 6_738_415_616


def test_what_is_left_out_is_said(cli: Cli, folder: Path) -> None:
    write(folder / "long.json", rope_scaling={"type": "linear", "factor": 4.0})
    done = cli("count", "long.json", "--format", "json")
    assert done.code == 0
    assert "long.json: the rotation is rescaled for longer contexts (linear), which is left out" in done.err


@pytest.mark.parametrize(
    "words", [("count",), ("specs", "show"), ("specs", "check"), ("mask", "--length", "8"), ("compare", "gpt2")]
)
def test_a_config_stands_for_a_spec(cli: Cli, folder: Path, words: tuple[str, ...]) -> None:
    assert cli(*words, "small").code == 0
    assert cli(*words, "small/config.json").code == 0


def test_a_config_is_profiled(cli: Cli, folder: Path) -> None:
    done = cli("profile", "small", "--device", "meta", "--context", "16", "--format", "json", "--no-referees")
    assert done.code == 0
    assert done.json["results"][0]["verdict"] == "confirmed"


BUDGET = """\
budgets:
  - spec: SPEC
    phase: decode
    batch: 1
    context: 64
    limits: {params_total: "<= 1_000"}
"""


@pytest.mark.parametrize("spec", ["../small", "../small/config.json"])
def test_a_budget_of_a_config(cli: Cli, folder: Path, spec: str) -> None:
    (folder / "budgets").mkdir()
    (folder / "budgets" / "b.yaml").write_text(BUDGET.replace("SPEC", spec), encoding="utf-8")
    done = cli("check", "budgets/b.yaml", "--format", "json")
    assert done.code == 1
    assert done.json["results"][0]["value"] == TOTAL


def test_a_config_of_a_revision(cli: Cli, folder: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)

    git("init", "-q", ".")
    git("add", ".")
    git("commit", "-qm", "first")
    write(folder / "small" / "config.json", num_key_value_heads=6)
    for before in ("git:HEAD:small", "git:HEAD:small/config.json"):
        done = cli("compare", before, "small/config.json", "--context", "64")
        assert done.code == 0
        assert "layers.attention.n_kv_heads   2        6       small/config.json:12" in done.out


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "a.json:1:2: this is not JSON"),
        ("a.json", "[]", "a.json: the root is []; expected a Hugging Face config.json"),
        ("a.json", '{"model_type": "llama", "model_type": "gpt2"}', "the key 'model_type' stands twice in one object"),
        ("a.json", '{"model_type": "lama"}', "a.json:1:2: model_type: found \"lama\""),
        ("a.json", "{}", "the field 'model_type' is missing"),
        ("a.json", '{"model_type": "llama",\n "n_sinks": 3}', "a.json:2:2: n_sinks: found 3; expected only fields that"),
        ("a.json", '{"model_type": "llama",\n "hidden_size": "48"}', "a.json:2:2: hidden_size: found \"48\""),
        ("a.json", '{"model_type": "llama",\n "hidden_act": "tanh"}', 'a.json:2:2: hidden_act: found "tanh"'),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_place(cli: Cli, folder: Path, name: str, text: str, words: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    for command in ("import", "count"):
        done = cli(command, name)
        assert (done.code, done.out) == (2, "")
        assert words in done.err


def test_all_that_is_wrong_is_said_at_once(cli: Cli, folder: Path) -> None:
    write(folder / "a.json", hidden_size=-1, vocab_size=0, rope_theta="x", n_new=1)
    done = cli("count", "a.json")
    assert done.code == 2
    assert all(f"{field}: found" in done.err for field in ("hidden_size", "vocab_size", "rope_theta", "n_new"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "nowhere.json"), "no such file"),
        (("import", "nowhere"), "no such file"),
        (("import", "empty"), "a folder"),
        (("import", "small", "--name", "A B"), "--name: found 'A B'; expected lower case letters"),
        (("import", "small", "--name", ""), "--name: found ''"),
        (("import", "small", "--output", "nowhere/x.yaml"), "there is no directory"),
    ],
)
def test_wrong_words(cli: Cli, folder: Path, words: tuple[str, ...], said: str) -> None:
    (folder / "empty").mkdir()
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
