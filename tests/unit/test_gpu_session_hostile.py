"""What parts of a GPU session may do to its record: nothing but fail themselves."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmprof.measure.gpu_process import REPOSITORY, Completed
from llmprof.measure.gpu_session import main

SPECS = ("--counted", "a", "--trained", "", "--models", "b")


def _strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _session(tmp_path: Path, answer: Completed | Exception, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    def runner(arguments: object, limit: float) -> Completed:
        if isinstance(answer, Exception):
            raise answer
        return answer

    output = tmp_path / "record.json"
    assert main(["--output", str(output), *SPECS], runner=runner) == 1
    assert capsys.readouterr().out.startswith("part ")
    text = output.read_text(encoding="utf-8")
    for place in (str(REPOSITORY), sys.prefix, str(Path.home())):
        assert place not in text
    return _strict(text)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "output",
    [
        "[" * 200_000,
        '{"results": [{"timings": 1, "counters": 2}], "experiments": [3]}',
        '{"results": [{"timings": [], "counters": {"rows": [{"verdict": [], "tier": []}]}}]}',
        "\x00\x01\ufffd",
        "",
    ],
)
def test_rubbish_fails_its_own_part(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = _session(tmp_path, Completed(returncode=0, stdout=output, stderr=""), capsys)
    assert len(made["parts"]) >= 5
    assert {part["status"] for part in made["parts"]} & {"failed"}


@pytest.mark.parametrize("reason", [RuntimeError("boom"), OSError("boom"), MemoryError("boom"), ValueError("boom")])
def test_whatever_keeps_a_part_from_running_is_its_note(
    reason: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = _session(tmp_path, reason, capsys)
    assert {(part["status"], part["note"]) for part in made["parts"]} == {("failed", "could not be started: boom")}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_who_ends_the_session_gets_its_record(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def runner(arguments: object, limit: float) -> Completed:
        os.kill(os.getpid(), number)
        time.sleep(60)  # which the signal ends
        raise AssertionError

    output = tmp_path / "record.json"
    assert main(["--output", str(output), *SPECS], runner=runner) == 1
    statuses = [part["status"] for part in _strict(output.read_text())["parts"]]
    assert (statuses[0], set(statuses[1:])) == ("interrupted", {"not run"})
    assert "the session was interrupted" in capsys.readouterr().out
    assert signal.getsignal(number) is before


def test_what_json_has_not_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = '{"a": NaN, "b": -Infinity, "c": 1e999, "d": 2.5, "e": "\\ud800"}'
    made = _session(tmp_path, Completed(returncode=0, stdout=output, stderr=""), capsys)
    assert made["environment"] == {"a": None, "b": None, "c": None, "d": 2.5, "e": "\ud800"}


def test_paths_within_a_part_s_json_stay_out_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = json.dumps({"notes": [f"{REPOSITORY}/x.ncu-rep", f"{sys.prefix}/bin/ncu"]})
    made = _session(tmp_path, Completed(returncode=0, stdout=output, stderr=""), capsys)
    assert made["environment"] == {"notes": ["<repository>/x.ncu-rep", "<python>/bin/ncu"]}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--budget-seconds", "nan"), "found 'nan'; expected seconds"),
        (("--budget-seconds", "0"), "found '0'; expected seconds"),
        (("--profile-seconds", "inf"), "found 'inf'; expected seconds"),
        (("--profile-seconds", "ten"), "found 'ten'; expected seconds"),
        (("--output", "{}"), "cannot be written: Is a directory"),
        (("--output", "{}/file/record.json"), "cannot be written: "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    words: tuple[str, str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def runner(arguments: object, limit: float) -> Completed:
        raise AssertionError("nothing may run")

    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["--output", str(tmp_path / "r.json"), *(word.format(tmp_path) for word in words)], runner=runner)
    assert stopped.value.code == 2
    assert why in capsys.readouterr().err
