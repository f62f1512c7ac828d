"""What a service promises of its times, and whether a deployment keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from llmprof.errors import InputError
from llmprof.latency.serving.serve import ServedEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """The most seconds to the first token and per token after it, on average; None where nothing is promised."""

    ttft: float | None = None
    tpot: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("ttft", self.ttft), ("tpot", self.tpot)):
            if value is not None and not (isfinite(value) and value > 0):
                raise InputError(f"the promised {name} is {value} s; it must be a positive number")


def check_possible(found: ServedEstimate, slo: Slo) -> None:
    """InputError where `slo` promises less than one request alone takes at the speed of light of the deployment."""
    for name, promised, least in (
        ("ttft", slo.ttft, found.least_ttft),
        ("tpot", slo.tpot, found.least_tpot),
    ):
        if promised is not None and promised < least:
            raise InputError(
                f"the promised {name} of {promised * 1e3:.4g} ms is below the speed of light: one request alone takes "
                f"{least * 1e3:.4g} ms at the stated peaks of its devices; "
                "promise more, or spread the model over more devices"
            )


def missed(found: ServedEstimate, slo: Slo) -> tuple[str, ...]:
    """What `found` does not keep of `slo`, in words; empty where it keeps all."""
    texts = []
    for name, promised, interval in (("ttft", slo.ttft, found.ttft), ("tpot", slo.tpot, found.tpot)):
        if promised is not None and interval.value > promised:
            texts.append(
                f"{name} of {interval.value * 1e3:.4g} ms ({interval.low * 1e3:.4g} to {interval.high * 1e3:.4g}), "
                f"above {promised * 1e3:.4g}"
            )
    return tuple(texts)
