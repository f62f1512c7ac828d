"""What a GPU session runs: its parts, the most telling first, each a process of its own with a judge of its output.

A machine may allow ten minutes or twenty; parts that the budget leaves no time for are recorded as not run.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from llmprof.measure.gpu_process import REPOSITORY, Completed

ENVIRONMENT = "environment"
"""The name of the part that says what it all was measured on."""

COUNTED = (
    "llama-2-7b --layers 2 --context 2048",
    "gpt2-medium --layers 2 --context 1024",
    "falcon-7b --layers 2 --context 2048",
    "llama-3-8b --layers 2 --context 4096",
    "bert-large-uncased --layers 2 --context 512 --batch 8",
)
"""Whose counters are read, prefill and decode, fused and unfused: head_dim 128 and 64, grouped heads of 1, 4 and 71."""
TRAINED = ("gpt2 --layers 2 --context 512 --batch 2",)
"""Whose training step is run: its peak, what it saves, its gradients and its optimiser."""
SHARDED = ("llama-3-8b --layers 2 --context 2048 --attention fused",)
"""What is spread over as many ranks as there are GPUs, each one rank of NCCL; with one GPU it is a group of one."""
TIMED = (
    "gpt2-medium --layers 4 --context 1024",
    "llama-3-8b --layers 4 --context 1024",
    "qwen3-8b --layers 4 --context 1024",
    "falcon-7b --layers 4 --context 1024",
)
"""Whose times are predicted from what `llmprof calibrate` has just fitted, one sequence and `MANY` at a time."""
MANY = 16
SLICES = (
    "deepseek-v2-lite --layers 2",
    "gpt-oss-20b --layers 2",
    "nemotron-h-8b --layers 3",
    "qwen3-next-80b-a3b --layers 2",
)
"""Latent attention, experts, sinks, mixers: a layer of each kind, which takes a GPU seconds; so they come first."""
MODELS = (*SLICES, "llama-2-7b", "falcon-7b", "chatglm2-6b", "t5-large", "bert-large-uncased")
"""Each a spec, and maybe options of ``llmprof profile``."""
PROFILE_SECONDS, COUNT_SECONDS, TESTS_SECONDS, ENVIRONMENT_SECONDS = 150.0, 180.0, 200.0, 60.0
EXPERIMENTS_SECONDS, CALIBRATE_SECONDS, TIMED_SECONDS = 240.0, 180.0, 120.0

Status = Literal["passed", "failed", "timed out", "not run", "interrupted"]
Verdict = tuple[Status, str, Any]  # status, note, and the result to record


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing to run. `blocked` says why it cannot run at all, and is empty where it can.

    `reserve_seconds` are kept back for it while the parts before it run.
    """

    name: str
    arguments: tuple[str, ...]
    limit_seconds: float
    judge: Callable[[Completed], Verdict]
    blocked: str = ""
    reserve_seconds: float = 0.0


def plan(
    models: Sequence[str],
    *,
    counted: Sequence[str] = COUNTED,
    trained: Sequence[str] = TRAINED,
    sharded: Sequence[str] = SHARDED,
    timed: Sequence[str] = TIMED,
    tests: Path = REPOSITORY / "tests" / "gpu",
    profile_seconds: float = PROFILE_SECONDS,
) -> list[Part]:
    """The parts of a session, in the order in which they run. ValueError for a model whose quotes are not closed."""
    environment = ("-m", "llmprof.measure.environment", "--device", "cuda")
    experiments = ("-m", "llmprof.measure.gpu_experiments")
    first = [_counters(model, "auto") for model in counted[:2]]
    more = [_counters(model, "auto") for model in counted[2:]]
    return [
        Part(name=ENVIRONMENT, arguments=environment, limit_seconds=ENVIRONMENT_SECONDS, judge=judge_json),
        *first,
        Part(
            name="experiments",
            arguments=experiments,
            limit_seconds=EXPERIMENTS_SECONDS,
            judge=judge_experiments,
            reserve_seconds=75.0,
        ),
        *more[:2],
        _tests("tests", tests, alone=False),
        *([_calibrate()] if timed else ()),
        *(_profile(f"predicted {model}", model, _TIMES, min(TIMED_SECONDS, profile_seconds)) for model in timed),
        *(_counters(model, source) for model in counted[:1] for source in _OTHERS),
        _tests("tests of instruments", tests, alone=True),
        *more[2:],
        *(_profile(f"training {model}", model, ("--phase", "train"), profile_seconds) for model in trained),
        *(
            _profile(f"ranks {model}", model, ("--tp", _ranks(), "--seconds", "5"), profile_seconds)
            for model in sharded
        ),
        *(_profile(f"profile {model}", model, (*_PASSES, "--counters", "none"), profile_seconds) for model in models),
    ]


