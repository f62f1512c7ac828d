"""Everything that needs a GPU, in one command: ``python -m llmprof.measure.gpu_session --output FILE.json``.

A GPU is often borrowed for minutes. So every part (`gpu_plan.py`) runs in a process of its own with its own time limit,
no part's failure ends the session, and the record is rewritten after each part: whoever stops the session, what was
measured stays.

Exit code: 0 every part passed, 1 some part did not, 3 there is no usable GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmprof.errors import DeviceError
from llmprof.measure.gpu_plan import (
    COUNTED,
    ENVIRONMENT,
    MODELS,
    PROFILE_SECONDS,
    SHARDED,
    TIMED,
    TRAINED,
    Part,
    Status,
    Verdict,
    judge_tests,
    plan,
)
from llmprof.measure.gpu_process import Completed, Runner, redact, run_python

BUDGET_SECONDS = 1140.0
"""A little less than twenty minutes. With 560 the parts that tell most fit into ten."""
_LEAST_SECONDS, _TAIL_CHARACTERS = 5.0, 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a part. `result` is its JSON; `output_tail` is the end of what it said besides."""

    name: str
    command: str
    status: Status
    returncode: int | None
    seconds: float
    note: str
    result: Any = None
    output_tail: str = ""


def run_session(
    parts: Sequence[Part],
    output: Path,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    runner: Runner | None = None,
    now: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run `parts` within the budget, saving the record to `output` after each; returns what became of them.

    Ctrl-C stops the part that runs, and the parts after it are recorded as not run.
    """
    started, outcomes, stopped = now(), list[Outcome](), ""
    execute = runner or run_python
    output.parent.mkdir(parents=True, exist_ok=True)  # before the GPU's time is spent, not after
    for index, part in enumerate(parts):
        begun = now()
        left = budget_seconds - (begun - started)
        first = part.name == ENVIRONMENT  # without it a record is worth nothing, and a GPU that is none is found out
        kept = 0.0 if first else sum(later.reserve_seconds for later in parts[index + 1 :])
        limit = min(part.limit_seconds, max(left - kept, 0.0))
        blocked = part.blocked or stopped
        if not blocked and limit < _LEAST_SECONDS:
            spent = "spent" if left < _LEAST_SECONDS else "kept for parts that tell more"
            blocked = f"the budget of {budget_seconds:g} s is {spent}"
        completed: Completed | None = None
        verdict: Verdict = ("not run", blocked, None)
        if not blocked:
            say(f"{part.name}: at most {limit:.0f} s")
            completed, verdict = _attempt(part, limit, execute)
        status, note, result = verdict
        if status == "interrupted":
            stopped = "the session was interrupted"
        elif first and completed is not None and completed.returncode == DeviceError.exit_code:
            stopped = "there is no usable GPU"
        outcomes.append(
            Outcome(
                name=part.name,
                command=redact(shlex.join(("python", *part.arguments))),
                status=status,
                returncode=completed.returncode if completed else None,
                seconds=round(now() - begun, 3),
                note=redact(note),  # why it could not be started may name a path
                result=result,
                output_tail=_tail(completed, parsed=part.judge is not judge_tests and result is not None),
            )
        )
        save(output, record(outcomes, planned=len(parts), seconds=now() - started, budget_seconds=budget_seconds))
    return outcomes


def _attempt(part: Part, limit: float, execute: Runner) -> tuple[Completed | None, Verdict]:
    try:
        completed = execute(part.arguments, limit)
    except KeyboardInterrupt:
        return None, ("interrupted", "stopped by the user", None)
    except Exception as error:  # nothing that a part does ends the session
        return None, ("failed", f"could not be started: {error or type(error).__name__}", None)
    completed = replace(completed, stdout=redact(completed.stdout), stderr=redact(completed.stderr))
    if completed.returncode is None:
        return completed, ("timed out", f"stopped after {limit:.0f} s", None)
    try:
        return completed, part.judge(completed)
    except Exception as error:  # nor does its odd record
        return completed, ("failed", f"its record is not understood: {type(error).__name__}: {error}", None)


def _tail(completed: Completed | None, *, parsed: bool) -> str:
    """The end of what a part said; what was parsed from its output need not be repeated."""
    if completed is None:
        return ""
    said = completed.stderr if parsed else completed.stdout + completed.stderr
    return said[-_TAIL_CHARACTERS:]


def record(outcomes: Sequence[Outcome], *, planned: int, seconds: float, budget_seconds: float) -> dict[str, Any]:
    """The session as one JSON object; the environment stands at the top, where a reader looks for it."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    environment = by_name[ENVIRONMENT].result if ENVIRONMENT in by_name else None
    return {
        "environment": environment,
        "budget_seconds": budget_seconds,
        "seconds": round(seconds, 3),
        "complete": len(outcomes) == planned and all(outcome.status == "passed" for outcome in outcomes),
        "parts": [asdict(outcome) for outcome in outcomes if outcome.name != ENVIRONMENT or environment is None],
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON so that `path` holds the old text or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # What is no character becomes its escape, which is what JSON writes for it.
        with draft.open("w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The lines of a short table: one part each."""
    width = max((len(outcome.name) for outcome in outcomes), default=4)
    yield f"{'part':<{width}}  {'status':<11}  {'seconds':>8}  note"
    for outcome in outcomes:
        yield f"{outcome.name:<{width}}  {outcome.status:<11}  {outcome.seconds:>8.1f}  {outcome.note}".rstrip()


def _check_output(path: Path) -> None:
    """Raise OSError where no record can be written to `path`: before the GPU's time is spent, not after."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within it, whoever ends the session (a limit of time, a closed terminal) does what Ctrl-C does.

    A part is in a process group of its own: it would go on without the session.
    """
    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # Windows lacks one; threads may set none
            before[name] = signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _seconds(text: str) -> float:
    """Seconds of a command line: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected seconds, such as 540")
    return value


def main(arguments: list[str] | None = None, *, runner: Runner | None = None) -> int:
    """Run what needs a GPU and write one JSON record of it."""
    parser = argparse.ArgumentParser(prog="python -m llmprof.measure.gpu_session", description=main.__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json", help="the record to write")
    parser.add_argument("--budget-seconds", type=_seconds, default=BUDGET_SECONDS, help="of the whole session")
    parser.add_argument("--profile-seconds", type=_seconds, default=PROFILE_SECONDS, help="at most, for one model")
    parser.add_argument(
        "--counted",
        default=",".join(COUNTED),
        help="comma list of specs whose counters are read, with options; may be empty",
    )
    parser.add_argument(
        "--trained",
        default=",".join(TRAINED),
        help="comma list of specs to train for a step, with options; may be empty",
    )
    parser.add_argument(
        "--sharded",
        default=",".join(SHARDED),
        help="comma list of specs to spread over all GPUs, with options; may be empty",
    )
    parser.add_argument(
        "--timed",
        default=",".join(TIMED),
        help="comma list of specs whose times are predicted after a calibration, with options; may be empty",
    )
    parser.add_argument(
        "--models", default=",".join(MODELS), help="comma list of specs to profile, each with its options; may be empty"
    )
    options = parser.parse_args(arguments)
    models, counted, trained, sharded, timed = (
        [model.strip() for model in text.split(",") if model.strip()]
        for text in (options.models, options.counted, options.trained, options.sharded, options.timed)
    )
    try:
        limit = options.profile_seconds
        parts = plan(models, counted=counted, trained=trained, sharded=sharded, timed=timed, profile_seconds=limit)
    except ValueError as error:
        parser.error(f"a model's options: {error}")
    try:
        _check_output(options.output)
    except OSError as error:
        parser.error(f"--output: {options.output} cannot be written: {error.strerror}")
    with _ended_by_signals():
        outcomes = run_session(
            parts,
            options.output,
            budget_seconds=options.budget_seconds,
            runner=runner,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    print("\n".join(table(outcomes)))
    if outcomes[0].returncode == DeviceError.exit_code:
        print(f"error: no usable GPU: {outcomes[0].note.partition(': ')[2] or outcomes[0].note}", file=sys.stderr)
        return DeviceError.exit_code
    return 0 if all(outcome.status == "passed" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
