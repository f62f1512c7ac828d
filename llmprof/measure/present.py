"""What is in this machine, as its drivers and its operating system say it, without torch.

GPUs are those of NVML, by way of nvidia-ml-py; the CPU is that of /proc, or of sysctl on a Mac. A field that cannot be
read is None, and `missing` says why. Boards of other vendors are not looked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmprof.measure.nvml import Value, session, why

GPU_FIELDS = (
    "memory_total_bytes",
    "memory_free_bytes",
    "sm_clock_max_mhz",
    "memory_clock_max_mhz",
    "memory_bus_width_bits",
    "compute_capability",
    "pcie_generation_max",
    "pcie_width_max",
    "nvlinks_active",
    "mig_enabled",
)
"""Every field of a GPU. With MIG they are those of the whole board."""

CPU_FIELDS = ("sockets", "cores", "memory_total_bytes")
"""Every field of a CPU; `cores` are physical ones of all sockets, as far as this process's system shows them."""

NVLINKS_MOST = 36
"""More links than any board has: NVLink 6 has 36 (stas00/ml-engineering, network/README.md, read 2026-11-30)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """One device of this machine. `called` are the names that the catalogue may know it by, most exact first."""

    kind: Literal["gpu", "cpu"]
    name: str
    says: str
    called: tuple[str, ...]
    fields: dict[str, Value]
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found, and why other things were not."""

    devices: tuple[Present, ...]
    notes: tuple[str, ...]


def machine(root: Path = Path("/")) -> Machine:
    """Every device of this machine, GPUs first; `root` is where its /proc is."""
    notes: list[str] = []
    found = [*_gpus(notes), *_cpu(root, notes)]
    return Machine(devices=tuple(found), notes=tuple(notes))


# --- NVML -----------------------------------------------------------------------------------------


def _gpus(notes: list[str]) -> list[Present]:
    try:
        with session() as nvml:
            says = f"NVML, driver {_text(nvml.nvmlSystemGetDriverVersion())}"
            found = [_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(n), says) for n in range(nvml.nvmlDeviceGetCount())]
    except Exception as error:
        notes.append(f"no NVIDIA GPU could be looked for: {why(error)}")
        return []
    if not found:
        notes.append("NVML lists no NVIDIA GPU")
    return found


def _gpu(nvml: Any, gpu: Any, says: str) -> Present:
    fields: dict[str, Value] = dict.fromkeys(GPU_FIELDS)
    missing: dict[str, str] = {}

    def fill(name: str, read: Callable[[], Value]) -> None:
        try:
            fields[name] = read()
        except Exception as error:
            missing[name] = why(error)

    fill("memory_total_bytes", lambda: int(nvml.nvmlDeviceGetMemoryInfo(gpu).total))
    fill("memory_free_bytes", lambda: int(nvml.nvmlDeviceGetMemoryInfo(gpu).free))
    fill("sm_clock_max_mhz", lambda: int(nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM)))
    fill("memory_clock_max_mhz", lambda: int(nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_MEM)))
    fill("memory_bus_width_bits", lambda: int(nvml.nvmlDeviceGetMemoryBusWidth(gpu)))
    fill("compute_capability", lambda: "{}.{}".format(*nvml.nvmlDeviceGetCudaComputeCapability(gpu)))
    fill("pcie_generation_max", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(gpu)))
    fill("pcie_width_max", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkWidth(gpu)))
    fill("nvlinks_active", lambda: _nvlinks(nvml, gpu))
    fill("mig_enabled", lambda: nvml.nvmlDeviceGetMigMode(gpu)[0] == nvml.NVML_DEVICE_MIG_ENABLE)
    name = _text(nvml.nvmlDeviceGetName(gpu))
    # A driver says "NVIDIA H100 80GB HBM3"; the catalogue's names have no spaces.
    return Present(kind="gpu", name=name, says=says, called=(name.replace(" ", "-"),), fields=fields, missing=missing)


def _nvlinks(nvml: Any, gpu: Any) -> int:
    """How many links are up. A board without any, or a number beyond its last, is an error of NVML's."""
    active = 0
    for link in range(NVLINKS_MOST):
        try:
            active += nvml.nvmlDeviceGetNvLinkState(gpu, link) == nvml.NVML_FEATURE_ENABLED
        except Exception:
            if link == 0:
                raise
            break
    return active


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


# --- the CPU --------------------------------------------------------------------------------------


def _cpu(root: Path, notes: list[str]) -> list[Present]:
    if sys.platform == "darwin":
        return _mac(notes)
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        notes.append(f"the CPU could not be looked for: {error.filename}: {error.strerror}")
        return []
    processors = [_processor(block) for block in text.split("\n\n") if block.strip()]
    names = list(dict.fromkeys(each["model name"] for each in processors if each.get("model name")))
    if len(names) != 1:
        notes.append(
            "/proc/cpuinfo names no model of the CPU, as on ARM"
            if not names
            else f"/proc/cpuinfo names several CPUs: {', '.join(names)}"
        )
        return []
    fields: dict[str, Value] = dict.fromkeys(CPU_FIELDS)
    missing: dict[str, str] = {}
    sockets = {each.get("physical id") for each in processors}
    cores = {(each.get("physical id"), each.get("core id")) for each in processors}
    if None in sockets or any(None in each for each in cores):
        missing.update(dict.fromkeys(("sockets", "cores"), "/proc/cpuinfo has no physical id or core id"))
    else:
        fields.update(sockets=len(sockets), cores=len(cores))
    try:
        fields["memory_total_bytes"] = _total(root / "proc/meminfo")
    except (OSError, LookupError) as error:
        missing["memory_total_bytes"] = f"{type(error).__name__}: {error}"
    called = (names[0].replace(" ", "-"),)
    return [Present(kind="cpu", name=names[0], says="/proc", called=called, fields=fields, missing=missing)]


def _processor(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _total(path: Path) -> int:
    """MemTotal, which the kernel says in KiB and calls kB (proc_meminfo(5))."""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == "MemTotal":
            return int(value.split()[0]) * 1024
    raise LookupError(f"{path} has no MemTotal")


def _mac(notes: list[str]) -> list[Present]:
    """The chip and its memory, which CPU and GPU share; the catalogue has a device for each size of it."""
    try:
        name, memory, cores, sockets = (
            _sysctl(key) for key in ("machdep.cpu.brand_string", "hw.memsize", "hw.physicalcpu", "hw.packages")
        )
        total = int(memory)
        fields: dict[str, Value] = {"sockets": int(sockets), "cores": int(cores), "memory_total_bytes": total}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        notes.append(f"the CPU could not be looked for: sysctl: {type(error).__name__}: {error}")
        return []
    words = name.replace(" ", "-")
    sized = (f"{words}-{total // 2**30}gb",) if total % 2**30 == 0 else ()
    return [Present(kind="cpu", name=name, says="sysctl", called=(*sized, words), fields=fields)]


def _sysctl(key: str) -> str:
    done = subprocess.run(
        ["/usr/sbin/sysctl", "-n", key],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.stdout.strip()
