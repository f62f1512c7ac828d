"""Hold one architecture against every witness in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmprof.conformance import module, published, transformers, twin
from llmprof.conformance.configs import ConfigFile
from llmprof.conformance.rows import Result
from llmprof.conformance.twin import UNFUSED
from llmprof.conformance.workloads import workloads
from llmprof.predict.api import predict
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An architecture and what else can testify of it.

    `config` is what transformers needs; `hf` whether transformers is asked at all. `factory` makes a user's module of
    the same architecture.
    """

    arch: ArchSpec
    config: ConfigFile | None = None
    hf: bool = True
    factory: Callable[[], object] | None = None


def verify(subject: Subject, result: Result, progress: Progress) -> None:
    """Fill `result`. KeyboardInterrupt is kept in `result.interrupted`, with the rows that there are.

    Raises InputError where the architecture cannot run the passes that it is verified on, or the factory fails.
    """
    try:
        on_paper(subject, result)
        _witnesses(subject, result, progress)
    except KeyboardInterrupt:
        result.interrupted = True


def on_paper(subject: Subject, result: Result) -> None:
    """What needs no torch: the prediction, the published figure, and what the config says."""
    arch, config = subject.arch, subject.config
    result.workloads = workloads(arch, None if config is None else config.values)
    result.predicted = figures(arch, result.workloads)
    result.rows.append(published.published_row(arch))
    if config is not None and not config.is_origin:
        result.rows.append(published.config_row(arch, config))


def _witnesses(subject: Subject, result: Result, progress: Progress) -> None:
    arch, asked = subject.arch, result.workloads
    progress(f"{arch.label}: the twin")
    twin.add_rows(result, asked)
    if subject.factory is not None:
        progress(f"{arch.label}: the module")
        module.add_rows(result, asked, subject.factory)
    if not subject.hf:
        return
    values = None if subject.config is None else subject.config.values
    against = transformers.reason_against()
    if against is not None or values is None:
        transformers.add_unmeasured(result, asked, against or transformers.NO_CONFIG)
        return
    progress(f"{arch.label}: transformers")
    transformers.add_rows(result, asked, values)


def figures(arch: ArchSpec, asked: Sequence[Workload]) -> dict[str, int]:
    """The figures that are verified, as predicted: parameters, and FLOPs and kept bytes by phase."""
    count = parameters(arch)
    found = {"params_total": count.total, "params_embedding": count.embedding}
    for workload in asked:
        prediction = predict(arch, workload, UNFUSED)
        found[f"matmul_flops {workload.phase}"] = prediction.cost.matmul_flops
        found[f"kv_cache_bytes {workload.phase}"] = prediction.kv_cache_bytes
        found[f"recurrent_state_bytes {workload.phase}"] = prediction.recurrent_state_bytes
    return found
