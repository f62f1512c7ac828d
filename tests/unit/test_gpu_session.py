"""The GPU session with a fake runner: budget, failures, the record, the table."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmprof import catalog
from llmprof.measure import gpu_session
from llmprof.measure.gpu_process import REPOSITORY, Completed, redact, run_python
from llmprof.measure.gpu_session import (
    Outcome,
    Part,
    judge_json,
    judge_tests,
    main,
    plan,
    record,
    run_session,
    save,
    table,
)
from llmprof.spec.slice import slice_arch, smallest_slice


class World:
    """A runner and a clock: each part takes `seconds`, and answers as it is told by the end of its arguments."""

    def __init__(self, seconds: float = 10.0, **answers: Completed | BaseException) -> None:
        self.seconds, self.answers = seconds, answers
        self.time = 0.0
        self.limits: list[float] = []
        self.ran: list[str] = []

    def now(self) -> float:
        return self.time

    def run(self, arguments: Sequence[str], limit: float) -> Completed:
        name = arguments[0]
        self.limits.append(limit)
        self.ran.append(name)
        self.time += min(self.seconds, limit)
        answer = self.answers.get(name, Completed(returncode=0, stdout='{"n": 1}', stderr="noise"))
        if isinstance(answer, BaseException):
            raise answer
        if self.seconds > limit:
            return Completed(returncode=None, stdout="half", stderr="")
        return answer


def parts(*names: str, limit: float = 100.0, judge: Callable[..., object] = judge_json) -> list[Part]:
    return [Part(name=name, arguments=(name,), limit_seconds=limit, judge=judge) for name in names]  # type: ignore[arg-type]


def run(world: World, todo: list[Part], output: Path, budget: float = 540.0) -> list[Outcome]:
    return run_session(todo, output, budget_seconds=budget, runner=world.run, now=world.now, say=lambda line: None)


def test_the_plan_is_the_environment_the_tests_and_each_model(tmp_path: Path) -> None:
    todo = plan(["a", "b"], tests=tmp_path)
    assert [part.name for part in todo] == ["environment", "tests", "profile a", "profile b"]
    assert todo[0].arguments == ("-m", "llmprof.measure.environment", "--device", "cuda")
    assert todo[1].arguments[:5] == ("-m", "pytest", str(tmp_path), "-m", "gpu")
    assert todo[1].blocked == ""
    expected = "-m llmprof profile b --device cuda --attention fused,unfused --phase prefill,decode --format json"
    assert todo[3].arguments == tuple(expected.split())


def test_a_model_may_have_options_of_its_own(tmp_path: Path) -> None:
    todo = plan(["a --layers 2", "'my specs/b.yaml'"], tests=tmp_path)
    assert [part.name for part in todo[2:]] == ["profile a --layers 2", "profile 'my specs/b.yaml'"]
    assert todo[2].arguments[2:7] == ("profile", "a", "--layers", "2", "--device")
    assert todo[3].arguments[2:5] == ("profile", "my specs/b.yaml", "--device")


def test_quotes_that_are_not_closed_are_refused_before_anything_runs(tmp_path: Path) -> None:
    world = World()
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path / "out.json"), "--models", "a 'b"], runner=world.run)
    assert world.ran == []


def test_the_slices_hold_every_kind_of_layer_and_what_is_new() -> None:
    seen: set[str] = set()
    for name, option, layers in (text.split() for text in gpu_session.SLICES):
        (spec,) = catalog.resolve([name])
        assert (option, int(layers)) == ("--layers", smallest_slice(spec))
        small = slice_arch(spec, int(layers)).arch
        seen |= {kind.kind for each in small.main.layers for kind in (each.attention, each.ffn)}
        seen |= {"sinks" for each in small.main.layers if getattr(each.attention, "sinks", False)}
    assert seen >= {"mla", "moe", "sinks", "mamba-2", "gated-deltanet", "gqa"}
    assert gpu_session.MODELS[: len(gpu_session.SLICES)] == gpu_session.SLICES
    for name in gpu_session.MODELS[len(gpu_session.SLICES) :]:
        assert catalog.resolve([name])


def test_the_default_plan_leaves_every_part_its_share() -> None:
    todo = plan(gpu_session.MODELS)
    assert [part.blocked for part in todo] == [""] * (2 + len(gpu_session.MODELS))
    budget, reserve = gpu_session.BUDGET_SECONDS, gpu_session._RESERVE_SECONDS
    # Even where the environment takes all its time, the tests have theirs before what is kept back for the models.
    left = budget - gpu_session.ENVIRONMENT_SECONDS - reserve * len(gpu_session.MODELS)
    assert left >= gpu_session.TESTS_SECONDS == todo[1].limit_seconds


def test_tests_that_are_not_there_are_blocked_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "checkout" in plan([], tests=tmp_path / "none")[1].blocked
    monkeypatch.setattr(gpu_session.importlib.util, "find_spec", lambda name: None)
    assert plan([], tests=tmp_path)[1].blocked == "pytest is not installed"


def test_all_parts_pass_and_the_record_holds_their_results(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out.json"
    outcomes = run(World(), parts("environment", "one", "two"), output)
    assert [outcome.status for outcome in outcomes] == ["passed"] * 3
    written = json.loads(output.read_text())
    assert written["environment"] == {"n": 1}
    assert written["complete"] is True
    assert written["seconds"] == 30.0
    assert [part["name"] for part in written["parts"]] == ["one", "two"]
    assert written["parts"][0]["result"] == {"n": 1}
    assert written["parts"][0]["output_tail"] == "noise"
    assert os.listdir(output.parent) == ["out.json"], "no draft is left behind"


def test_a_failing_part_does_not_end_the_session(tmp_path: Path) -> None:
    world = World(
        one=Completed(returncode=3, stdout="", stderr="Traceback\nDeviceError: no room"),
        two=OSError("no such program"),
        three=Completed(returncode=1, stdout='{"differs": 1}', stderr=""),
    )
    one, two, three, four = run(world, parts("one", "two", "three", "four"), tmp_path / "out.json")
    assert (one.status, one.returncode, one.note) == ("failed", 3, "exit code 3: DeviceError: no room")
    assert one.output_tail.startswith("Traceback")
    assert (two.status, two.returncode, two.note) == ("failed", None, "could not be started: no such program")
    assert (three.status, three.result) == ("failed", {"differs": 1})
    assert four.status == "passed"
    assert json.loads((tmp_path / "out.json").read_text())["complete"] is False


def test_each_part_has_its_limit_and_leaves_a_reserve_for_those_after_it(tmp_path: Path) -> None:
    world = World(seconds=60.0)
    run(world, parts("one", "two", "three", limit=100.0), tmp_path / "out.json", budget=140.0)
    # 140 - 2 x 25 = 90; then 80 - 25 = 55, in which 60 seconds of work time out; then the 25 that are left.
    assert world.limits == [90.0, 55.0, 25.0]


def test_a_part_that_times_out_keeps_what_it_said(tmp_path: Path) -> None:
    (slow,) = run(World(seconds=60.0), parts("slow", limit=50.0), tmp_path / "out.json")
    assert (slow.status, slow.note, slow.output_tail) == ("timed out", "stopped after 50 s", "half")
    assert slow.seconds == 50.0


def test_when_the_budget_is_spent_the_rest_is_recorded_as_not_run(tmp_path: Path) -> None:
    world = World(seconds=18.0)
    outcomes = run(world, parts("one", "two"), tmp_path / "out.json", budget=20.0)
    assert world.ran == ["one"]
    assert (outcomes[1].status, outcomes[1].note) == ("not run", "the budget of 20 s is spent")


def test_an_interrupt_keeps_the_record_of_what_ran(tmp_path: Path) -> None:
    world = World(two=KeyboardInterrupt())
    outcomes = run(world, parts("one", "two", "three"), tmp_path / "out.json")
    assert [outcome.status for outcome in outcomes] == ["passed", "interrupted", "not run"]
    assert world.ran == ["one", "two"]
    assert len(json.loads((tmp_path / "out.json").read_text())["parts"]) == 3


def test_the_record_is_there_after_each_part(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    seen: list[int] = []

    def watching(arguments: Sequence[str], limit: float) -> Completed:
        seen.append(len(json.loads(output.read_text())["parts"]) if output.exists() else 0)
        return Completed(returncode=0, stdout="1", stderr="")

    run_session(parts("one", "two", "three"), output, runner=watching, say=lambda line: None)
    assert seen == [0, 1, 2]


def test_a_write_that_fails_leaves_the_old_record_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    save(path, {"old": True})
    with pytest.raises(TypeError):
        save(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": True}
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize(
    ("last", "code", "status"),
    [
        ("12 passed in 3.1s", 0, "passed"),
        ("10 passed, 2 skipped in 3.1s", 0, "failed"),
        ("12 skipped in 0.1s", 0, "failed"),
        ("1 failed, 11 passed in 3s", 1, "failed"),
        ("3 passed, 1 error in 3s", 1, "failed"),
        ("no tests ran in 0.01s", 5, "failed"),
        ("", 2, "failed"),
    ],
)
def test_only_tests_that_ran_and_passed_pass(last: str, code: int, status: str) -> None:
    stdout = f"test_99 failed with 99 failed in its name\n{last}\n" if last else ""
    got, note, counts = judge_tests(Completed(returncode=code, stdout=stdout, stderr=""))
    assert got == status
    assert f"exit code {code}" in note
    assert counts.get("failed", 0) == (1 if "1 failed" in last else 0)


def test_paths_of_this_machine_stay_out_of_the_record(tmp_path: Path) -> None:
    home = str(Path.home())
    text = f'File "{REPOSITORY}/llmprof/x.py", {sys.prefix}/lib, {home}/y'
    assert redact(text) == 'File "<repository>/llmprof/x.py", <python>/lib, <home>/y'
    world = World(one=Completed(returncode=1, stdout="", stderr=f"bad: {REPOSITORY}/a"))
    run(world, parts("one"), tmp_path / "out.json")
    assert str(REPOSITORY) not in (tmp_path / "out.json").read_text()


def test_a_session_without_an_environment_says_none() -> None:
    assert record([], planned=1, seconds=1.0, budget_seconds=2.0)["environment"] is None


def test_the_table_is_one_line_a_part_and_cuts_nothing() -> None:
    long = "x" * 300
    lines = list(
        table(
            [
                Outcome(name="environment", command="", status="passed", returncode=0, seconds=1.25, note=""),
                Outcome(name="tests", command="", status="not run", returncode=None, seconds=0.0, note=long),
            ]
        )
    )
    assert lines[0].split() == ["part", "status", "seconds", "note"]
    assert lines[1].split() == ["environment", "passed", "1.2"]
    assert lines[2].endswith(long)


def test_the_command_prints_the_table_last_and_its_exit_code_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(code: int) -> Callable[[Sequence[str], float], Completed]:
        def respond(arguments: Sequence[str], limit: float) -> Completed:
            if "pytest" in arguments:
                return Completed(returncode=0, stdout="1 passed in 1s", stderr="")
            return Completed(returncode=code, stdout="" if code else "{}", stderr="")

        return respond

    options = ["--output", str(tmp_path / "out.json"), "--models", "a, b"]
    assert main(options, runner=answer(0)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["part", "environment", "tests", "profile a", "profile b"]
    assert main(options, runner=answer(1)) == 1
    assert main(options, runner=answer(3)) == 3


def test_a_real_process_is_run_and_one_that_hangs_is_stopped_with_its_children() -> None:
    done = run_python(["-c", "import sys; print(7); print('e', file=sys.stderr); sys.exit(4)"], 60.0)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (4, "7", "e")
    # The grandchild holds the pipe: were only the child stopped, reading it would last a minute.
    hang = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    begun = time.monotonic()
    assert run_python(["-c", hang], 1.0).returncode is None
    assert time.monotonic() - begun < 30
