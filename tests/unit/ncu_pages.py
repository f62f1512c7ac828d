"""Synthetic pages of Nsight Compute, and an ncu that is none: it answers as it is told and writes what it is given."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmprof.measure.counters.metrics import L2, SHARED, TIME
from llmprof.measure.counters.ranges import Place
from llmprof.measure.gpu_process import Completed

DATA = Path(__file__).resolve().parents[1] / "data"
FIRST, SECOND = DATA / "ncu-synthetic-first-run.csv", DATA / "ncu-synthetic-second-run.csv"
RANGES = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
UNITS = {TIME: "ns", "dram__bytes_read.sum": "byte", "dram__bytes_write.sum": "byte", L2: "byte", SHARED: "byte"}
TENSOR = "sm__ops_path_tensor_src_bf16_dst_fp32.sum"
VERSION = "NVIDIA (R) Nsight Compute Command Line Profiler\nVersion 2025.3.1.0 (build 36398880) (public-release)\n"


def cell(*names: str) -> str:
    """The cell of the ranges of a kernel, the outermost first."""
    return "77 " + "".join(f' "<default domain>:{name}:none:none:none:none:none:none" ' for name in names)


def page(kernels: Sequence[tuple[str, Sequence[str], Mapping[str, object]]], metrics: Sequence[str]) -> str:
    """A raw page with a row for each (kernel, ranges, counters)."""
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["ID", "Process ID", "Kernel Name", RANGES, *metrics])
    writer.writerow(["", "", "", "", *(UNITS.get(name, "") for name in metrics)])
    for number, (name, ranges, values) in enumerate(kernels):
        writer.writerow([number, 77, name, cell(*ranges), *(values.get(metric, "n/a") for metric in metrics)])
    return "==SYNTHETIC== no GPU made these figures\n" + stream.getvalue()


def leaf(path: str, phase: str = "decode", attention: str = "fused") -> Place:
    return Place(kind="leaf", phase=phase, attention=attention, path=path)


class FakeNcu:
    """Runs no process. Profiling writes `told` and an empty report; importing prints the pages, one after another."""

    def __init__(self, *pages: str, told: Mapping[str, object] | None = None, **answers: Completed | OSError) -> None:
        self.pages = list(pages)
        self.told = (
            {"kernels": {"decode/fused": {"layers.0.attn.core": "flash"}}, "refused": {}, "sweep_bytes": 1}
            if told is None
            else told
        )
        self.answers = answers
        self.commands: list[tuple[str, ...]] = []
        self.requests: list[str] = []

    def __call__(self, command: Sequence[str], limit: float) -> Completed:
        self.commands.append(tuple(command))
        kind = "version" if "--version" in command else "imported" if "--import" in command else "profiled"
        answer = self.answers.get(kind)
        if isinstance(answer, OSError):
            raise answer
        if kind == "profiled":
            self.requests.append(Path(command[command.index("--request") + 1]).read_text())
            if answer is None or answer.returncode == 0:
                Path(command[command.index("--result") + 1]).write_text(json.dumps(self.told))
                Path(command[command.index("--export") + 1]).touch()
        if answer is not None:
            return answer
        stdout = {"version": VERSION, "profiled": "==PROF== Connected\n"}.get(kind)
        return Completed(returncode=0, stdout=self.pages.pop(0) if stdout is None else stdout, stderr="")
