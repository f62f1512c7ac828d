"""`profile --counters`: the options, what they cannot mean, and how counters stand in a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from llmprof.cli import options
from llmprof.errors import DeviceError, InputError

if TYPE_CHECKING:
    from llmprof.profiling import Request, Result
    from llmprof.profiling.counter_rows import Caches, CounterRow
    from llmprof.profiling.counters import Question, Source

SOURCES = ("auto", "ncu", "cupti", "nvml", "none")
CACHES = ("cold", "warm")

CountersOption = Annotated[
    str,
    typer.Option(
        "--counters",
        metavar="WHICH",
        help="The GPU's own counters: ncu (Nsight Compute, kernel by kernel), cupti (module by module), nvml (the "
        "whole GPU), auto (the first of them that can be read; none without a GPU) or none.",
    ),
]
CachesOption = Annotated[
    str, typer.Option("--caches", metavar="LIST", help="State of the L2 cache when counters are read: cold, warm.")
]


def parse(counters: str, caches: str, device_spec: str | None, device: str) -> Question:
    """What the options ask. InputError names the option that is wrong; an option without effect is wrong.

    DeviceError where counters are asked for by name of a device that is said to be none of a GPU.
    """
    from llmprof.device import find
    from llmprof.profiling.counters import Question

    source = cast("Source", options.choice(counters, SOURCES, option="--counters"))
    states = tuple(cast("list[Caches]", options.choices(caches, CACHES, option="--caches")))
    if caches != "cold" and not reads(source, device):
        raise InputError(f"--caches has no effect: no counters are read (--counters {source}, {device})")
    if source == "nvml" and caches != "cold":
        raise InputError("--caches has no effect on --counters nvml: it runs a pass over and over, with warm caches")
    if source not in ("auto", "none"):
        refuse_without_gpu(source, device)
    if device_spec is not None:
        find(device_spec)
    return Question(source=source, caches=states, device_spec=device_spec)


def refuse_without_gpu(source: str, device: str) -> None:
    """DeviceError where `device` is no GPU by its name."""
    if _without_gpu(device):
        raise DeviceError(
            f"--counters {source} reads the counters of a CUDA device, and --device is {device}; use --device cuda, or "
            "--counters none"
        )


def reads(source: str, device: str) -> bool:
    """Whether counters of `source` are read on `device`, as far as its name says."""
    return source != "none" and not (source == "auto" and _without_gpu(device))


def _without_gpu(device: str) -> bool:
    return device.strip().lower() in ("cpu", "meta")


Run = Callable[["Request", "Result", Callable[[str], None]], None]


def counting(run: Run, question: Question, device: str) -> Run:
    """`run`, and then the counters of the same request; nothing more after an interruption.

    DeviceError where counters are asked for by name and `device` turns out to be no GPU.
    """
    if question.source == "none":
        return run
    if question.source != "auto":
        from llmprof.measure.device import resolve_device

        refuse_without_gpu(question.source, resolve_device(device).type)

    def both(request: Request, result: Result, progress: Callable[[str], None]) -> None:
        from llmprof.profiling.counters import count

        run(request, result, progress)
        if result.interrupted:
            return
        try:
            count(request, result, question, progress)
        except KeyboardInterrupt:
            result.interrupted = True
            result.notes.append("interrupted: the counters were not read")
        except (RuntimeError, OSError) as error:  # a GPU that fails here costs nothing that was measured before
            result.notes.append(f"the counters were not read: {error}")

    return both


def record(result: Result) -> dict[str, Any]:
    """What the record of a result has of its counters: nothing where none were read."""
    if result.counters is None:
        return {}
    return {
        "counters": {
            "outcome": result.counters.outcome,
            "notes": result.counters.notes,
            "rows": [row_record(row) for row in result.counters.rows],
        }
    }


def row_record(row: CounterRow) -> dict[str, Any]:
    """A row as the contract has it."""
    found = asdict(row)
    found["verdict"] = None if row.verdict is None else row.verdict.value
    found["kernels"] = list(row.kernels)
    return {**found, "ratio": row.ratio}


def csv_rows(result: Result) -> Iterator[dict[str, Any]]:
    """The rows in the columns of the rows of a result, those of the counters' own after them."""
    for row in () if result.counters is None else result.counters.rows:
        found = row_record(row)
        found["witness"] = f"{row.tier}, {row.caches} caches"
        found["verdict"] = found["verdict"] or "no verdict"
        yield found
