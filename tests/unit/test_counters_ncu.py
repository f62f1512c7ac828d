"""Nsight Compute as a process: where it is found, what it is asked, and every way in which it can fail. No GPU."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ncu_pages import TENSOR, FakeNcu, leaf, page
from twin_archs import decoder, layer

from llmprof.errors import DeviceError
from llmprof.measure.counters import cupti_collect, ncu, target
from llmprof.measure.counters.collect import Collected, collect
from llmprof.measure.counters.metrics import L2, SHARED, TIME, chip_of
from llmprof.measure.counters.request import Request, from_json
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_process import Completed
from llmprof.routing import Routing
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.workload import Dtypes, Execution, Workload

FIRST = (TIME, "dram__bytes_read.sum", "dram__bytes_write.sum", L2, TENSOR)
ARCH = decoder(layer(), max_context=64)
DECODE = Workload(phase="decode", batch=1, new_tokens=1, context=8, routing=Routing("random", 3))
REQUEST = Request(arch=ARCH, passes=((DECODE, Execution(attention="fused")),), device="cuda")
RANGES = ["llmprof", "llmprof|pass|decode|fused||"]


def pages(second_kernel: str = "flash") -> tuple[str, str]:
    core, head = [*RANGES, leaf("layers.0.attn.core").name], [*RANGES, leaf("lm_head").name]
    one = page(
        [
            ("flash", core, dict.fromkeys(FIRST, "1,000")),
            ("combine", core, {**dict.fromkeys(FIRST, "24"), TENSOR: "n/a"}),
            ("gemm", head, dict.fromkeys(FIRST, "7")),
            ("elsewhere", [], dict.fromkeys(FIRST, "9")),
        ],
        FIRST,
    )
    two = page(
        [(second_kernel, core, {SHARED: "5"}), ("combine", core, {SHARED: "6"}), ("gemm", head, {SHARED: "1"})],
        [SHARED],
    )
    return one, two


def run(fake: FakeNcu) -> Collected:
    return collect(REQUEST, chip_of((9, 0)), run=fake, find=lambda: "/opt/ncu", limit_seconds=9.0)


@pytest.fixture(autouse=True)
def without_the_vendor_s_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncu_report", None)


def test_two_runs_are_added_up_by_place() -> None:
    fake = FakeNcu(*pages())
    found = run(fake)
    core = found.places[leaf("layers.0.attn.core")]
    assert core[0].kernels == core[1].kernels == ["flash", "combine"]
    assert core[0].sums["dram__bytes_read.sum"] == 1024
    assert (core[0].absent, core[0].sums[TENSOR]) == ({TENSOR}, 1000)
    assert core[1].sums == {SHARED: 11}
    assert found.places[leaf("lm_head")][0].sums[L2] == 7
    assert len(found.places) == 2, "a kernel outside of the ranges is nobody's"
    assert (found.tool.version, found.kernels) == ("2025.3.1.0", {"decode/fused": {"layers.0.attn.core": "flash"}})


def test_what_ncu_is_asked() -> None:
    fake = FakeNcu(*pages())
    run(fake)
    version, first, imported, second, _ = fake.commands
    assert version == ("/opt/ncu", "--version")
    text = " ".join(first)
    for words in (
        "--clock-control none",
        "--cache-control none",
        "--replay-mode kernel",
        "--nvtx --nvtx-include llmprof/ ",
        "--metrics " + ",".join(FIRST) + " ",
        f"{sys.executable} -m llmprof.measure.counters.target --request ",
    ):
        assert words in text
    assert "--page raw --csv --print-units base" in " ".join(imported)
    assert SHARED in " ".join(second)
    assert fake.requests[0] == fake.requests[1]
    assert from_json(fake.requests[0]) == REQUEST
    report = Path(first[first.index("--export") + 1])
    assert not report.parent.exists(), "nothing is left behind"


def test_a_request_crosses_whole() -> None:
    rich = Workload(phase="prefill", batch=2, new_tokens=3, context=5, logits="last", dtypes=Dtypes(weights="int4"))
    many = Request(
        arch=ARCH,
        passes=((rich, Execution(attention="unfused")), (DECODE, Execution(attention="fused"))),
        device="cuda:1",
        temperature="warm",
        seed=7,
    )
    assert from_json(many.to_json()) == many


def test_other_kernels_in_the_second_run_are_refused() -> None:
    with pytest.raises(Unavailable, match=r"other kernels in layers\.0\.attn\.core: flash, combine and other, combine"):
        run(FakeNcu(*pages(second_kernel="other")))


def test_passes_that_the_twin_refuses_are_no_failure() -> None:
    told = {"kernels": {}, "refused": {"decode/fused": "no kernel"}}
    said = Completed(returncode=0, stdout="==WARNING== No kernels were profiled.", stderr="")
    found = run(FakeNcu(told=told, profiled=said))
    assert (found.places, found.refused) == ({}, {"decode/fused": "no kernel"})


def failed(text: str, code: int | None = 1) -> Completed:
    return Completed(returncode=code, stdout=text, stderr="")


@pytest.mark.parametrize(
    ("answer", "reason", "remedy"),
    [
        (
            failed("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance"),
            "may not read",
            "NVreg_RestrictProfilingToAdminUsers=0",
        ),
        (
            failed("==ERROR== Profiling failed because a driver resource was unavailable.", 0),
            "another tool holds",
            "dcgmi profile --pause",
        ),
        (failed("==ERROR== Profiling is not supported on device 0."), "does not support this GPU", "newer"),
        (failed("==ERROR== Failed to find metric lts__t_bytes.sum"), "does not know a counter", "newer"),
        (failed("==ERROR== unrecognised option '--config-file'"), "does not know an option", "newer"),
        (failed("torch.OutOfMemoryError: CUDA out of memory."), "memory of the GPU ran out", "--layers"),
        (failed("half", None), "stopped after 9 s", "--layers N"),
        (failed("==WARNING== No kernels were profiled.", 0), "saw no kernel", "it said"),
        (failed("a\nSegmentation fault", -11), "failed (exit code -11)", "it said: a / Segmentation fault"),
        (failed("==ERROR== something new", 0), "reported an error (exit code 0)", "something new"),
        (OSError(13, "Permission denied"), "cannot be run: Permission denied", "install Nsight Compute"),
    ],
)
def test_every_failure_has_a_reason_and_a_remedy(answer: Completed | OSError, reason: str, remedy: str) -> None:
    with pytest.raises(Unavailable) as caught:
        run(FakeNcu(*pages(), profiled=answer))
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy
    assert str(caught.value) == f"{caught.value.reason}; {caught.value.remedy}"


@pytest.mark.parametrize("half", ['{"kernels": {', "", "[]"])
def test_an_answer_that_was_cut_off_is_none(half: str) -> None:
    """Whoever is stopped for time may be writing just then."""

    def run_half(command: Sequence[str], limit: float) -> Completed:
        completed = fake(command, limit)
        if "--result" in command:
            Path(command[command.index("--result") + 1]).write_text(half, encoding="utf-8")
        return completed

    for answer, reason in ((failed("half", None), "stopped after 9 s"), (None, "without saying what it ran")):
        fake = FakeNcu(*pages(), **({} if answer is None else {"profiled": answer}))
        with pytest.raises(Unavailable, match=reason):
            collect(REQUEST, chip_of((9, 0)), run=run_half, find=lambda: "/opt/ncu", limit_seconds=9.0)
    for answer, reason in ((failed("half", None), "was stopped after 9 s"), (failed("", 0), "ended without a result")):
        with pytest.raises(Unavailable, match=reason):
            cupti_collect.collect(REQUEST, chip_of((9, 0)), run=run_cupti(half, answer), limit_seconds=9.0)


def run_cupti(half: str, answer: Completed) -> ncu.CommandRunner:
    """A run with CUPTI that leaves `half` of its result."""

    def run_half(command: Sequence[str], limit: float) -> Completed:
        Path(command[command.index("--result") + 1]).write_text(half, encoding="utf-8")
        return answer

    return run_half


def test_an_ncu_without_a_version_and_a_report_that_is_not_understood() -> None:
    with pytest.raises(Unavailable, match="does not answer with a version"):
        run(FakeNcu(version=failed("what?", 0)))
    with pytest.raises(Unavailable, match="/opt/ncu cannot be run"):
        run(FakeNcu(version=OSError(8, "Exec format error")))
    with pytest.raises(Unavailable, match=r"report of Nsight Compute 2025\.3\.1\.0 is not understood: .*1\.2\.3"):
        run(FakeNcu(pages()[0].replace('"1,000"', '"1.2.3"', 1)))
    with pytest.raises(Unavailable, match="may not read"):
        run(FakeNcu(imported=failed("==ERROR== ERR_NVGPUCTRPERM")))


def test_ncu_is_found_on_the_path_then_at_home_then_the_newest(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"\(ncu\) is not installed here; install Nsight Compute"):
        ncu.find({"PATH": ""}, root=tmp_path)
    for place in ("usr/local/cuda-12.4/bin/ncu", "opt/nvidia/nsight-compute/2024.3.2/ncu", "path/ncu", "home/bin/ncu"):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.touch(mode=0o755)
    newest = ncu.find({"PATH": ""}, root=tmp_path)
    assert newest.endswith("2024.3.2/ncu")
    assert ncu.find({"PATH": "", "CUDA_HOME": str(tmp_path / "home")}, root=tmp_path).endswith("home/bin/ncu")
    assert ncu.find({"PATH": str(tmp_path / "path"), "CUDA_HOME": str(tmp_path / "home")}).endswith("path/ncu")


def test_every_leaf_that_runs_has_its_range_and_no_leaf_lies_in_another() -> None:
    twin = build(ARCH, dtypes=DECODE.dtypes, device="cpu")
    session = Session(twin, DECODE, Execution(attention="unfused", kernels="cpu"))
    stack: list[str] = []
    seen: list[str] = []

    def push(name: str) -> None:
        assert not stack
        stack.append(name)
        seen.append(name)

    with target.ranged(twin, "decode", "unfused", push, stack.pop):
        session.run()
    assert not stack
    assert leaf("layers.0.attn.core", "decode", "unfused").name in seen
    assert {name.split("|")[4] for name in seen} == {path for path, _ in twin.leaves}
    session.run()
    assert len(seen) == len(list(twin.leaves)), "the hooks are gone"


def test_the_target_refuses_a_device_without_counters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = Request(arch=ARCH, passes=REQUEST.passes, device="cpu")
    with pytest.raises(DeviceError, match="hardware counters are those of a CUDA device, and cpu is cpu"):
        target.run(request)
    (tmp_path / "request.json").write_text(request.to_json())
    files = ["--request", str(tmp_path / "request.json"), "--result", str(tmp_path / "result.json")]
    assert target.main(files) == 3
    assert capsys.readouterr().err.startswith("error: hardware counters")
    assert os.listdir(tmp_path) == ["request.json"]
    (tmp_path / "request.json").write_text(json.dumps({**json.loads(request.to_json()), "device": "tpu"}))
    assert target.main(files) == 2
