"""A service level: how long the first token may take, and each one after it. What keeps it, and what misses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.errors import InputError
from llmprof.spec.arch import ArchSpec

Metric = Literal["ttft", "tpot"]

METRICS: tuple[Metric, ...] = ("ttft", "tpot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds to the first token of a request, and of each token after it, on average; 0 where there is none."""

    ttft: float
    tpot: float

    def of(self, metric: Metric) -> float:
        """One of the two."""
        return self.ttft if metric == "ttft" else self.tpot

    def answer(self, output_tokens: int) -> float:
        """Seconds to the last of so many tokens."""
        return self.ttft + max(0, output_tokens - 1) * self.tpot


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """The most seconds that either may take; None where nothing is asked of it."""

    ttft: float | None = None
    tpot: float | None = None

    def of(self, metric: Metric) -> float | None:
        """What is asked of one of the two."""
        return self.ttft if metric == "ttft" else self.tpot

    @property
    def asked(self) -> tuple[Metric, ...]:
        """Of which something is asked."""
        return tuple(metric for metric in METRICS if self.of(metric) is not None)

    def missed(self, times: Times) -> tuple[Metric, ...]:
        """What takes longer than it may."""
        return tuple(m for m in METRICS if (most := self.of(m)) is not None and times.of(m) > most)

    def latency(self, times: Times, output_tokens: int) -> float:
        """The one time that configurations are compared by: what is asked of, or a whole answer where that is both."""
        if len(self.asked) == 1:
            return times.of(self.asked[0])
        return times.answer(output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a plan is to serve: a service level, and the requests that arrive each second (None: a closed loop)."""

    slo: Slo
    rate: float | None = None

    def check(self, arch: ArchSpec, output_tokens: int) -> None:
        """InputError where a model, or its answers, have no such times."""
        if arch.structure != "causal-decoder":
            raise InputError(
                f"--slo and --request-rate: {arch.label} is of structure {arch.structure}, and served times are known "
                "of causal decoders alone; leave the options out for the bounds"
            )
        if output_tokens < 1:
            raise InputError("--slo and --request-rate need answers of at least 1 token; raise --output-tokens")
        if output_tokens < 2 and self.slo.tpot is not None:
            raise InputError("--slo tpot: an answer of 1 token has none after the first; raise --output-tokens")
