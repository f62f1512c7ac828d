"""The same kernels out of a report file, through NVIDIA's module `ncu_report` where it is installed.

The module comes with Nsight Compute and as the package ncu-report, whose version has to fit that of ncu. Its interface
(`load_report`, ranges of actions, `metric_by_name`, `nvtx_state`) as in ncu-report 2025.3.1; tried on a report that
NVIDIA published (manual_nvtx.ncu-rep of github.com/NVIDIA/nsight-training), 2026-11-30.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmprof.measure.counters.ranges import place_of
from llmprof.measure.counters.report import Kernel, ReportError, factor, is_counter


def load(path: Path, names: tuple[str, ...]) -> tuple[Kernel, ...] | None:
    """The kernels of a report file with the counters `names`; None where `ncu_report` is not installed.

    Raises ReportError where the module cannot read the file.
    """
    try:
        module: Any = importlib.import_module("ncu_report")
    except ImportError:
        return None
    try:
        context = module.load_report(str(path))
        actions = [
            context.range_by_idx(r).action_by_idx(a)
            for r in range(context.num_ranges())
            for a in range(context.range_by_idx(r).num_actions())
        ]
        return tuple(_kernel(module, action, names) for action in actions)
    except ReportError:
        raise
    except Exception as error:  # the module raises whatever its library does
        raise ReportError(f"ncu_report cannot read the report: {type(error).__name__}: {error}") from error


def _kernel(module: Any, action: Any, names: tuple[str, ...]) -> Kernel:
    name = str(action.name(module.IAction.NameBase_DEMANGLED))
    metrics: dict[str, float] = {}
    for counter in action.metric_names():
        if is_counter(counter) and (metric := action.metric_by_name(counter)) is not None and metric.has_value():
            metrics[str(counter)] = float(metric.as_double()) * factor(counter, str(metric.unit() or ""))
    absent = [counter for counter in names if counter not in metrics]
    try:
        place = place_of(" ".join(_ranges(action)))
    except ValueError as error:
        raise ReportError(f"kernel {name!r}: {error}") from error
    return Kernel(name=name, place=place, metrics=metrics, absent=tuple(absent))


def _ranges(action: Any) -> Iterator[str]:
    state = action.nvtx_state()
    if state is not None:
        for number in state.domains():
            yield from (str(name) for name in state.domain_by_id(number).push_pop_ranges())
