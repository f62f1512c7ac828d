"""What starting and counting cost, as ratios: `python tests/benchmarks/startup.py`. Standard library only; not a test.

Three questions: the whole process of `llmprof count llama-2-70b` against one that only imports what every command line of
this kind imports; all specs of the catalogue counted in one process; and one deep model confirmed on the meta device.
Medians of interleaved runs. Byte code is written to a directory of its own, as an installed package has it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BASELINE = [sys.executable, "-c", "import typer, rich.table, yaml"]
COUNT = [sys.executable, "-m", "llmprof", "count", "llama-2-70b"]
COUNT_CONFIG = [sys.executable, "-m", "llmprof", "count", "specs/configs/llama-2-70b.json"]
CONFIRM = [sys.executable, "-m", "llmprof", "profile", "llama-2-70b", "--device", "meta"]
ALL_SPECS = """
import time
from llmprof.cli.options import parse_dtypes, parse_lengths
from llmprof.predict.record import count_record
from llmprof import catalog
start = time.perf_counter()
asked = parse_lengths(phase="prefill,decode", batch="1", context=None, new_tokens=None, source_tokens=None,
                      prefix_tokens=None, logits=None, dtypes=parse_dtypes("bf16", None, None, None))
bases = [count_record(arch, w) for entry in catalog.entries() for arch in [entry.load().base] for w in asked.workloads(arch)[0]]
base_s = time.perf_counter() - start
start = time.perf_counter()
every = [count_record(arch, w) for entry in catalog.entries() for arch in entry.load().archs() for w in asked.workloads(arch)[0]]
print(len(catalog.entries()), len(bases), base_s, len(every), time.perf_counter() - start)
"""
RUNS = 15


def once(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and peak MiB of one run; its output is thrown away."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * unit / 2**20


def main() -> None:
    """Measure and print; the bounds that are promised stand beside the figures."""
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        for command in (BASELINE, COUNT, COUNT_CONFIG):
            once(command, env)
        pairs = [(once(COUNT, env)[0], once(BASELINE, env)[0]) for _ in range(RUNS)]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(
            f"count llama-2-70b: {ours * 1e3:.0f} ms, imports alone {theirs * 1e3:.0f} ms, ratio {ratio:.2f} (at most 2.5)"
        )
        ratio = statistics.median(once(COUNT_CONFIG, env)[0] / once(COUNT, env)[0] for _ in range(RUNS))
        print(f"the same of its config.json: {ratio:.2f} of that")
        done = subprocess.run(
            [sys.executable, "-c", ALL_SPECS], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        specs, bases, base_s, every, every_s = done.stdout.split()
        print(f"all {specs} specs in one process: {bases} records in {float(base_s):.2f} s (under 2)")
        print(f"  with all their variants: {every} records in {float(every_s):.2f} s")
        once(CONFIRM, env)
        seconds, peak = once(CONFIRM, env)
        print(f"profile llama-2-70b --device meta: {seconds:.1f} s (under 20), {peak:.0f} MiB (under 2,000)")


if __name__ == "__main__":
    main()