_PASSES = ("--attention", "fused,unfused", "--phase", "prefill,decode")
_TIMES = (*_PASSES, "--batch", f"1,{MANY}", "--seconds", "2", "--no-referees", "--counters", "none")


INSTRUMENTS = ("calibrate", "check", "counters", "device", "memory", "time", "training_peak")
"""Files of tests (`test_gpu_NAME.py`) of what the whole GPU shows: they run one after the other. They take minutes, and
much of what they show the parts around them show too."""
TEST_PROCESSES = 4


def _tests(name: str, tests: Path, *, alone: bool) -> Part:
    """The tests of instruments, which run `alone`; or all others, some at a time where pytest-xdist is installed."""
    lacking = [module for module in ("pytest", "hypothesis") if importlib.util.find_spec(module) is None]
    blocked = f"{lacking[0]} is not installed" if lacking else ""
    if not blocked and not tests.is_dir():
        blocked = "there are no tests here: run from a checkout of the repository"
    command = ["-m", "pytest", str(tests), "-m", "gpu", "-q", "-rs", "-p", "no:cacheprovider"]
    files = [str(tests / f"test_gpu_{each}.py") for each in INSTRUMENTS]
    if alone:
        command[2:3] = files
    else:
        command += [f"--ignore={file}" for file in files]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", "0" if alone else f"{TEST_PROCESSES}"]
    return Part(
        name=name,
        arguments=tuple(command),
        limit_seconds=TESTS_SECONDS,
        judge=judge_tests,
        blocked=blocked,
        reserve_seconds=0.0 if alone else 75.0,
    )


def _calibrate() -> Part:
    """The constants of this GPU, which the profiles after it predict their times with."""
    blocked = "" if importlib.util.find_spec("scipy") is not None else "scipy is not installed"
    command = ("-m", "llmprof", "calibrate", "--device", "cuda", "--seconds", "60", "--format", "json")
    return Part(
        name="calibrate",
        arguments=command,
        limit_seconds=CALIBRATE_SECONDS,
        judge=judge_calibration,
        blocked=blocked,
        reserve_seconds=90.0,
    )


def _ranks() -> str:
    """The largest power of two of the GPUs that are there, which divides the heads of most models."""
    return str(1 << max(torch.cuda.device_count(), 1).bit_length() - 1)


def _profile(name: str, model: str, options: Sequence[str], limit: float) -> Part:
    command = ("-m", "llmprof", "profile", *shlex.split(model), "--device", "cuda", *options, "--format", "json")
    return Part(name=name, arguments=command, limit_seconds=limit, judge=judge_profile)


_OTHERS: tuple[Literal["cupti", "nvml"], ...] = ("nvml", "cupti")
"""Instruments that are held against the one that counted first."""


def _counters(model: str, source: Literal["auto", "cupti", "nvml"]) -> Part:
    """The counters of a model: its ops are counted in passing, and nothing is timed."""
    options = (*_PASSES, "--counters", source, "--seconds", "0", "--no-referees", "--format", "json")
    return Part(
        name=f"counters{'' if source == 'auto' else f' {source}'} {model}",
        arguments=("-m", "llmprof", "profile", *shlex.split(model), "--device", "cuda", *options),
        limit_seconds=COUNT_SECONDS,
        judge=judge_counters,
    )


