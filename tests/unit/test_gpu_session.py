"""The GPU session with a fake runner: budget, failures, the record, the table."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from llmprof import catalog
from llmprof.measure import gpu_plan, gpu_session
from llmprof.measure.gpu_plan import (
    Part,
    judge_calibration,
    judge_counters,
    judge_experiments,
    judge_json,
    judge_profile,
    judge_tests,
    plan,
)
from llmprof.measure.gpu_process import REPOSITORY, Completed, redact
from llmprof.measure.gpu_session import Outcome, main, record, run_session, save, table
from llmprof.spec.slice import slice_arch, smallest_slice
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]


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


def test_the_plan_has_what_tells_most_first(tmp_path: Path) -> None:
    counted = ["c", "d", "e", "f", "g"]
    todo = plan(["a", "b"], counted=counted, trained=["t"], sharded=["s"], timed=["p"], tests=tmp_path)
    assert [part.name for part in todo] == [
        "environment",
        "counters c",
        "counters d",
        "experiments",
        "counters e",
        "counters f",
        "tests",
        "calibrate",
        "predicted p",
        "counters nvml c",
        "counters cupti c",
        "tests of instruments",
        "counters g",
        "training t",
        "ranks s",
        "profile a",
        "profile b",
    ]
    by_name = {part.name: part for part in todo}
    assert todo[0].arguments == ("-m", "llmprof.measure.environment", "--device", "cuda")
    assert by_name["tests"].arguments[:5] == ("-m", "pytest", str(tmp_path), "-m", "gpu")
    assert by_name["tests"].blocked == ""
    passes = "--device cuda --attention fused,unfused --phase prefill,decode --counters"
    assert by_name["profile b"].arguments == (*f"-m llmprof profile b {passes} none --format json".split(),)
    counting = f"-m llmprof profile c {passes} auto --seconds 0 --no-referees --format json"
    assert by_name["counters c"].arguments == tuple(counting.split())
    assert by_name["training t"].arguments == (
        "-m",
        "llmprof",
        "profile",
        "t",
        "--device",
        "cuda",
        "--phase",
        "train",
        "--format",
        "json",
    )
    ranks = "-m llmprof profile s --device cuda --tp 1 --seconds 5 --format json"  # no GPU here: a group of one
    assert by_name["ranks s"].arguments == tuple(ranks.split())
    assert by_name["experiments"].arguments == ("-m", "llmprof.measure.gpu_experiments")
    calibrating = "-m llmprof calibrate --device cuda --seconds 60 --format json"
    assert by_name["calibrate"].arguments == tuple(calibrating.split())
    timing = "--batch 1,16 --seconds 2 --no-referees --counters none --format json"
    predicting = f"-m llmprof profile p --device cuda --attention fused,unfused --phase prefill,decode {timing}"
    assert by_name["predicted p"].arguments == tuple(predicting.split())
    nothing = plan([], counted=[], trained=[], sharded=[], timed=[], tests=tmp_path)
    assert [part.name for part in nothing] == ["environment", "experiments", "tests", "tests of instruments"]


def test_a_model_may_have_options_of_its_own(tmp_path: Path) -> None:
    todo = plan(["a --layers 2", "'my specs/b.yaml'"], counted=[], trained=[], sharded=[], timed=[], tests=tmp_path)
    assert [part.name for part in todo[4:]] == ["profile a --layers 2", "profile 'my specs/b.yaml'"]
    assert todo[4].arguments[2:7] == ("profile", "a", "--layers", "2", "--device")
    assert todo[5].arguments[2:5] == ("profile", "my specs/b.yaml", "--device")


@pytest.mark.parametrize("model", [*gpu_plan.COUNTED, *gpu_plan.TRAINED, *gpu_plan.SHARDED, *gpu_plan.TIMED])
def test_every_command_of_the_default_plan_is_one(cli: Cli, model: str) -> None:
    """Run on meta, small: what is refused here would be refused on a GPU, whose minutes count."""
    part = next(each for each in plan([]) if each.name.partition(" ")[2] == model)
    words = list(part.arguments[2:])
    for option, value in (("--device", "meta"), ("--counters", "none"), ("--context", "16"), ("--batch", "1")):
        if option in words:
            words[words.index(option) + 1] = value
    done = cli(*words)
    assert done.code == 0, done.err
    assert done.json["results"][0]["verdict"] == "confirmed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be calibrated")
def test_the_calibration_of_the_plan_is_a_command(cli: Cli) -> None:
    (part,) = (each for each in plan([]) if each.name == "calibrate")
    done = cli(*part.arguments[2:])
    assert done.code == 3
    assert "device 'cuda' is not there" in done.err


def test_quotes_that_are_not_closed_are_refused_before_anything_runs(tmp_path: Path) -> None:
    world = World()
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path / "out.json"), "--models", "a 'b"], runner=world.run)
    assert world.ran == []


def test_the_slices_hold_every_kind_of_layer_and_what_is_new() -> None:
    seen: set[str] = set()
    for name, option, layers in (text.split() for text in gpu_plan.SLICES):
        (spec,) = catalog.resolve([name])
        assert (option, int(layers)) == ("--layers", smallest_slice(spec))
        small = slice_arch(spec, int(layers)).arch
        seen |= {kind.kind for each in small.main.layers for kind in (each.attention, each.ffn)}
        seen |= {"sinks" for each in small.main.layers if getattr(each.attention, "sinks", False)}
    assert seen >= {"mla", "moe", "sinks", "mamba-2", "gated-deltanet", "gqa"}
    assert gpu_plan.MODELS[: len(gpu_plan.SLICES)] == gpu_plan.SLICES
    for name in gpu_plan.MODELS[len(gpu_plan.SLICES) :]:
        assert catalog.resolve([name])


@pytest.mark.parametrize("budget", [gpu_session.BUDGET_SECONDS, 560.0])
def test_counters_experiments_and_tests_have_their_time_in_ten_minutes_too(tmp_path: Path, budget: float) -> None:
    todo = plan(gpu_plan.MODELS)
    assert [part.blocked for part in todo] == [""] * len(todo)
    assert sum(part.limit_seconds for part in todo[:2]) < budget / 2
    world = World(seconds=10**6)  # every part takes all its time
    outcomes = run(world, todo, tmp_path / "out.json", budget=budget)
    ran = {outcome.name: outcome.seconds for outcome in outcomes if outcome.status == "timed out"}
    assert sum(ran.values()) <= budget
    assert {"environment", "experiments", "tests", "calibrate"} <= set(ran)
    assert ran["calibrate"] >= 90
    assert ran["experiments"] >= 75
    assert ran["tests"] >= 75
    assert sum(name.startswith("counters ") for name in ran) >= 2


def test_tests_that_are_not_there_are_blocked_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blocked(tests: Path) -> str:
        return next(part.blocked for part in plan([], tests=tests) if part.name == "tests")

    assert "checkout" in blocked(tmp_path / "none")
    found = {"pytest": "there"}
    monkeypatch.setattr(gpu_plan.importlib.util, "find_spec", found.get)
    assert blocked(tmp_path) == "hypothesis is not installed"
    found.clear()
    assert blocked(tmp_path) == "pytest is not installed"


def test_every_gpu_test_is_in_one_part_of_the_two() -> None:
    """Those of the whole GPU run alone, the others beside each other; none stands where the session does not look."""
    tests = REPOSITORY / "tests"
    others, alone = ([*part.arguments] for part in plan([]) if part.name.startswith("tests"))
    files = {str(tests / "gpu" / f"test_gpu_{name}.py") for name in gpu_plan.INSTRUMENTS}
    assert all(Path(file).is_file() for file in files)
    assert {word.removeprefix("--ignore=") for word in others if word.startswith("--ignore=")} == files
    assert set(alone) & files == files
    assert str(tests / "gpu") in others
    assert str(tests / "gpu") not in alone
    assert (others[-2:], alone[-2:]) == (["-n", "4"], ["-n", "0"])
    marked = {path.parent.name for path in tests.rglob("test_*.py") if "pytest.mark.gpu\n" in path.read_text()}
    assert marked == {"gpu"}


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


def test_a_record_that_no_judge_understands_costs_its_own_part(tmp_path: Path) -> None:
    odd = Completed(returncode=0, stdout='{"results": [{"timings": [3]}]}', stderr="")
    one, two = run(World(one=odd), parts("one", "two", judge=judge_profile), tmp_path / "out.json")
    assert (one.status, one.note[:28]) == ("failed", "its record is not understood")
    assert two.status == "passed"


def test_each_part_has_its_limit_and_time_is_kept_for_those_that_ask_for_it(tmp_path: Path) -> None:
    world = World(seconds=60.0)
    one, two, three = parts("one", "two", "three", limit=100.0)
    kept = dataclasses.replace(two, reserve_seconds=50.0)
    outcomes = run(world, [one, kept, three], tmp_path / "out.json", budget=110.0)
    # 110 - 50 are for the first, who takes 60; the second has its 50, in which 60 seconds of work time out.
    assert world.limits == [60.0, 50.0]
    assert [outcome.status for outcome in outcomes] == ["passed", "timed out", "not run"]
    assert outcomes[2].note == "the budget of 110 s is spent"
    starved = run(
        World(seconds=1.0), [one, dataclasses.replace(two, reserve_seconds=9.0)], tmp_path / "x.json", budget=9.0
    )
    assert [outcome.note for outcome in starved] == ["the budget of 9 s is kept for parts that tell more", ""]


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

    options = ["--output", str(tmp_path / "out.json"), "--models", "a, b", "--counted", ""]
    options += ["--trained", "", "--sharded", "", "--timed", ""]
    assert main(options, runner=answer(0)) == 1, "the experiments have answered nothing"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "part",
        "environment",
        "experiments",
        "tests",
        "tests of instruments",
        "profile a",
        "profile b",
    ]
    assert main(options, runner=answer(1)) == 1
    assert main(options, runner=answer(3)) == 3
    out, err = capsys.readouterr()
    assert "there is no usable GPU" in out.splitlines()[-1]
    assert err.splitlines()[-1] == "error: no usable GPU: no JSON on its output"


def test_without_a_gpu_nothing_is_tried_and_the_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "out.json"), "--budget-seconds", "60"]) == 3
    assert "error: no usable GPU: device 'cuda' is not there" in capsys.readouterr().err
    kept = json.loads((tmp_path / "out.json").read_text())
    assert {part["status"] for part in kept["parts"]} == {"failed", "not run"}


def counted_record(*rows: dict[str, object]) -> Completed:
    return Completed(returncode=0, stdout=json.dumps({"results": [{"counters": {"rows": rows}}]}), stderr="")


def test_the_note_of_counters_says_what_they_did() -> None:
    good = {"verdict": "AGREES", "path": "a", "note": "", "tier": "ncu"}
    silent = {"verdict": None, "path": "b", "note": "small", "tier": "ncu"}
    missing = {"verdict": "UNMEASURED", "path": "", "note": "no permission; ask", "tier": "none"}
    assert judge_counters(counted_record(good, good, silent))[:2] == ("passed", "ncu: 2 AGREES, 1 no verdict")
    assert judge_counters(counted_record(missing))[:2] == ("failed", "none: 1 UNMEASURED; no permission; ask")
    assert judge_counters(counted_record())[:2] == ("failed", "no counters in its record")
    status, note, _ = judge_counters(Completed(returncode=3, stdout="", stderr="DeviceError: no room"))
    assert (status, note) == ("failed", "exit code 3: DeviceError: no room")


def test_the_note_of_a_profile_has_its_peaks() -> None:
    timings = [
        {"phase": "prefill", "attention": "fused", "predicted_peak_live_bytes": 100, "sensed_requested_bytes": 103},
        {"phase": "decode", "attention": "fused", "predicted_peak_live_bytes": 100, "sensed_requested_bytes": None},
    ]
    done = Completed(returncode=1, stdout=json.dumps({"results": [{"timings": timings}]}), stderr="")
    note = "exit code 1; its JSON is kept; peak sensed / predicted: prefill fused 1.0300"
    assert judge_profile(done)[:2] == ("failed", note)
    assert judge_profile(Completed(returncode=0, stdout='{"results": []}', stderr=""))[:2] == ("passed", "")
    for timing, ratio in zip(timings, (0.934, None), strict=True):
        timing["predicted"] = {"ratio": ratio}
    timed = Completed(returncode=0, stdout=json.dumps({"results": [{"timings": timings}]}), stderr="")
    assert judge_profile(timed)[1].endswith("; time predicted / measured: prefill fused 0.93")


def test_the_note_of_a_calibration_has_its_errors_and_what_was_not_timed() -> None:
    def told(**parts: object) -> Completed:
        return Completed(returncode=0, stdout=json.dumps({"results": [], **parts}), stderr="")

    served = [{"family": "served gemm", "dtype": "bf16", "median_error": 0.0512}]
    status, note, result = judge_calibration(told(served=served, notes=["all-reduce is not timed"], profile_text="x"))
    assert (status, note) == ("passed", "median errors: gemm bf16 5.1%; all-reduce is not timed")
    assert result["profile_text"] == "x"
    assert judge_calibration(told())[:2] == ("failed", "no served op was fitted")
    assert judge_calibration(Completed(returncode=3, stdout="", stderr="no GPU"))[0] == "failed"


def test_the_note_of_experiments_is_their_answers() -> None:
    def told(*answers: str) -> Completed:
        found = {"experiments": [{"name": f"e{number}", "answer": answer} for number, answer in enumerate(answers)]}
        return Completed(returncode=0, stdout=json.dumps(found), stderr="")

    assert judge_experiments(told("1.5x", "not measured"))[:2] == ("passed", "e0: 1.5x; e1: not measured")
    assert judge_experiments(told("not measured"))[0] == "failed"
    assert judge_experiments(Completed(returncode=3, stdout="", stderr="no GPU"))[:2] == (
        "failed",
        "exit code 3: no GPU",
    )
