"""What a newcomer and a hostile user meet: one clear message on stderr, nothing on stdout, a documented exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_specs import SPEC

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)

WRONG_FILES: dict[str, tuple[bytes, str]] = {
    "misspelt key": (SPEC.replace("d_model", "d_modle").encode(), "did you mean 'd_model'"),
    "missing head_dim": (SPEC.replace(", head_dim: 2", "").encode(), "missing key 'head_dim'"),
    "heads not divisible": (SPEC.replace("n_kv_heads: 1", "n_kv_heads: 3").encode(), "divisor of n_heads"),
    "duplicate key": ((SPEC + "d_model: 8\n").encode(), "written twice"),
    "alias bomb": (BOMB.encode(), "20,000"),
    "ten megabytes": (b"# nothing\n" * 1_000_000, "1 MiB"),
    "binary": (bytes(range(256)) * 4, "binary"),
    "not UTF-8": (SPEC.encode() + b"notes: caf\xe9\n", "UTF-8"),
    "empty": (b"", "empty"),
    "a list": (b"- 1\n", "a mapping"),
    "markup and escapes": (SPEC.replace("name: tiny", 'name: "[red]\\e[31m=1+1"').encode(), "name"),
}


@pytest.mark.parametrize(("content", "word"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
@pytest.mark.parametrize("command", [("count",), ("profile",), ("specs", "show"), ("specs", "check")], ids=" ".join)
def test_a_wrong_file(cli: Cli, tmp_path: Path, command: tuple[str, ...], content: bytes, word: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    done = cli(*command, str(path))
    assert (done.code, done.out) == (2, "")
    assert word in done.err
    assert "spec.yaml" in done.err
    assert "\x1b" not in done.err
    assert len(done.err) < 2000


@pytest.mark.parametrize(
    ("reference", "word"),
    [
        ("nowhere.yaml", "no such file"),
        (".", "folder"),
        ("", "no spec is called"),
        ("lama-2-7b", "did you mean llama-2-7b"),
        ("gpt2:mha", "no variant 'mha'"),
        ("llama-2-70b:", "no variant ''"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\x1b[31m.yaml", "\\x1b[31m.yaml"),
    ],
)
def test_a_wrong_reference(cli: Cli, reference: str, word: str) -> None:
    done = cli("count", reference)
    assert (done.code, done.out) == (2, "")
    assert word in done.err
    assert "\x1b" not in done.err


WRONG_OPTIONS = [
    ("--batch=-1", "--batch"),
    ("--batch=0", "at least 1"),
    ("--batch=1e3", "--batch"),
    ("--batch=nan", "'nan'"),
    ("--batch=", "found ''"),
    ("--batch=,", "found ''"),
    ("--batch=1,,2", "found ''"),
    ("--batch=\u0661", "--batch"),
    ("--batch=1000000000000000000000000000000", "at most"),
    ("--context=" + "9" * 5000, "5,000 characters"),
    ("--context=0.5", "not a whole number"),
    ("--context=4KiB", "'4KiB'"),
    ("--context=1025", "learned positions"),
    ("--new-tokens=2000", "context is 1024"),
    ("--source-tokens=5", "encoder-decoder"),
    ("--prefix-tokens=5", "no prefix decoder"),
    ("--logits=first", "all, last or none"),
    ("--phase=", "expected prefill"),
    ("--phase=training", "'training'"),
    ("--dtype=int8", "fp32, tf32, bf16 or fp16"),
    ("--kv-dtype=", "--kv-dtype"),
    ("--weight-dtype=int3", "'int3'"),
    ("--group-size=64", "--weight-dtype int4"),
    ("--variant=", "no variant ''"),
    ("--variant=,", "no variant ''"),
    ("--variant=nope", "no variant 'nope'"),
    ("--format=xml", "table, json, csv or markdown"),
    ("--output=", "empty name"),
    ("--output=/", "directory"),
    ("--output=nowhere/x.json", "no directory"),
    ("--output=" + "x" * 300, "too long"),
    ("--nonsense", "No such option"),
]


@pytest.mark.parametrize(("option", "word"), WRONG_OPTIONS, ids=[option[:40] for option, _ in WRONG_OPTIONS])
@pytest.mark.parametrize("command", ["count", "profile"])
def test_a_wrong_option(cli: Cli, command: str, option: str, word: str) -> None:
    done = cli(command, "gpt2", option)
    assert (done.code, done.out) == (2, "")
    assert word in done.err


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("count", "gpt2", "--memory", "80"), "80GiB or 80GB"),
        (("profile", "bert-base-uncased", "--device", "meta", "--kv-dtype", "fp32"), "keeps no keys and values in it"),
        (("count", "gpt2", "--memory", "9" * 99 + "GiB"), "102 characters"),
        (("count", "gpt2", "--by", ""), "module, op, layer or kernel"),
        (("count", "gpt2", "--by", "op", "--format", "csv"), "json, table or markdown"),
        (("count", "gpt2", "--phase", "decode", "--new-tokens", "7"), "--new-tokens is of prefill"),
        (("count", "gpt2", "--weight-dtype", "int4", "--group-size", "0"), "at least 1"),
        (("count", "llama-2-70b", "--variant", "mha", "--all-variants"), "exclude each other"),
        (("count", "bert-base-uncased", "--logits", "last"), "no last position"),
        (("count", "structures", "--all-variants", "--logits", "all"), "no output head"),
        (("count", "glm-130b", "--prefix-tokens", "5000"), "between 0 and the context"),
        (("count", "bert-base-uncased", "--new-tokens", "5"), "all tokens at once"),
        (("count",), "Missing argument"),
        (("profile", "gpt2", "--layers", "0"), "at least 1"),
        (("profile", "gpt2", "--seconds", "nan"), "--seconds"),
        (("profile", "gpt2", "--seconds", "1..5"), "--seconds"),
        (("profile", "gpt2", "--seed", "-1"), "--seed"),
        (("profile", "gpt2", "--seed", str(2**63)), "--seed"),
        (("profile", "gpt2", "--attention", "flash"), "fused or unfused"),
        (("profile", "gpt2", "--device", "tpu"), "expected auto, cpu, cuda"),
        (("profile", "attention-options:window", "--layers", "x"), "--layers"),
        (("profile", "gpt2", "--device", "meta", "--batch", "1000000000000000"), "beyond the sizes"),
        (("specs", "show"), "Missing argument"),
        (("nonsense",), "No such command"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_a_wrong_combination(cli: Cli, words: tuple[str, ...], word: str) -> None:
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert word in done.err


def test_a_stack_of_unequal_layers_cannot_be_cut_below_its_kinds(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(
        SPEC.replace("count: 1", "count: 4\n  pattern: [near, far]\n  near: {attention: {window: 4}}\n  far: {}")
    )
    done = cli("profile", str(path), "--layers", "1", "--device", "meta")
    assert (done.code, done.out) == (2, "")
    assert "use --layers 2" in done.err


def test_cuda_without_a_gpu(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    done = cli("profile", "gpt2", "--device", "cuda")
    assert (done.code, done.out) == (3, "")
    assert "--device cpu" in done.err


def test_an_output_that_may_not_be_written_is_refused_before_the_work(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "r.json"
    target.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    for command in ("count", "profile"):
        done = cli(command, "gpt2", "--output", str(target))
        assert (done.code, done.out) == (2, "")
        assert "not writable" in done.err
    assert target.read_text() == "old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_loses_no_result(cli: Cli) -> None:
    done = cli("count", "gpt2", "--output", "/dev/full", "--format", "json")
    assert done.code == 2
    assert "No space left" in done.err
    assert len(done.json["results"]) == 2


def test_links_in_a_circle_are_no_output(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert cli("count", "gpt2", "--output", str(tmp_path / "a")).code == 2


def test_a_bug_of_ours_is_one_line_and_70(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmprof.predict.record.count_record", lambda *_: 1 / 0)
    done = cli("count", "gpt2")
    assert (done.code, done.out) == (70, "")
    assert done.err.startswith("llmprof: error: internal error, please report it: ZeroDivisionError")


@pytest.mark.parametrize("words", [("count", "gpt2"), ("specs", "list"), ("specs", "check")], ids=" ".join)
def test_an_interruption_anywhere_is_130_and_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmprof.catalog.entries", interrupted)
    done = cli(*words)
    assert (done.code, done.out, done.err) == (130, "", "llmprof: interrupted\n")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A real process under a shell; `llmprof` in it is this interpreter's."""
    command = command.replace("llmprof ", f"{sys.executable} -m llmprof ")
    env = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, env=env, stdin=subprocess.DEVNULL, check=False)