def judge_json(completed: Completed) -> Verdict:
    """Passed with exit code 0 and JSON on stdout; JSON is kept whatever the exit code (1 is a DIFFERS).

    Numbers that JSON does not have (NaN, infinities) are null in what is kept.
    """
    try:
        result = json.loads(completed.stdout, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        last = (completed.stderr.strip().splitlines() or ["no JSON on its output"])[-1]
        return "failed", f"exit code {completed.returncode}: {last}", None
    if completed.returncode != 0:
        return "failed", f"exit code {completed.returncode}; its JSON is kept", result
    return "passed", "", result


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def judge_tests(completed: Completed) -> Verdict:
    """Passed where tests ran and none failed or was skipped: a skipped GPU test has proved nothing."""
    counts: dict[str, int] = {}
    lines = completed.stdout.strip().splitlines()
    for count, word in re.findall(
        r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b", lines[-1] if lines else ""
    ):
        counts[word.removesuffix("s") if word.startswith("error") else word] = int(count)
    note = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no test ran"
    good = completed.returncode == 0 and counts.get("passed", 0) > 0 and not counts.get("skipped")
    return "passed" if good else "failed", f"{note} (exit code {completed.returncode})", counts


def judge_counters(completed: Completed) -> Verdict:
    """As `judge_json`, failed where nothing was counted; the note says what counted, and how many rows got what."""
    status, note, result = judge_json(completed)
    found = [each.get("counters") or {} for each in result.get("results", ())] if isinstance(result, dict) else []
    rows = [row for each in found for row in each.get("rows", ())]
    if not rows:
        return "failed", note or "no counters in its record", result
    tally: dict[str, int] = {}
    for row in rows:
        verdict = row["verdict"] or "no verdict"
        tally[verdict] = tally.get(verdict, 0) + 1
    counts = ", ".join(f"{count} {verdict}" for verdict, count in tally.items())
    missing = next((row["note"] for row in rows if row["verdict"] == "UNMEASURED" and not row["path"]), "")
    tiers = ", ".join(dict.fromkeys(row["tier"] for row in rows))
    if all(row["verdict"] == "UNMEASURED" for row in rows):
        status = "failed"
    return status, "; ".join(filter(None, (f"{tiers}: {counts}", missing))), result


def judge_profile(completed: Completed) -> Verdict:
    """As `judge_json`; the note has the peak that the allocator sensed over the live bytes that are predicted.

    Where times were predicted as well, it has them over the measured ones: one workload after the other.
    """
    status, note, result = judge_json(completed)
    found = [each for one in result.get("results", ()) for each in one["timings"]] if isinstance(result, dict) else []
    times = [
        f"{each['phase']} {each['attention']} {each['predicted']['ratio']:.2f}"
        for each in found
        if (each.get("predicted") or {}).get("ratio")
    ]
    ratios = [
        f"{each['phase']} {each['attention']} {each['sensed_requested_bytes'] / each['predicted_peak_live_bytes']:.4f}"
        for each in found
        if each.get("sensed_requested_bytes") and each.get("predicted_peak_live_bytes")
    ]
    peaks = f"peak sensed / predicted: {', '.join(ratios)}" if ratios else ""
    timed = f"time predicted / measured: {', '.join(times)}" if times else ""
    return status, "; ".join(filter(None, (note, peaks, timed))), result


def judge_calibration(completed: Completed) -> Verdict:
    """As `judge_json`, failed where no served op was fitted; the note has the median errors where held out."""
    status, note, result = judge_json(completed)
    served = result.get("served", ()) if isinstance(result, dict) else ()
    errors = ", ".join(
        f"{each['family'].removeprefix('served ')} {each['dtype']} {each['median_error']:.1%}" for each in served
    )
    said = "; ".join(result.get("notes", ())) if isinstance(result, dict) else ""
    held = f"median errors: {errors}" if errors else "no served op was fitted"
    return status if errors else "failed", "; ".join(filter(None, (note, held, said))), result


def judge_experiments(completed: Completed) -> Verdict:
    """As `judge_json`, and the note has the answers."""
    status, note, result = judge_json(completed)
    if not isinstance(result, dict):
        return status, note, result
    answers = [f"{each['name']}: {each['answer']}" for each in result.get("experiments", ())]
    unanswered = all("not measured" in answer for answer in answers)
    return "failed" if unanswered else status, "; ".join(answers), result
