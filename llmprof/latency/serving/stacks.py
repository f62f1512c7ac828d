"""Engines as they serve: which scheduler each has, whose kernels it runs, and what its host adds.

The host's figures are the residual of measured runs over the kernels' times. Those of TensorRT-LLM were fitted to 177
runs of a dense 8B model on 1 to 8 H100 SXM, TensorRT-LLM 1.0.0rc3; those of vLLM and SGLang are the middle of what
public runs of both leave over (aiconfigurator-core 0.12.0, Apache-2.0, https://github.com/ai-dynamo/aiconfigurator).
A host is part of a deployment: `fit.fit_step` replaces these by one constant of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from llmprof.errors import InputError
from llmprof.latency.serving.host import IDEAL, Host
from llmprof.latency.serving.scheduler import Scheduler, scheduler_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One engine. `low` and `high` are between which factors of `host.step_seconds` runs were found."""

    engine: str
    scheduler: Scheduler
    host: Host
    low: float = 0.5
    high: float = 2.0

    def with_step(self, seconds: float, basis: str) -> Stack:
        """The same engine with a constant of its own for each pass, and the interval of a fitted one."""
        host = replace(self.host, step_seconds=seconds, basis=basis)
        return replace(self, host=host, low=0.8, high=1.25)

    def with_scheduler(self, name: str) -> Stack:
        """The same engine under the scheduler called `name`."""
        return replace(self, scheduler=scheduler_of(name, tokens=self.scheduler.tokens))


# The front end of TensorRT-LLM's runs: TTFT beyond what the engine's loop explains grows where more than some 9,000
# tokens or 36 requests per second leave it. One of the sequences that it was started for never ran: TTFT grows with
# the time between two ends, one request always waits for a slot. Its runs took one prompt into a pass.
TRTLLM = Stack(
    engine="trtllm",
    scheduler=Scheduler(name="continuous", prompts=1, spare_slots=1),
    host=Host(
        step_seconds=0.8e-3,
        sequence_seconds=15e-6,
        token_seconds=90e-6,
        request_seconds=13e-3,
        reply_seconds=14e-3,
        basis="fitted to served runs of TensorRT-LLM 1.0.0rc3 on H100 SXM",
    ),
    low=0.5,
    high=5.0,
)
VLLM = Stack(
    engine="vllm",
    scheduler=Scheduler(name="chunked"),
    host=Host(
        step_seconds=4.5e-3,
        reply_seconds=10e-3,
        spacing_seconds=4e-3,
        basis="the middle of 4 to 5 ms per step that public vLLM runs leave",
    ),
)
SGLANG = Stack(
    engine="sglang",
    scheduler=Scheduler(name="prefill-first"),
    host=Host(
        step_seconds=2.5e-3,
        reply_seconds=10e-3,
        spacing_seconds=4e-3,
        basis="the middle of 2 to 3 ms per step that public SGLang runs leave",
    ),
)
BARE = Stack(engine="none", scheduler=Scheduler(name="chunked"), host=IDEAL, low=1.0, high=1.0)
"""No engine: kernels alone, under a chunked scheduler. Nothing that serves is as quick."""

_NAMES = {
    "vllm": VLLM,
    "sglang": SGLANG,
    "trtllm": TRTLLM,
    "tensorrtllm": TRTLLM,
    "none": BARE,
}


def stack_of(engine: str) -> Stack:
    """The engine called `engine`: vllm, sglang, trtllm (tensorrt-llm). InputError for another."""
    found = _NAMES.get(re.sub("[^a-z0-9]", "", engine.lower()))
    if found is None:
        raise InputError(f"no engine is called {engine!r}; known are vllm, sglang and trtllm")
    return found
