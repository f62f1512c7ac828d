"""How much of a request is kept decides how many have room: each scenario by its name, none of them in silence."""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.errors import InputError
from llmprof.planning.ask import Ask
from llmprof.planning.configuration import Configuration
from llmprof.planning.demand import SCENARIOS, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Requests of `tokens` tokens that a configuration has room for: the most at once with all that a pass needs, and
    how many the cache has room for, as vLLM counts them. None where any number has."""

    tokens: int
    largest_batch: int | None
    maximum_concurrency: float | None


def scenarios(c: Configuration, ask: Ask) -> dict[Scenario, Held]:
    """Every scenario that the architecture has: without a longest context there is no full one."""
    found: dict[Scenario, Held] = {}
    for name in SCENARIOS:
        try:
            tokens = ask.tokens(c.arch, name)
        except InputError:
            continue
        found[name] = Held(
            tokens=tokens,
            largest_batch=c.largest_batch_of(tokens),
            maximum_concurrency=c.maximum_concurrency_of(tokens),
        )
    return found