def test_a_reader_that_goes_away_changes_no_exit_code() -> None:
    done = shell("llmprof count gpt2 --by op --memory 1KiB | head -1; exit ${PIPESTATUS[0]}")
    assert done.stdout.count(b"\n") == 1
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["count gpt2", "--help", "--version"])
def test_a_full_disk_behind_stdout(words: str) -> None:
    done = shell(f"llmprof {words} >/dev/full")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"No space left on device" in done.stderr


def test_closed_streams() -> None:
    assert shell("llmprof count gpt2 >&-").returncode == 2
    wrong = shell("llmprof count nowhere 2>&-")
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    assert shell("llmprof count - <&-").returncode == 2
    assert shell("llmprof count -").stderr.startswith(b"llmprof: error: <stdin>")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_rules(encoding: str) -> None:
    done = shell("llmprof count gpt2", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"-----" in done.stdout
    assert b"124,439,808" in done.stdout


BLOCKER = """
import os, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in os.environ["ABSENT"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
ROOT = str(Path(__file__).resolve().parent.parent.parent)


@pytest.mark.parametrize("absent", ["torch", "fvcore"])
def test_without_the_extra(tmp_path: Path, absent: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    path = os.pathsep.join([str(tmp_path), ROOT])
    done = shell("llmprof profile gpt2 --device meta --context 8 --layers 1", ABSENT=absent, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (3, b"")
    assert f"needs {absent}, which is not installed here; run: pip install 'llmprof[profile]'".encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_count_and_specs_need_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    env = {
        "ABSENT": "torch,fvcore,numpy,transformers,pydantic",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), ROOT]),
    }
    for words in ("count gpt2 --explain --by op", "specs list", "specs schema"):
        done = shell(f"llmprof {words}", **env)
        assert (done.returncode, done.stderr) == (0, b"")
