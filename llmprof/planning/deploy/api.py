"""The command lines of a deployment, one per engine: text, or the reason for which there is none."""

from __future__ import annotations

from typing import assert_never

from llmprof.planning.demand import Demand
from llmprof.planning.deploy import sglang, tensorrt_llm, vllm
from llmprof.planning.deploy.asked import Asked, asked, check_asked
from llmprof.planning.deploy.line import ENGINES, CommandLine, Engine, Refusal, Words
from llmprof.planning.deploy.shares import Shares, shares_of
from llmprof.planning.memory import Deployment
from llmprof.spec.arch import ArchSpec

VERSIONS: dict[Engine, str] = {
    "vllm": vllm.VERSION,
    "sglang": sglang.VERSION,
    "tensorrt-llm": tensorrt_llm.VERSION,
}


def command_lines(arch: ArchSpec, deployment: Deployment, demand: Demand) -> tuple[CommandLine, ...]:
    """How each engine would be started to serve `demand` as `deployment` says, in the order of `ENGINES`.

    What an engine does not have is `refused` with the reason. Raises InputError for a demand of nothing.
    """
    a = asked(arch, deployment, demand)
    shares = shares_of(a)
    return tuple(_line(engine, a, shares) for engine in ENGINES)


def _line(engine: Engine, a: Asked, shares: Shares | str) -> CommandLine:
    try:
        check_asked(a)
        words = _words(engine, a, shares)
    except Refusal as refusal:
        return CommandLine(engine=engine, version=VERSIONS[engine], text="", refused=f"{engine} {refusal}")
    return CommandLine(engine=engine, version=VERSIONS[engine], text=words.text, notes=tuple(words.notes))


def _words(engine: Engine, a: Asked, shares: Shares | str) -> Words:
    match engine:
        case "vllm":
            return vllm.words(a, shares)
        case "sglang":
            return sglang.words(a, shares)
        case "tensorrt-llm":
            return tensorrt_llm.words(a, shares)
    assert_never(engine)
