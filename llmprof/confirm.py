"""Join the two halves: a predicted and a measured ledger become rows with verdicts. No torch.

Integers are equal or wrong: there is no tolerance here. What could not be measured is a row of its own with its
reason, and never counts as confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from llmprof.ledger import Ledger, Quantity, Row, Verdict

Outcome = Literal["confirmed", "failed", "unconfirmed"]

WORKLOAD_FREE: frozenset[Quantity] = frozenset({"params", "weight_bytes"})
"""Quantities of the weights alone: one row per path, whatever was run."""

_ANY_ATTENTION: frozenset[Quantity] = WORKLOAD_FREE | {
    "kv_cache_bytes",
    "recurrent_state_bytes",
    "loss_tokens",
    "logits_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "optimizer_peak_bytes",
    "hbm_bytes_optimizer",
}
"""Quantities that do not depend on how attention is computed."""


def compare(predicted: int | None, measured: int | None) -> Verdict:
    """The verdict on one pair of exact values."""
    if predicted is None:
        return Verdict.UNPREDICTED
    if measured is None:
        return Verdict.UNMEASURED
    return Verdict.AGREES if predicted == measured else Verdict.DIFFERS


ERRORS = 5
"""How many standard errors a predicted mean may lie from a simulated one: chance goes farther once in millions."""


def compare_mean(predicted: float, mean: float, standard_error: float) -> Verdict:
    """The verdict on a predicted mean, which no simulation can meet exactly."""
    return Verdict.AGREES if abs(predicted - mean) <= ERRORS * standard_error else Verdict.DIFFERS


def join(
    predicted: Ledger,
    measured: Ledger,
    *,
    attention: str,
    phase: str,
    witness: str,
    unmeasured: Mapping[tuple[str, Quantity], str] | None = None,
) -> list[Row]:
    """One row per (path, quantity) that either side has, in the order of prediction.

    `unmeasured` maps (path, quantity) to the reason why the witness has no value; a value beside it is ignored.
    """
    reasons = unmeasured or {}
    keys = list(dict.fromkeys((e.path, e.quantity) for e in (*predicted, *measured)))
    rows = []
    for path, quantity in keys:
        reason = reasons.get((path, quantity))
        expected = predicted.at(path, quantity)
        found = None if reason is not None else measured.at(path, quantity)
        rows.append(
            Row(
                path=path,
                quantity=quantity,
                attention="" if quantity in _ANY_ATTENTION else attention,
                phase="" if quantity in WORKLOAD_FREE else phase,
                predicted=expected,
                measured=found,
                witness=witness,
                verdict=compare(expected, found),
                note=reason or "",
            )
        )
    return rows


def unmeasured_rows(predicted: Ledger, *, attention: str, phase: str, reason: str) -> list[Row]:
    """Every row of `predicted` as UNMEASURED with one reason: a pass that could not be run at all."""
    keys = {(e.path, e.quantity): reason for e in predicted}
    return join(predicted, Ledger(), attention=attention, phase=phase, witness="", unmeasured=keys)


def dedupe(rows: Iterable[Row]) -> list[Row]:
    """Merge rows that say the same of the same thing, as the weights' rows of several passes do.

    Of rows with one key, a DIFFERS wins over everything, and any measured verdict over UNMEASURED.
    """
    rank = {
        Verdict.UNMEASURED: 0,
        Verdict.UNPREDICTED: 1,
        Verdict.BELOW_BOUND: 1,
        Verdict.AGREES: 2,
        Verdict.DIFFERS: 3,
    }
    kept: dict[tuple[str, str, str, str, str], Row] = {}
    for row in rows:
        referee = row.witness if row.witness.startswith("referee:") else ""
        key = (row.path, row.quantity, row.attention, row.phase, referee)
        old = kept.get(key)
        if old is None or rank[row.verdict] > rank[old.verdict]:
            kept[key] = row
    return list(kept.values())


def outcome(rows: Iterable[Row]) -> Outcome:
    """What the rows say together.

    ``failed`` on any DIFFERS; ``confirmed`` if every row is confirmed (a referee's lower bound that holds does no
    harm); else ``unconfirmed``. No rows at all confirm nothing.
    """
    result: Outcome = "unconfirmed"
    seen = False
    spoiled = False
    for row in rows:
        if row.verdict is Verdict.DIFFERS:
            return "failed"
        if row.witness.startswith("referee:"):
            continue
        seen = True
        spoiled |= row.verdict is not Verdict.AGREES
    if seen and not spoiled:
        result = "confirmed"
    return result


def extrapolate(
    sliced: Ledger, representative: Callable[[str], str], full_paths: Iterable[tuple[str, Quantity]]
) -> Ledger:
    """A full-depth ledger from one of a slice: each path takes the value of the path that represents it.

    `representative` maps a full-depth path to the path of the slice that was really run. Paths without a
    value there get none here, so that they come out UNMEASURED and not zero.
    """
    by_key = {(e.path, e.quantity): e for e in sliced}
    result = Ledger()
    for path, quantity in full_paths:
        source = representative(path)
        entry = by_key.get((source, quantity))
        if entry is not None:
            note = entry.note if source == path else f"extrapolated from {source}"
            result.add(replace(entry, path=path, note=note))
    return result


def keys(ledger: Ledger) -> list[tuple[str, Quantity]]:
    """The (path, quantity) pairs of a ledger, in order."""
    return [(e.path, e.quantity) for e in ledger]
