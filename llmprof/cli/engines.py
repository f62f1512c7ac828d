"""`--kv-engine`: which engine is meant, what may not be said beside it, and its keys of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

from llmprof.cli import options
from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.engines.api import Engine, EngineCache, VllmSetting
    from llmprof.report.count_tables import Record
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Workload

EngineOption = Annotated[
    str | None,
    typer.Option("--kv-engine", metavar="NAME", help="Also what an engine keeps: hf, vllm or llama.cpp."),
]
PageTokensOption = Annotated[
    str | None, typer.Option("--page-tokens", metavar="N", help="Tokens of a page of vLLM. Default: 16.")
]

KEYS = ("kv_engine", "kv_cache_bytes_engine", "recurrent_state_bytes_engine")
"""The keys that every record of `count` has; null without the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAsked:
    """An engine, and what is said to vLLM."""

    engine: Engine
    vllm: VllmSetting


def parse(
    kv_engine: str | None, page_tokens: str | None, tensor_parallel: str | None, *, training: bool
) -> EngineAsked | None:
    """The engine that was asked for, if any. InputError naming the option that is wrong or has no effect.

    `--tensor-parallel` without an engine is of the pass itself, or of a training step.
    """
    if kv_engine is not None:
        from llmprof.engines.api import ENGINES

        options.choice(kv_engine, ENGINES, option="--kv-engine")
        if training:
            raise InputError("--kv-engine has no effect on a training pass: nothing is cached")
    of_an_engine = None if kv_engine is None else tensor_parallel
    for given, option in ((page_tokens, "--page-tokens"), (of_an_engine, "--tensor-parallel")):
        if given is not None and kv_engine != "vllm":
            raise InputError(f"{option} is of vLLM's cache; add --kv-engine vllm, or leave it out")
    if kv_engine is None:
        return None
    from llmprof.engines.api import DEFAULT, VllmSetting

    setting = VllmSetting(
        page_tokens=_or(page_tokens, "--page-tokens", DEFAULT.page_tokens),
        tensor_parallel=_or(tensor_parallel, "--tensor-parallel", DEFAULT.tensor_parallel),
    )
    return EngineAsked(engine=cast("Engine", kv_engine), vllm=setting)


def _or(text: str | None, option: str, default: int) -> int:
    return default if text is None else options.length(text, option=option)


def add_engine(
    records: Sequence[Record], runs: Sequence[tuple[ArchSpec, Workload]], asked: EngineAsked | None
) -> list[EngineCache]:
    """Give every record its `KEYS`, and return what the engine keeps for each; nothing where none was asked for.

    InputError where the engine does not have what an architecture keeps, or where none of them keeps anything.
    """
    if asked is None:
        for record in records:
            record.update(dict.fromkeys(KEYS))
        return []
    from llmprof.engines.api import engine_cache

    try:
        caches = [engine_cache(arch, workload, asked.engine, asked.vllm) for arch, workload in runs]
    except InputError as error:
        of_option = "" if "--kv-engine" in str(error) else f"--kv-engine {asked.engine}: "
        raise InputError(f"{of_option}{error}") from None
    if caches and not any(cache.kv_cache_bytes or cache.recurrent_state_bytes for cache in caches):
        raise InputError(f"--kv-engine has no effect: {runs[0][0].label} keeps nothing between tokens; leave it out")
    for record, cache in zip(records, caches, strict=True):
        own = (record["kv_cache_bytes"], record["recurrent_state_bytes"])
        assert (cache.own_kv_bytes, cache.own_state_bytes) == own, "the engine's rules begin with another cache"
        figures = (cache.engine, cache.kv_cache_bytes, cache.recurrent_state_bytes)
        record.update(zip(KEYS, figures, strict=True))
        if cache.unconfirmed is not None:
            record["unconfirmed"].update(dict.fromkeys(KEYS[1:], cache.unconfirmed))
    return caches
