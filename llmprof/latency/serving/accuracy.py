"""How far predicted times of served runs are from measured ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from llmprof.latency.serving.verify import Predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """|predicted - measured| / measured of `rows`, in percent.

    `inside` is the share of measured times in the interval, None where there is no interval.
    """

    rows: int
    mean: float
    median: float
    p90: float
    inside: float | None = None


def errors_of_tpot(found: Iterable[Predicted]) -> Errors | None:
    """Of the mean time per token; None where none was measured."""
    pairs = [(each, each.row.tpot_ms) for each in found if each.row.tpot_ms is not None]
    inside = [each.low_tpot_ms <= measured <= each.high_tpot_ms for each, measured in pairs]
    return _errors(
        [(each.tpot_ms, measured) for each, measured in pairs], sum(inside) / len(inside) if inside else None
    )


def errors_of_ttft(found: Iterable[Predicted]) -> Errors | None:
    """Of the mean time to the first token; None where none was measured."""
    return _errors([(each.ttft_ms, each.row.ttft_ms) for each in found if each.row.ttft_ms is not None], None)


def _errors(pairs: Sequence[tuple[float, float]], inside: float | None) -> Errors | None:
    if not pairs:
        return None
    percent = sorted(abs(predicted / measured - 1) * 100 for predicted, measured in pairs)
    return Errors(
        rows=len(percent),
        mean=sum(percent) / len(percent),
        median=median(percent),
        # The least error that nine tenths of the rows do not exceed.
        p90=percent[-(-9 * len(percent) // 10) - 1],
        inside=inside,
    )
