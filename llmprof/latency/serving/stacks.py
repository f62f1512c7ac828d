"""Engines as they serve: which scheduler each has, whose kernels it runs, and what its host adds.

The host's figures are the residual of measured runs over the kernels' times. Those of TensorRT-LLM were fitted to 177
runs of a dense 8B model on 1 to 8 H100 SXM, TensorRT-LLM 1.0.0rc3; those of vLLM and SGLang are the middle of what
public runs of both leave over: those of aiconfigurator-core 0.12.0 (Apache-2.0,
https://github.com/ai-dynamo/aiconfigurator), and those of docs/latency.md, "Runs that others publish".
A host is part of a deployment: `fit.fit_step` replaces these by one constant of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import isfinite

from llmprof.errors import InputError
from llmprof.latency.serving.host import IDEAL, Host
from llmprof.latency.serving.scheduler import Scheduler, scheduler_of
from llmprof.spec.nodes import short


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One engine. `low` and `high` are between which factors of `host.step_seconds` runs were found.

    `measured` is the scheduler as it was set up in the runs of public tables, where that shows in them. `fitted`: the
    host's figures were fitted to runs of this engine, and are not merely what others found.
    """

    engine: str
    scheduler: Scheduler
    host: Host
    measured: Scheduler | None = None
    low: float = 0.5
    high: float = 2.0
    fitted: bool = False

    def with_step(self, seconds: float, basis: str) -> Stack:
        """The same engine with a constant of its own for each pass, and the interval of a fitted one.

        InputError for seconds that are no number, or negative.
        """
        if not (isfinite(seconds) and seconds >= 0):
            raise InputError(f"a host adds {seconds} s to a pass; it must be a number that is not negative")
        host = replace(self.host, step_seconds=seconds, basis=basis)
        return replace(self, host=host, low=0.8, high=1.25, fitted=True)

    @property
    def as_measured(self) -> Stack:
        """The engine as it was set up in the runs of public tables."""
        return self if self.measured is None else replace(self, scheduler=self.measured)

    def with_tokens(self, tokens: int) -> Stack:
        """The same engine with passes of so many tokens."""
        own, measured = replace(self.scheduler, tokens=tokens), self.measured
        return replace(self, scheduler=own, measured=None if measured is None else replace(measured, tokens=tokens))

    def with_scheduler(self, name: str) -> Stack:
        """The same engine under the scheduler called `name`."""
        return replace(self, scheduler=scheduler_of(name, tokens=self.scheduler.tokens))


ROUND_TRIP = 16e-3
"""As fitted for TensorRT-LLM, and taken for the others: an HTTP server, a tokenizer and a stream in Python each."""

# The front end of TensorRT-LLM's runs: TTFT beyond what the engine's loop explains grows where more than some 9,000
# tokens or 36 requests per second leave it. In those runs one of the sequences that the engine was started for never
# ran (TTFT grows with the time between two ends: one request always waits for a slot), and a pass took one prompt, as
# where max_num_tokens is that of one prompt beside the running sequences.
TRTLLM = Stack(
    engine="trtllm",
    scheduler=Scheduler(name="continuous"),
    measured=Scheduler(name="continuous", prompts=1, spare_slots=1),
    host=Host(
        step_seconds=0.75e-3,
        sequence_seconds=21e-6,
        token_seconds=100e-6,
        request_seconds=11e-3,
        round_trip_seconds=ROUND_TRIP,
        basis="fitted to served runs of TensorRT-LLM 1.0.0rc3 on H100 SXM",
    ),
    low=0.5,
    high=5.0,
    fitted=True,
)
VLLM = Stack(
    engine="vllm",
    scheduler=Scheduler(name="chunked"),
    host=Host(
        step_seconds=0.6e-3,
        round_trip_seconds=ROUND_TRIP,
        spacing_seconds=4e-3,
        basis="the middle of nothing to 1.1 ms per step that public runs of vLLM 0.17 to 0.23 leave",
    ),
    low=0.3,
    high=9.0,
)
QUICK = (0, 17)
"""The first version of vLLM of which public runs were found whose host adds little. It prepares a pass while another
runs, as vLLM does by default since 0.14 ("Async scheduling is now enabled by default",
https://github.com/vllm-project/vllm/releases/tag/v0.14.0, as quoted in https://github.com/OpenBMB/UltraRAG/pull/259,
read 2026-11-30); of 0.14 to 0.16 no run was found that shows it."""
EARLIER_HOST = Host(
    step_seconds=3e-3,
    sequence_seconds=15e-6,
    round_trip_seconds=ROUND_TRIP,
    spacing_seconds=4e-3,
    basis="between 0.7 to 1 ms per step that runs of vLLM 0.11 with few clients leave and 4 to 5 that many others do",
)
SGLANG = Stack(
    engine="sglang",
    scheduler=Scheduler(name="prefill-first"),
    host=Host(
        step_seconds=1.5e-3,
        round_trip_seconds=ROUND_TRIP,
        spacing_seconds=4e-3,
        basis="between 0.3 to 1.1 ms per step that runs of SGLang 0.5 leave and 2 to 3 ms that others leave",
    ),
    low=0.2,
)
BARE = Stack(engine="none", scheduler=Scheduler(name="chunked"), host=IDEAL, low=1.0, high=1.0, fitted=True)
"""No engine: kernels alone, under a chunked scheduler. Nothing that serves is as quick."""

FITTED_TRTLLM = "1.0.0rc3"
OTHER_TRTLLM_STEP = 1.2e-3
"""Of versions of TensorRT-LLM without runs here: public runs of several leave 0.7 to 3.9 ms per step over, whose
geometric middle, 1.6 ms, this is with the sequences of a middling batch."""

_NAMES = {
    "vllm": VLLM,
    "sglang": SGLANG,
    "trtllm": TRTLLM,
    "tensorrtllm": TRTLLM,
    "none": BARE,
}


def stack_of(engine: str, version: str = "") -> Stack:
    """The engine called `engine`: vllm, sglang, trtllm (tensorrt-llm). InputError for another.

    `version` matters where runs of that version were seen; without one, TensorRT-LLM is taken for the version that was,
    and vLLM for one of today, whose memory and command lines the planner knows.
    """
    found = _NAMES.get(re.sub("[^a-z0-9]", "", engine.lower()))
    if found is None:
        raise InputError(f"no engine is called {short(engine)!r}; known are vllm, sglang and trtllm")
    if found is VLLM and () < _numbers(version) < QUICK:
        return replace(found, host=EARLIER_HOST, low=0.2, high=2.0)
    if found is TRTLLM and version and version != FITTED_TRTLLM:
        basis = f"between 0.7 and 3.9 ms per step, as public runs of other versions than {FITTED_TRTLLM} leave"
        return replace(found, host=replace(found.host, step_seconds=OTHER_TRTLLM_STEP, basis=basis), fitted=False)
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """``v0.21.0rc1`` as (0, 21): nothing where it begins with no number."""
    found = re.match(r"v?(\d+)\.(\d+)", version.strip())
    return tuple(map(int, found.groups())) if found else ()
