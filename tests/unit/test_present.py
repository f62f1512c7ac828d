"""What is in a machine: by a fake NVML, by files like those of /proc, and by a fake sysctl."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmprof.measure.present import machine
from tests.unit.fake_nvml import Fake

GIB = 2**30


def processors(*threads: tuple[int, int]) -> str:
    """/proc/cpuinfo of threads, each (socket, core)."""
    return "\n".join(
        f"processor\t: {n}\nmodel name\t: Acme X 9\nphysical id\t: {socket}\ncore id\t\t: {core}\n"
        for n, (socket, core) in enumerate(threads)
    )


def proc(root: Path, cpuinfo: str | None, meminfo: str | None = "MemTotal:  16777216 kB\nMemFree: 1 kB\n") -> Path:
    (root / "proc").mkdir()
    for name, text in (("cpuinfo", cpuinfo), ("meminfo", meminfo)):
        if text is not None:
            (root / "proc" / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(sys, "platform", "linux")
    fake = Fake()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_every_gpu_of_nvml_and_the_cpu(nvml: Fake, tmp_path: Path) -> None:
    nvml.names["first"] = "NVIDIA H100 80GB HBM3"
    # 2 sockets of 2 cores of 2 threads
    threads = [(socket, core) for socket in (0, 1) for core in (0, 1) for _ in range(2)]
    here = machine(proc(tmp_path, processors(*threads)))
    first, second, cpu = here.devices
    assert here.notes == ()
    assert (first.kind, first.name, first.says) == ("gpu", "NVIDIA H100 80GB HBM3", "NVML, driver 575.57.08")
    assert first.called == ("NVIDIA-H100-80GB-HBM3",)
    assert first.fields == {
        "memory_total_bytes": 80 * 10**9,
        "memory_free_bytes": 79 * 10**9,
        "sm_clock_max_mhz": 1980,
        "memory_clock_max_mhz": 2620,
        "memory_bus_width_bits": 5120,
        "compute_capability": "9.0",
        "pcie_generation_max": 5,
        "pcie_width_max": 16,
        "nvlinks_active": 17,  # of 18, one is down
        "mig_enabled": False,
    }
    assert first.missing == {}
    assert (second.fields["mig_enabled"], second.fields["nvlinks_active"]) == (True, None)
    assert second.missing == {"nvlinks_active": "NVMLError: Not Supported"}
    assert (cpu.kind, cpu.name, cpu.called) == ("cpu", "Acme X 9", ("Acme-X-9",))
    assert cpu.fields == {"sockets": 2, "cores": 4, "memory_total_bytes": 16 * GIB}
    assert nvml.open == 0


def test_what_a_driver_does_not_say_is_missing_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Fake("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryBusWidth"))
    first = machine(proc(tmp_path, processors((0, 0)))).devices[0]
    lost = ("memory_total_bytes", "memory_free_bytes", "memory_bus_width_bits")
    assert first.missing == dict.fromkeys(lost, "NVMLError: Not Supported")
    assert all(first.fields[name] is None for name in lost)
    assert first.fields["sm_clock_max_mhz"] == 1980


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (None, "no NVIDIA GPU could be looked for: the package nvidia-ml-py is not installed"),
        (Fake("nvmlInit"), "no NVIDIA GPU could be looked for: NVMLError: Driver Not Loaded"),
    ],
)
def test_without_nvml_there_is_the_cpu_and_a_note(
    module: Fake | None, note: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    here = machine(proc(tmp_path, processors((0, 0))))
    assert [each.kind for each in here.devices] == ["cpu"]
    assert here.notes == (note,)


def test_a_driver_without_a_gpu_is_told(nvml: Fake, tmp_path: Path) -> None:
    nvml.links.clear()
    assert machine(proc(tmp_path, processors((0, 0)))).notes == ("NVML lists no NVIDIA GPU",)


def test_a_container_that_hides_the_topology_or_the_memory(nvml: Fake, tmp_path: Path) -> None:
    cpu = machine(proc(tmp_path, "processor : 0\nmodel name : Acme X 9\n", None)).devices[-1]
    assert cpu.fields == {"sockets": None, "cores": None, "memory_total_bytes": None}
    assert cpu.missing["cores"] == "/proc/cpuinfo has no physical id or core id"
    assert cpu.missing["memory_total_bytes"].startswith("FileNotFoundError: ")


@pytest.mark.parametrize(
    ("cpuinfo", "note"),
    [
        (None, "cpuinfo: No such file or directory"),
        ("processor : 0\nCPU part : 0xd40\n", "/proc/cpuinfo names no model of the CPU, as on ARM"),
        ("model name : A\n\nmodel name : B\n", "/proc/cpuinfo names several CPUs: A, B"),
    ],
)
def test_a_cpu_that_is_not_named_is_none(nvml: Fake, tmp_path: Path, cpuinfo: str | None, note: str) -> None:
    here = machine(proc(tmp_path, cpuinfo))
    assert [each.kind for each in here.devices] == ["gpu", "gpu"]
    assert here.notes[0].endswith(note)


# --- a Mac ------------------------------------------------------------------------------------------

SYSCTL = {
    "machdep.cpu.brand_string": "Apple M4 Max",
    "hw.memsize": f"{128 * GIB}",
    "hw.physicalcpu": "16",
    "hw.packages": "1",
}


def answer(answers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], **_: object) -> SimpleNamespace:
        if words[-1] not in answers:
            raise subprocess.CalledProcessError(1, words)
        return SimpleNamespace(stdout=f"{answers[words[-1]]}\n")

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)


def test_a_mac_is_called_by_its_chip_and_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(SYSCTL, monkeypatch)
    (mac,) = machine().devices
    assert (mac.name, mac.says, mac.called) == ("Apple M4 Max", "sysctl", ("Apple-M4-Max-128gb", "Apple-M4-Max"))
    assert mac.fields == {"sockets": 1, "cores": 16, "memory_total_bytes": 128 * GIB}


def test_a_mac_that_does_not_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    answer({}, monkeypatch)
    here = machine()
    assert here.devices == ()
    assert here.notes[-1].startswith("the CPU could not be looked for: sysctl: CalledProcessError")
