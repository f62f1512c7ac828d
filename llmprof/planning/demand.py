"""What is asked of a deployment: how long requests are, how many are in flight, and which part of them is kept.

A request has `prompt_tokens` and answers `output_tokens`. How many tokens its cache must hold is a scenario, and is
always named: the prompt alone, prompt and answer, or the longest context that the model was made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from llmprof.errors import InputError
from llmprof.spec.arch import ArchSpec

Scenario = Literal["prompt", "prompt+output", "full-context"]

SCENARIOS: tuple[Scenario, ...] = ("prompt", "prompt+output", "full-context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Requests of equal length.

    `concurrency` is how many are in flight over all replicas together. `chunk_tokens` is how many tokens an engine
    computes in one pass at most, over all sequences of a replica (chunked prefill).
    """

    prompt_tokens: int
    output_tokens: int
    concurrency: int
    chunk_tokens: int = 8192

    def tokens_kept(self, arch: ArchSpec, scenario: Scenario) -> int:
        """Tokens that the cache of one request holds in `scenario`. InputError where the model states no context."""
        match scenario:
            case "prompt":
                return self.prompt_tokens
            case "prompt+output":
                return self.prompt_tokens + self.output_tokens
            case "full-context":
                if arch.max_context is None:
                    raise InputError(f"{arch.label} states no max_context: its full context is not known")
                return arch.max_context
        assert_never(scenario)
