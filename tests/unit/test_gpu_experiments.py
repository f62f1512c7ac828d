"""The experiments without a GPU: their operations run on small tensors, their predictions by hand, their findings judged."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmprof.measure.counters.metrics import chip_of
from llmprof.measure.counters.ncu import CommandRunner
from llmprof.measure.counters.report import Kernel
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_experiments import __main__ as command
from llmprof.measure.gpu_experiments import cupti_target, target
from llmprof.measure.gpu_experiments.attention import LONG_HEAD, length, loads
from llmprof.measure.gpu_experiments.catalogue import EXPERIMENTS
from llmprof.measure.gpu_experiments.experiment import Finding, Gpu
from llmprof.measure.gpu_experiments.judge import by_place, counted, record
from llmprof.measure.gpu_experiments.memory import COPIES, SHARES, copy_again
from llmprof.measure.gpu_experiments.rows import CASTS, NORMS, SOFTMAX
from llmprof.measure.gpu_experiments.target import place
from llmprof.measure.gpu_experiments.without_counters import known_copy
from llmprof.measure.gpu_process import Completed

H100 = Gpu(name="an H100", capability=(9, 0), l2=50 * 2**20, multiprocessors=132, shared_per_multiprocessor=233472)
READ, WRITE = "dram__bytes_read.sum", "dram__bytes_write.sum"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_every_operation_runs_and_every_prediction_is_positive(experiment: object) -> None:
    for step in experiment.steps(H100):  # type: ignore[attr-defined]
        assert step.label
        assert all(value > 0 for name, value in step.predicted.items() if not step.again)
        operation = step.build(torch.device("meta"))
        if experiment is not LONG_HEAD:  # the flash kernel does not run on meta
            operation()


def test_names_are_apart_and_a_place_survives_its_range() -> None:
    assert len({each.name for each in EXPERIMENTS}) == len(EXPERIMENTS)
    for experiment in EXPERIMENTS:
        assert experiment.settles
        assert by_place([Kernel(name="k", place=place(experiment, 3), metrics={})])


def test_copies_by_hand() -> None:
    # 100 elements are 200 bytes a tensor. Both fit 400: nothing moves. Below it only the target stays, still dirty: the
    # source is read again.
    assert copy_again(100, 400) == 0
    assert copy_again(100, 399) == 200
    # A tensor that is larger than the cache moves its bytes every time.
    assert copy_again(100, 199) == 400
    assert COPIES.steps(H100)[0].predicted == {"dram_bytes": 0}
    assert COPIES.steps(H100)[-1].predicted["dram_bytes"] == 4 * H100.l2


def test_rows_by_hand() -> None:
    # 4 x 50 MiB of scores, read once and written once.
    assert {step.predicted["dram_bytes"] for step in SOFTMAX.steps(H100)} == {2 * 4 * 50 * 2**20}
    half, brain = CASTS.steps(H100)
    elements = 2 * 50 * 2**20
    assert (half.predicted["kernels"], half.predicted["dram_bytes"]) == (1, 6 * elements)
    assert (brain.predicted["kernels"], brain.predicted["dram_bytes"]) == (2, 14 * elements)
    assert NORMS.steps(H100)[0].predicted["kernels"] == 1


def test_the_long_head_by_hand() -> None:
    # 1.5 x 50 MiB of K and V at 512 bytes a position.
    assert length(H100) == math.ceil(75 * 2**20 / 512 / 128) * 128 == 153_600
    # 64 KiB a tile: 3 CTAs in 228 KiB, 396 in flight; 1,200 row tiles are 4 waves.
    assert loads(H100) == math.ceil(1200 / 396) == 4
    (step,) = LONG_HEAD.steps(H100)
    tensor = 153_600 * 256
    assert step.predicted == {"dram_bytes": 2 * tensor + 4 * 2 * tensor + 4 * 153_600}
    other = Gpu(name="other", capability=(8, 9), l2=72 * 2**20, multiprocessors=128, shared_per_multiprocessor=102400)
    assert LONG_HEAD.steps(other)[0].predicted == {}


def kernels(experiment: object, factor: float) -> list[Kernel]:
    found = []
    for number, step in enumerate(experiment.steps(H100)):  # type: ignore[attr-defined]
        moved = step.predicted["dram_bytes"] * factor
        here, drain = place(experiment, number), place(experiment, number, "drain")  # type: ignore[arg-type]
        found.append(Kernel(name="k", place=here, metrics={READ: moved * 0.5, WRITE: moved * 0.25}))
        found.append(Kernel(name="sweep", place=drain, metrics={READ: 10**9, WRITE: moved * 0.25}))
    return found


def test_what_was_counted_becomes_an_answer() -> None:
    found = counted(SOFTMAX, H100, chip_of((9, 0)), by_place(kernels(SOFTMAX, 1.5)))
    ratios = {each.ratio for each in found if each.quantity == "dram_bytes"}
    assert ratios == {1.5}
    assert {each.measured for each in found if each.quantity == "kernels"} == {1}
    told = json.loads(json.dumps(record(SOFTMAX, found, "ncu 1")))
    assert told["answer"].startswith("512 in a row: 1.50x, 1024 in a row: 1.50x")
    assert told["findings"][0]["kernels"] == ["k"]
    one = counted(NORMS, H100, chip_of((9, 0)), by_place(kernels(NORMS, 1.0)))
    assert NORMS.answer(one) == "kernels rms_norm: 1 (predicted 1); bytes rms_norm: 1.00x"
    head = counted(LONG_HEAD, H100, chip_of((9, 0)), by_place(kernels(LONG_HEAD, 1.0)))
    assert LONG_HEAD.answer(head).startswith("keys and values come from memory 4.00 times")


def test_what_was_not_counted_is_not_answered() -> None:
    for experiment in EXPERIMENTS:
        found = counted(experiment, H100, chip_of((9, 0)), {})
        assert {(each.measured, each.note) for each in found} == {(None, "no kernel of it was seen")}
        assert "not measured" in experiment.answer(found)
    lacking = [Kernel(name="k", place=place(NORMS, 0), metrics={READ: 1.0}, absent=(WRITE,))]
    (moved, launched) = counted(NORMS, H100, chip_of((9, 0)), by_place(lacking))
    assert (moved.measured, moved.note) == (None, "some kernel has no such counter")
    assert launched.measured == 1


def executing(answer: Completed) -> CommandRunner:
    def execute(command: Sequence[str], limit: float) -> Completed:
        assert "--metrics" in command
        return answer

    return execute


def test_without_ncu_cupti_counts_and_the_profiler_names_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Finding(label="rms_norm", quantity="kernels", predicted=1, measured=1, kernels=("norm",))
    monkeypatch.setattr(command, "launches", lambda experiment, gpu, device, reason: [seen])
    ranges = [[each.place.name, dict(each.metrics)] for each in kernels(NORMS, 1.25) if each.place is not None]
    answer = Completed(returncode=0, stdout=json.dumps({"ranges": ranges}), stderr="")
    (found,) = command.by_cupti([NORMS], H100, torch.device("cpu"), execute=executing(answer))
    assert (found["tier"], found["answer"]) == ("cupti", "kernels rms_norm: 1 (predicted 1); bytes rms_norm: 1.25x")
    assert [each["kernels"] for each in found["findings"]] == [[], ["norm"]]
    for failed, message in (
        (
            Completed(returncode=3, stdout='{"reason": "no permission", "remedy": "ask"}', stderr=""),
            "no permission; ask",
        ),
        (Completed(returncode=-11, stdout="", stderr=""), "run with CUPTI failed .exit code -11"),
    ):
        with pytest.raises(Unavailable, match=message):
            command.by_cupti([NORMS], H100, torch.device("cpu"), execute=executing(failed))


def test_a_record_is_made_by_the_first_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **rest: object) -> list[dict[str, Any]]:
        raise Unavailable("no", "ask")

    monkeypatch.setattr(command, "gpu_of", lambda device: H100)
    monkeypatch.setattr(command, "known_copy", lambda gpu, device: {"name": "gpm-copy"})
    monkeypatch.setattr(command, "environment", lambda device: {})
    monkeypatch.setattr(command, "by_ncu", refuse)
    monkeypatch.setattr(command, "by_cupti", lambda *given: [{"name": "x"}])
    assert command.run(["rms-norm"], torch.device("cpu"))["experiments"] == [{"name": "x"}, {"name": "gpm-copy"}]
    monkeypatch.setattr(command, "by_cupti", refuse)
    monkeypatch.setattr(command, "launches", lambda experiment, gpu, device, reason: [])
    (norm, _) = command.run(["rms-norm"], torch.device("cpu"))["experiments"]
    assert norm["tier"] == "none: no; ask. no; ask"


def test_a_step_counts_itself_in_two_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    done: list[str] = []
    sweep = SimpleNamespace(read=lambda: done.append("sweep"))
    for again, expected in (
        (False, ["op", "sweep", "push a", "op", "pop", "push b", "sweep", "pop"]),
        (True, ["op", "sweep", "op", "push a", "op", "pop"]),
    ):
        done.clear()
        counting = cupti_target.Counted(lambda: done.append("op"), sweep, again=again)  # type: ignore[arg-type]
        counting.names = ("a", "b")
        counting.run(lambda name: done.append(f"push {name}"), lambda: done.append("pop"))
        assert done == expected


def test_where_reuse_stops() -> None:
    def finding(share: float, measured: float) -> Finding:
        return Finding(label=f"{share:g} L2", quantity="dram_bytes", predicted=1, measured=round(measured))

    full = 10**6
    found = [
        finding(share, share * full if share >= 1.25 else share * full * (0.01 if share <= 0.75 else 0.5))
        for share in SHARES
    ]
    assert COPIES.answer(found) == (
        "a copy is found in the cache up to 0.75 of its size, and moves all its bytes from 1.25 on"
    )


def test_without_a_gpu_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == target.main(["--only", "rms-norm"]) == 3
    assert cupti_target.main(["--only", "rms-norm", "--metrics", "a"]) == 3
    assert capsys.readouterr().err.count("error: device 'cuda' is not there") == 3
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "nothing"])
    assert "expected some of l2-reuse" in capsys.readouterr().err


def test_a_known_copy_without_gpm_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="x"))
    small = Gpu(name="small", capability=(9, 0), l2=1024, multiprocessors=1, shared_per_multiprocessor=1)
    found = known_copy(small, torch.device("cpu"))
    assert found["predicted"] == 2 * 16 * 1024
    assert found["answer"].startswith("not measured: NVML does not answer")
