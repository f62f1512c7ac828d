"""Files with odd names, of odd kinds and in odd places, wherever a command takes a file of the world."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmprof.spec.load import load_text
from tests.cli.conftest import Cli
from tests.cli.test_import import SMALL, write

TOLD = "read as llama; not in the file, so taken from LlamaConfig: mlp_bias = false"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "whole.json")
    write(tmp_path / "short.json", {key: value for key, value in SMALL.items() if key != "mlp_bias"})
    return tmp_path


BUDGET = "budgets:\n  - {spec: ../short.json, phase: decode, context: 64, limits: {kv_cache_bytes: '<= 1 GiB'}}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("count", "short.json", "--context", "64"),
        ("compare", "short.json", "whole.json"),
        ("compare", "whole.json", "short.json"),
        ("specs", "show", "short.json"),
        ("specs", "check", "short.json"),
        ("import", "short.json"),
    ],
)
def test_defaults_that_were_taken_are_told_once_and_never_on_stdout(
    cli: Cli, here: Path, words: tuple[str, ...]
) -> None:
    done = cli(*words)
    assert done.code == 0
    assert done.err.count(TOLD) == 1
    assert "llmprof:" not in done.out


def test_they_are_told_of_a_file_of_weights_and_its_config(cli: Cli, here: Path) -> None:
    header = b'{"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (here / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    done = cli("compare", "short.json", "w.safetensors")
    assert done.code == 1
    assert done.err.count(TOLD) == 1


def test_they_are_told_by_a_budget_of_a_config(cli: Cli, here: Path) -> None:
    (here / "budgets").mkdir()
    (here / "budgets" / "b.yaml").write_text(BUDGET, encoding="utf-8")
    done = cli("check", "budgets/b.yaml")
    assert (done.code, done.err.count(f"llmprof: short.json: {TOLD}")) == (0, 1)


def test_a_budget_of_what_is_no_file_of_weights_says_what_to_do(cli: Cli, here: Path) -> None:
    (here / "p.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8")
    (here / "b.yaml").write_text(BUDGET.replace("../short.json", "p.gguf"), encoding="utf-8")
    done = cli("check", "b.yaml")
    assert done.code == 2
    assert "b.yaml:2:12: budgets[0].spec: p.gguf: a Git LFS pointer; expected a GGUF file (fetch the file" in done.err


def test_they_are_told_of_a_config_at_a_revision(cli: Cli, here: Path) -> None:
    for words in (
        ["init", "-q"],
        ["add", "short.json"],
        ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], check=True, cwd=here)
    done = cli("compare", "git:HEAD:short.json", "whole.json")
    assert done.code == 0
    assert f"HEAD:short.json: {TOLD}" in done.err


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + ".json", "n" * 300 + ".gguf", "n" * 300 + ".safetensors"])
@pytest.mark.parametrize("words", [("import",), ("count",), ("compare", "whole.json"), ("specs", "check")])
def test_a_name_that_is_too_long_is_wrong_input(cli: Cli, here: Path, name: str, words: tuple[str, ...]) -> None:
    done = cli(*words, name)
    assert done.code == 2
    assert "n" * 50 in done.err
    assert "internal" not in done.err


@pytest.mark.parametrize("name", ["p.gguf", "p.safetensors", "p.safetensors.index.json"])
def test_a_pipe_is_no_file_of_weights_and_nobody_waits_for_it(here: Path, name: str) -> None:
    os.mkfifo(here / name)
    words = [sys.executable, "-m", "llmprof", "compare", "whole.json", name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{name}: this is no regular file; expected " in done.stderr


@pytest.mark.parametrize("name", ["a\nname: other.json", "a\u2028name: other.json", "\x1b[31m.json", "\udcff.json"])
def test_a_files_name_says_nothing_in_the_spec(cli: Cli, here: Path, name: str) -> None:
    os.rename("whole.json", name)
    done = cli("import", name, "--name", "mine")
    assert done.code == 0
    assert load_text(done.out).name == "mine"
    assert "\x1b" not in done.out + done.err
    assert done.out.splitlines()[1] == "name: mine"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("a:b.json", "a:b.json: no such file"),
        ("model.safetensors", "model.safetensors: no such file"),
        ("https://huggingface.co/a/b/config.json", "an address; expected a file or folder of this machine"),
        ("two", "two: a folder without config.json, and with 2 GGUF files"),
        ("noext", "this is a Hugging Face config, by its key 'model_type'; expected a spec (give its file a name that"),
    ],
)
def test_what_is_wrong_is_said(cli: Cli, here: Path, ref: str, message: str) -> None:
    write(here / "config.json")  # what stands beside a file that is not there is not the file
    write(here / "noext")
    (here / "two").mkdir()
    for name in ("a.gguf", "b.gguf"):
        (here / "two" / name).touch()
    done = cli("count", ref)
    assert done.code == 2
    assert message in done.err


def test_an_empty_name_is_not_this_folder(cli: Cli, here: Path) -> None:
    write(here / "config.json")
    done = cli("import", "")
    assert done.code == 2
    assert "FILE: found an empty name" in done.err


@pytest.mark.parametrize(("file", "output"), [("whole.json", "./whole.json"), ("f", "f/config.json"), ("a.json", "b")])
def test_what_is_read_is_not_overwritten(cli: Cli, here: Path, file: str, output: str) -> None:
    text = write(here / "f" / "config.json").read_bytes()
    for name in ("a.json", "b"):
        os.symlink("whole.json", name)
    done = cli("import", file, "--output", output)
    assert done.code == 2
    assert "this is the file that is read" in done.err
    assert Path(output).read_bytes() == text


@pytest.mark.parametrize(("link", "name"), [("model-7b/config.json", "model-7b"), ("mine.json", "mine")])
def test_a_link_is_called_by_its_own_name(cli: Cli, here: Path, link: str, name: str) -> None:
    (here / "model-7b").mkdir()
    write(here / "blobs" / "3fa94c")
    os.symlink(here / "blobs" / "3fa94c", link)
    assert f"\nname: {name}\n" in cli("import", link).out
