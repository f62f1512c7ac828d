"""Nsight Compute on this machine: where it is, its version, and the command lines that are given to it.

Options as documented in docs.nvidia.com/nsight-compute/NsightComputeCli, read 2026-11-30 (in a public copy).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmprof.measure.counters.ranges import OUTER
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_process import Completed

CommandRunner = Callable[[Sequence[str], float], Completed]
"""Runs a command for at most so many seconds."""

PLACES = ("usr/local/cuda*/bin/ncu", "opt/nvidia/nsight-compute/*/ncu", "usr/local/NVIDIA-Nsight-Compute*/ncu")
"""Where packages and installers put it on Linux, below the root of the file system."""
_WINDOWS = "Program Files/NVIDIA Corporation/Nsight Compute */ncu.bat"

INSTALL = (
    "install Nsight Compute (it is part of the CUDA toolkit, and developer.nvidia.com/nsight-compute has it alone) and "
    "put ncu on the PATH"
)
_VERSION_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """An ncu that answered: its path and its version, such as 2025.3.1."""

    path: str
    version: str


def find(environment: Mapping[str, str] | None = None, *, root: Path = Path("/")) -> str:
    """The path of ncu: on the PATH, below CUDA_HOME or CUDA_PATH, or the newest of the usual places.

    Raises Unavailable.
    """
    variables = os.environ if environment is None else environment
    on_path = shutil.which("ncu", path=variables.get("PATH", ""))
    if on_path is not None:
        return on_path
    for name in ("CUDA_HOME", "CUDA_PATH"):
        home = variables.get(name)
        if home and (found := Path(home) / "bin" / "ncu").is_file():
            return str(found)
    patterns = (_WINDOWS,) if sys.platform == "win32" else PLACES
    candidates = [path for pattern in patterns for path in root.glob(pattern) if path.is_file()]
    if not candidates:
        raise Unavailable("Nsight Compute (ncu) is not installed here", INSTALL)
    return str(max(candidates, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))]))


def ask_version(path: str, run: CommandRunner) -> Tool:
    """The tool at `path`, asked for its version. Raises Unavailable where it does not run."""
    try:
        completed = run((path, "--version"), _VERSION_SECONDS)
    except OSError as error:
        raise Unavailable(f"{path} cannot be run: {error}", INSTALL) from error
    match = re.search(r"Version (\d+(?:\.\d+)+)", completed.stdout + completed.stderr)
    if completed.returncode != 0 or match is None:
        raise Unavailable(f"{path} --version does not answer with a version", INSTALL)
    return Tool(path=path, version=match.group(1))


def profile_command(tool: Tool, metrics: Sequence[str], report: Path, target: Sequence[str]) -> tuple[str, ...]:
    """Run `target` and write the counters of every kernel below the range `OUTER` to `report`.

    Clocks are left alone, so that times are those of the machine as it runs, and so are caches: a kernel finds what the
    one before it left. A kernel that needs a second pass is run again by itself.
    """
    return (
        tool.path,
        *("--config-file", "off"),
        *("--clock-control", "none"),
        *("--cache-control", "none"),
        *("--replay-mode", "kernel"),
        *("--target-processes", "all"),
        "--nvtx",
        *("--nvtx-include", f"{OUTER}/"),
        *("--metrics", ",".join(metrics)),
        "--force-overwrite",
        *("--export", str(report)),
        *target,
    )


def import_command(tool: Tool, report: Path) -> tuple[str, ...]:
    """Print the kernels of `report` as the CSV that `report.parse` reads."""
    return (
        tool.path,
        *("--config-file", "off"),
        *("--import", str(report)),
        *("--page", "raw"),
        "--csv",
        *("--print-units", "base"),
    )
