"""The part of the machine contract of `plan --format json` that a service level adds (docs/machine-contract.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from llmprof.planning.configuration import Configuration
from llmprof.planning.degrees import words
from llmprof.planning.energy import UNKNOWN
from llmprof.planning.record import DATASHEET, NANOSECONDS, deployment_record
from llmprof.planning.served_figures import Predicted, cost_per_million
from llmprof.planning.served_nearest import NearestTarget
from llmprof.planning.served_search import Missed, ServedSearch, Stage
from llmprof.planning.slo import Slo

Record = dict[str, Any]

PREDICTED = (
    "ttft_ns",
    "ttft_ns_low",
    "ttft_ns_high",
    "tpot_ns",
    "tpot_ns_low",
    "tpot_ns_high",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "tokens_per_s_per_user",
    "requests_per_s",
    "cost_per_million_tokens",
    "tpot_bound_share",
    "decoded_together",
)
"""Keys of a configuration that are predicted times and what follows from them."""

LEAST = ("ttft_ns_lower_bound", "tpot_ns_lower_bound")
"""Keys of a configuration that are the speed of light of both times."""

TARGETS = ("meeting", "slo_rejections", "pareto", "nearest_targets")
"""Keys of a plan that rest on predicted times, or on bounds of them."""

ENERGY = ("joules_per_million_tokens", "joules_per_request")
"""Keys of a configuration that rest on the power of its devices too."""

REASONS: dict[tuple[Stage, str | None], str] = {
    ("speed of light", "ttft"): "first token too late at the speed of light",
    ("speed of light", "tpot"): "tokens too slow at the speed of light",
    ("speed of light", "rate"): "fewer answered than arrive, at the speed of light",
    ("predicted", "ttft"): "first token too late, as predicted",
    ("predicted", "tpot"): "tokens too slow, as predicted",
    ("predicted", "rate"): "fewer answered than arrive, as predicted",
    ("no times", None): "no times are known of its kernels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedReason:
    """A reason, how many configurations it rejected, and the one that came nearest, with its value."""

    reason: str
    count: int
    nearest: Missed


def served_reasons(missed: Sequence[Missed]) -> list[ServedReason]:
    """Why configurations do not serve what is asked, in the order in which they are asked."""
    made = []
    for (stage, metric), reason in REASONS.items():
        members = [each for each in missed if (each.stage, each.metric) == (stage, metric)]
        if members:
            sign = -1 if metric == "rate" else 1
            nearest = min(members, key=lambda each: (sign * each.value, each.configuration.gpus))
            made.append(ServedReason(reason=reason, count=len(members), nearest=nearest))
    return made


def target_record(search: ServedSearch, front: Sequence[Configuration], found: Sequence[NearestTarget]) -> Record:
    """What is asked of all, what came of it, and every configuration that was predicted."""
    slo, target = search.target.slo, search.target
    return {
        **_slo(slo),
        "request_rate": target.rate,
        "served_by": search.serving.engine,
        "scheduler": search.serving.scheduler,
        "meeting": sum(1 for c in search.seen if c not in search.missed),
        "predicted": len(search.seen),
        "not_predicted": len(search.unpredicted),
        "slo_rejections": [
            {
                "reason": each.reason,
                "count": each.count,
                "nearest": each.nearest.why or deployment_record(each.nearest.configuration.deployment),
                "value": _value(each.nearest),
            }
            for each in served_reasons(list(search.missed.values()))
        ],
        "pareto": [_point(search, c, c in front) for c in sorted(search.seen, key=search.cost)],
        "nearest_targets": [_nearest(each) for each in found],
        "unconfirmed": dict.fromkeys(TARGETS, "predicted, of deployments that have not been run (docs/latency.md)"),
    }


def predicted_record(p: Predicted, slo: Slo, *, on_front: bool) -> Record:
    """What a configuration has beside its bounds: bounds are rounded down, and high ends of ranges up."""
    why = f"predicted, {p.label}: this deployment has not been run (docs/latency.md)"
    energy = UNKNOWN if p.power is None else f"{p.power.why}; {p.label}"
    return {
        "ttft_ns_lower_bound": floor(p.least.ttft * NANOSECONDS),
        "tpot_ns_lower_bound": floor(p.least.tpot * NANOSECONDS),
        "ttft_ns": round(p.ttft.value * NANOSECONDS),
        "ttft_ns_low": floor(p.ttft.low * NANOSECONDS),
        "ttft_ns_high": ceil(p.ttft.high * NANOSECONDS),
        "tpot_ns": round(p.tpot.value * NANOSECONDS),
        "tpot_ns_low": floor(p.tpot.low * NANOSECONDS),
        "tpot_ns_high": ceil(p.tpot.high * NANOSECONDS),
        "tokens_per_s": p.tokens_per_s,
        "tokens_per_s_per_gpu": p.tokens_per_s_per_gpu,
        "tokens_per_s_per_user": p.tokens_per_s_per_user,
        "requests_per_s": p.requests_per_s,
        "cost_per_million_tokens": p.cost_per_million,
        "watts_per_device": None if p.power is None else p.power.watts,
        "watts_basis": None if p.power is None else "stated" if p.power.stated else "board limit",
        "joules_per_million_tokens": p.joules_per_million,
        "joules_per_request": p.joules_per_request,
        "tpot_bound_by": p.bound_by,
        "tpot_bound_share": p.bound_share,
        "decoded_together": p.running,
        "prediction_basis": p.label,
        "assumptions": list(p.assumptions),
        "meets": p.verdict(slo),
        "on_front": on_front,
        "unconfirmed": {
            **dict.fromkeys(LEAST, DATASHEET),
            **dict.fromkeys(PREDICTED, why),
            **dict.fromkeys(ENERGY, energy),
        },
    }


def where(c: Configuration) -> str:
    """``4 x h200 (TP4)``."""
    spread = words(c.deployment.sharding)
    return f"{c.gpus} x {c.deployment.device.name}" + ("" if spread == "-" else f" ({spread})")


def _slo(slo: Slo) -> Record:
    return {
        "slo_ttft_ns": None if slo.ttft is None else round(slo.ttft * NANOSECONDS),
        "slo_tpot_ns": None if slo.tpot is None else round(slo.tpot * NANOSECONDS),
    }


def _value(missed: Missed) -> float | None:
    """In nanoseconds, or in requests per second."""
    if missed.metric is None:
        return None
    return missed.value if missed.metric == "rate" else floor(missed.value * NANOSECONDS)


def _point(search: ServedSearch, c: Configuration, on_front: bool) -> Record:
    seen = search.seen[c]
    return {
        **deployment_record(c.deployment),
        "weight_dtype": c.deployment.dtypes.weights,
        "price_per_hour": c.price_per_hour,
        "ttft_ns": round(seen.times.ttft * NANOSECONDS),
        "tpot_ns": round(seen.times.tpot * NANOSECONDS),
        "latency_ns": round(search.latency(seen.times) * NANOSECONDS),
        "requests_per_s": seen.requests_per_s,
        "cost_per_million_tokens": cost_per_million(c, seen.requests_per_s),
        "meets": c not in search.missed,
        "on_front": on_front,
    }


def _nearest(each: NearestTarget) -> Record:
    return {
        "change": each.change,
        **_slo(each.slo),
        "request_rate": each.rate,
        "concurrency": each.concurrency,
        **deployment_record(each.configuration.deployment),
    }
