"""Which sequences an engine puts into its next pass: the four ways that engines have, as their documentation says.

``static``: a batch is taken in, answered to the end, and then the next one. ``continuous``: whole prompts join the
tokens of the running sequences in one pass (TensorRT-LLM's in-flight batching without chunked context,
https://nvidia.github.io/TensorRT-LLM/advanced/gpt-attention.html, read 2026-11-30). ``chunked``: running sequences
first, and prompts, cut where need be, fill the pass up to its token budget (vLLM,
https://docs.vllm.ai/en/stable/configuration/optimization.html#chunked-prefill, read 2026-11-30). ``prefill-first``:
a pass of prompts alone whenever one waits (SGLang without mixed chunks,
https://docs.sglang.ai/advanced_features/server_arguments.html, read 2026-11-30).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from llmprof.errors import InputError

SchedulerName = Literal["static", "continuous", "chunked", "prefill-first"]
SCHEDULERS: tuple[SchedulerName, ...] = get_args(SchedulerName)

BUDGET = 8192
"""Tokens of a pass where nobody says otherwise: vLLM's default of a server on a large GPU (`--max-num-batched-tokens`)
and SGLang's `--chunked-prefill-size` (pages above)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """How passes are put together.

    `tokens` is the budget of a pass. `prompts` is how many prompts may be worked on in one pass, None for as many as
    the budget holds. `spare_slots` is how many of the sequences that an engine was started for never run.
    """

    name: SchedulerName
    tokens: int = BUDGET
    prompts: int | None = None
    spare_slots: int = 0

    @property
    def mixes(self) -> bool:
        """Whether prompts share a pass with the tokens of running sequences."""
        return self.name in ("continuous", "chunked")

    @property
    def cuts(self) -> bool:
        """Whether a prompt may be computed in several passes."""
        return self.name in ("chunked", "prefill-first")

    @property
    def waits(self) -> bool:
        """Whether nothing is taken in until all that runs has ended."""
        return self.name == "static"

    def slots(self, batch: int) -> int:
        """How many of `batch` sequences, the most that the engine was started for, run at a time."""
        return max(1, batch - self.spare_slots)


def scheduler_of(name: str, *, tokens: int = BUDGET) -> Scheduler:
    """The scheduler called `name`. InputError for another name, or for no tokens."""
    for known in SCHEDULERS:
        if name == known:
            if tokens < 1:
                raise InputError(f"the token budget of a pass is {tokens}; it must be at least 1")
            return Scheduler(name=known, tokens=tokens)
    raise InputError(f"no scheduler is called {name!r}; known are {', '.join(SCHEDULERS)}")
