"""What the tests of plans share: models of the catalogue by name, and questions."""

from __future__ import annotations

from functools import cache

from llmprof import catalog
from llmprof.device import find
from llmprof.planning.ask import Ask
from llmprof.planning.demand import Demand
from llmprof.spec.arch import ArchSpec

TWO = (find("h200"), find("l4"))


@cache
def named(name: str) -> ArchSpec:
    (found,) = catalog.resolve([name], variant=None, all_variants=False)
    return found


def ask(prompt: int = 2048, output: int = 256, concurrency: int = 4, **more: object) -> Ask:
    demand = Demand(prompt_tokens=prompt, output_tokens=output, concurrency=concurrency)
    return Ask(demand=demand, **more)  # type: ignore[arg-type]
