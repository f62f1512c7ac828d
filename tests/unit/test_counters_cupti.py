"""CUPTI without a GPU: its structures against a compiler, its calls against a library that is none."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ncu_pages import leaf
from twin_archs import decoder, layer

from llmprof.measure.counters import caches, cupti_collect, cupti_target
from llmprof.measure.counters.cupti_api import PARAMETERS, Cupti, load, size_of
from llmprof.measure.counters.cupti_ranges import MOST_PASSES, Ranges
from llmprof.measure.counters.metrics import L2, SHARED, TIME, chip_of
from llmprof.measure.counters.ranges import Place, place_of
from llmprof.measure.counters.request import Request
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_process import Completed
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.workload import Execution, Workload

COMPILED = {
    "ProfilerInitialize": 16,
    "DeviceGetChipName": 32,
    "ProfilerHostInitialize": 48,
    "ProfilerHostDeinitialize": 24,
    "ProfilerHostConfigAddMetrics": 40,
    "ProfilerHostGetConfigImageSize": 32,
    "ProfilerHostGetConfigImage": 40,
    "ProfilerHostGetNumOfPasses": 40,
    "ProfilerHostEvaluateToGpuValues": 72,
    "RangeProfilerEnable": 32,
    "RangeProfilerDisable": 24,
    "RangeProfilerGetCounterDataSize": 64,
    "RangeProfilerCounterDataImageInitialize": 40,
    "RangeProfilerSetConfig": 90,
    "RangeProfilerStart": 24,
    "RangeProfilerStop": 41,
    "RangeProfilerPushRange": 32,
    "RangeProfilerPopRange": 24,
    "RangeProfilerDecodeData": 32,
    "RangeProfilerGetCounterDataInfo": 40,
    "RangeProfilerCounterDataGetRangeInfo": 56,
    "ProfilerGetCounterAvailability": 40,
}
"""offsetof + sizeof of the last field that is used, by gcc 12 from the headers of nvidia-cuda-cupti 13.5.25, 64 bits."""

ARCH = decoder(layer(), max_context=64)
DECODE = Workload(phase="decode", batch=1, new_tokens=1, context=8)
REQUEST = Request(arch=ARCH, passes=((DECODE, Execution(attention="fused")),), device="cuda")
METRICS = ("a.sum", "b.sum")


def test_structures_are_laid_out_as_a_compiler_lays_them_out() -> None:
    assert {name: size_of(kind) for name, kind in PARAMETERS.items()} == COMPILED


class Library:
    """A CUPTI that counts pushes: range n of a pass has the values n and 10 n. `fails`: code by function."""

    def __init__(self, passes: int = 1, dropped: int = 0, lacks: str = "", **fails: int) -> None:
        self.passes, self.dropped, self.lacks, self.fails = passes, dropped, lacks, fails
        self.called: list[str] = []
        self.ranges: list[bytes] = []
        self.submitted = 0

    def __getattr__(self, name: str) -> Callable[[Any], int]:
        short = name.removeprefix("cupti")
        if short == self.lacks or short not in PARAMETERS:
            raise AttributeError(name)

        def function(reference: Any) -> int:
            parameters = reference._obj
            assert parameters.structSize == COMPILED[short]
            self.called.append(short)
            if short in self.fails:
                return self.fails[short]
            getattr(self, f"_{short}", lambda given: None)(parameters)
            return 0

        return function

    def _DeviceGetChipName(self, given: Any) -> None:
        assert given.deviceIndex == 1
        given.pChipName = b"GH100"

    def _ProfilerGetCounterAvailability(self, given: Any) -> None:
        assert given.ctx == 77
        given.size = 8

    def _ProfilerHostInitialize(self, given: Any) -> None:
        assert (given.pChipName, given.profilerType) == (b"GH100", 0)
        given.host = 5

    def _ProfilerHostConfigAddMetrics(self, given: Any) -> None:
        assert [given.names[index] for index in range(given.count)] == [b"a.sum", b"b.sum"]

    def _ProfilerHostGetConfigImageSize(self, given: Any) -> None:
        given.size = 16

    def _ProfilerHostGetNumOfPasses(self, given: Any) -> None:
        given.passes = self.passes

    def _RangeProfilerEnable(self, given: Any) -> None:
        given.profiler = 9

    def _RangeProfilerGetCounterDataSize(self, given: Any) -> None:
        assert (given.ranges, given.nodes) == (3, 4)
        given.size = 32

    def _RangeProfilerSetConfig(self, given: Any) -> None:
        assert (given.range, given.replay, given.maxRangesPerPass) == (2, 3, 3)
        assert (given.numNestingLevels, given.minNestingLevel, given.configSize, given.size) == (1, 1, 16, 32)

    def _RangeProfilerStart(self, given: Any) -> None:
        self.ranges = []

    def _RangeProfilerPushRange(self, given: Any) -> None:
        self.ranges.append(given.rangeName)

    def _RangeProfilerStop(self, given: Any) -> None:
        self.submitted += 1
        given.allPassesSubmitted = self.submitted == self.passes

    def _RangeProfilerDecodeData(self, given: Any) -> None:
        given.dropped = self.dropped

    def _RangeProfilerGetCounterDataInfo(self, given: Any) -> None:
        given.ranges = len(self.ranges)

    def _RangeProfilerCounterDataGetRangeInfo(self, given: Any) -> None:
        given.rangeName = self.ranges[given.range]

    def _ProfilerHostEvaluateToGpuValues(self, given: Any) -> None:
        for index in range(given.count):
            given.values[index] = (given.range + 1) * 10**index


def work(push: Callable[[str], object], pop: Callable[[], object]) -> None:
    for name in ("x", "y"):
        push(name)
        pop()


def ranges(library: Library) -> Ranges:
    return Ranges(Cupti(library), 77, 1, METRICS, 3)


@pytest.mark.parametrize("passes", [1, 2])
def test_ranges_are_counted_once_for_every_pass(passes: int) -> None:
    library = Library(passes=passes)
    with ranges(library) as found:
        assert found.passes == passes
        assert found.count(work) == {"x": {"a.sum": 1, "b.sum": 10}, "y": {"a.sum": 2, "b.sum": 20}}
    assert library.called.count("RangeProfilerStart") == passes
    assert library.called[-2:] == ["RangeProfilerDisable", "ProfilerHostDeinitialize"]
    assert library.called.index("RangeProfilerSetConfig") < library.called.index("RangeProfilerStart")


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (Library(RangeProfilerEnable=35), r"may not read .*INSUFFICIENT_PRIVILEGES.*NVreg_RestrictProfiling"),
        (Library(RangeProfilerEnable=40), "virtual GPU"),
        (Library(RangeProfilerStart=26), "another tool holds"),
        (Library(ProfilerHostInitialize=27), "does not support this GPU"),
        (Library(ProfilerHostConfigAddMetrics=1), "cuptiProfilerHostConfigAddMetrics failed with code 1"),
        (Library(lacks="RangeProfilerEnable"), r"older than CUDA 12\.6"),
        (Library(dropped=2), "dropped 2 ranges"),
        (Library(passes=MOST_PASSES + 1), "more than 16 passes"),
    ],
)
def test_every_failure_has_a_reason_and_gives_the_counters_back(library: Library, message: str) -> None:
    with pytest.raises(Unavailable, match=message), ranges(library) as found:
        found.count(work)
    if "ProfilerHostInitialize" not in library.fails:
        assert library.called[-1] == "ProfilerHostDeinitialize"


def test_a_library_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(
        Unavailable, match=r"CUPTI cannot be loaded \(libcupti\.so\.13.*install a build of torch for CUDA"
    ):
        load()


def test_a_pass_is_the_same_whenever_it_runs_and_its_names_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    monkeypatch.setattr(caches, "last_level_cache_bytes", lambda device: 1024)
    twin = build(ARCH, dtypes=DECODE.dtypes, device="cpu")
    session = Session(twin, DECODE, Execution(attention="unfused", kernels="cpu"))
    counted = cupti_target._Counted(session, caches.Sweep(torch.device("cpu")), cold=True)
    first: list[str] = []
    second: list[str] = []
    open_ranges: list[str] = []
    for seen in (first, second):

        def push(name: str, seen: list[str] = seen) -> None:
            assert not open_ranges
            open_ranges.append(name)
            seen.append(name)

        counted.run(push, open_ranges.pop)
    assert first == second
    assert counted.ranges() == len(set(first)) == len(list(twin.leaves)) + 1
    places = [place_of(name) for name in first]
    assert places[-1] == Place(kind="drain", phase="decode", attention="unfused")
    assert leaf("layers.0.attn.core", "decode", "unfused") in places


class Runner:
    """A process that is none: it answers each run in its turn."""

    def __init__(self, *answers: dict[str, Any] | Completed) -> None:
        self.answers = list(answers)
        self.metrics: list[str] = []

    def __call__(self, command: Sequence[str], limit: float) -> Completed:
        self.metrics.append(command[command.index("--metrics") + 1])
        answer = self.answers.pop(0)
        if isinstance(answer, Completed):
            return answer
        Path(command[command.index("--result") + 1]).write_text(json.dumps(answer))
        return Completed(returncode=3 if "reason" in answer else 0, stdout="", stderr="")


def told(*places: tuple[str, dict[str, float]]) -> dict[str, Any]:
    return {"kernels": {"decode/fused": {"layers.0.attn.core": "flash"}}, "refused": {}, "places": places}


def test_two_runs_are_added_up_by_place() -> None:
    name = leaf("embed").name
    runner = Runner(
        told((f"{name}1", {TIME: 5.0, L2: 1.0}), (f"{name}2", {TIME: 6.0, L2: 2.0})), told((f"{name}1", {SHARED: 7.0}))
    )
    found = cupti_collect.collect(REQUEST, chip_of((9, 0)), run=runner)
    first, second = found.places[leaf("embed")]
    assert (first.sums, second.sums) == ({TIME: 11.0, L2: 3.0}, {SHARED: 7.0})
    assert (first.kernels, found.tool.version) == ([], "CUPTI")
    assert runner.metrics[0].startswith(TIME)
    assert runner.metrics[1].startswith(SHARED)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"reason": "no permission", "remedy": "ask"}, "no permission; ask"),
        (
            Completed(returncode=-11, stdout="", stderr="Segmentation fault"),
            r"the run with CUPTI failed .exit code -11",
        ),
        (Completed(returncode=None, stdout="", stderr=""), "the run with CUPTI was stopped after 300 s"),
        (Completed(returncode=0, stdout="", stderr=""), "ended without a result"),
        (told(("someone else", {})), "a range that nobody made"),
    ],
)
def test_a_process_that_fails_is_a_reason(answer: dict[str, Any] | Completed, message: str) -> None:
    with pytest.raises(Unavailable, match=message):
        cupti_collect.collect(REQUEST, chip_of((9, 0)), run=Runner(answer, answer))


def test_the_process_says_why_it_cannot_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "request.json").write_text(REQUEST.to_json())
    files = ["--request", str(tmp_path / "request.json"), "--result", str(tmp_path / "result.json"), "--metrics", "a,b"]

    def refuse(request: Request, metrics: tuple[str, ...]) -> dict[str, Any]:
        assert (request, metrics) == (REQUEST, ("a", "b"))
        raise Unavailable("no permission", "ask")

    assert cupti_target.main(files, count=refuse) == 3
    assert json.loads((tmp_path / "result.json").read_text()) == {"reason": "no permission", "remedy": "ask"}
    assert cupti_target.main(files) == 3
    assert "error: device 'cuda' is not there" in capsys.readouterr().err
