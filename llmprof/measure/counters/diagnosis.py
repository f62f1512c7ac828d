"""What went wrong in a run of Nsight Compute, told by its messages: a reason, and a remedy for each that is known.

The messages are those that ncu prints (``==ERROR== ...``), as public reports quote them; read 2026-11-30.
"""

from __future__ import annotations

import re

from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_process import Completed, redact

PERMISSION = (
    "run as root or with CAP_SYS_ADMIN (docker run --cap-add=SYS_ADMIN), or have the administrator load the driver "
    "with the option NVreg_RestrictProfilingToAdminUsers=0 (in /etc/modprobe.d, `options nvidia "
    "NVreg_RestrictProfilingToAdminUsers=0`, then reboot); see developer.nvidia.com/ERR_NVGPUCTRPERM"
)
_NEWER = "install a newer Nsight Compute"

_KNOWN = (
    (r"ERR_NVGPUCTRPERM", "this user may not read the GPU's performance counters (ERR_NVGPUCTRPERM)", PERMISSION),
    (
        r"driver resource was unavailable",
        "another tool holds the GPU's performance counters",
        "stop what collects them (DCGM: dcgmi profile --pause; or another profiler), and try again",
    ),
    (
        r"not supported on (?:this )?device|Cuda driver is not compatible|does not support (?:this|the) (?:device|GPU)"
        r"|unsupported GPU",
        "this Nsight Compute does not support this GPU or its driver",
        _NEWER,
    ),
    (
        r"Failed to find metric|[Uu]nknown metric|[Mm]etric \S+ (?:is )?not (?:found|supported|available)",
        "this Nsight Compute does not know a counter that was asked for",
        _NEWER,
    ),
    (
        r"unrecogni[sz]ed option|unknown option|[Ii]nvalid (?:value|option)",
        "this Nsight Compute does not know an option",
        _NEWER,
    ),
    (
        r"[Oo]ut of (?:device )?memory|OutOfMemoryError",
        "the memory of the GPU ran out",
        "use --layers N, a shorter --context or a smaller --batch",
    ),
)
_LINES = 3


def refuse_failure(completed: Completed, limit_seconds: float, what: str = "Nsight Compute") -> None:
    """Raise Unavailable where the run of `what` did not leave a result that can be trusted.

    A run that ends well may have said an error all the same, and one kernel without counters makes every sum wrong.
    """
    said = completed.stdout + "\n" + completed.stderr
    if completed.returncode is None:
        raise Unavailable(
            f"{what} was stopped after {completed.limit_seconds or limit_seconds:.0f} s",
            "use --layers N, a shorter --context, or allow more time",
        )
    errors = [line for line in said.splitlines() if line.startswith("==ERROR==")]
    if completed.returncode == 0 and not errors:
        if "No kernels were profiled" in said:
            raise Unavailable(f"{what} saw no kernel in the ranges of the pass", _report_it(said))
        return
    for pattern, reason, remedy in _KNOWN:
        if re.search(pattern, said):
            raise Unavailable(reason, remedy)
    failed = f"{what} reported an error" if errors else f"{what} failed"
    raise Unavailable(f"{failed} (exit code {completed.returncode})", _report_it(said))


def _report_it(said: str) -> str:
    """The last lines of what was said, without the paths of this machine."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("==PROF==")]
    last = " / ".join(lines[-_LINES:]) or "nothing"
    return f"it said: {redact(last)}"
