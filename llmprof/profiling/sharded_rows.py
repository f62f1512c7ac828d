"""Join what every rank counted with what its stage was predicted to hold and send, and judge outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmprof import confirm
from llmprof.ledger import Verdict
from llmprof.sharding import StageAccount

if TYPE_CHECKING:
    from llmprof.measure.sharded.compare import Difference

DIFFERENCE = "relative_difference"
"""The largest difference from the unsharded twin's tensor, relative to the largest value of that."""

TOLERANCE = 1e-5
"""Of `DIFFERENCE`. Ranks add partial sums in another order than one matrix product does, and fp32 rounds every sum to
2^-24 = 6e-8 of it: some sums on the way through a layer, in hundreds of layers whose errors do not all point one way,
stay below 170 such units. A part that is left out, doubled or another rank's is wrong in the first digit."""

_FREE = frozenset({"params", "weight_bytes"})
OF_FUSED_KERNELS = frozenset({"hbm_bytes", "peak_live_bytes"})
"""Quantities of an account that are predicted for fused attention on a GPU, and are others elsewhere."""

Key = tuple[str, str]
"""(path, quantity)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRow:
    """Prediction and measurement of one quantity of one path, on the `ranks` of a stage that measured the same.

    Integers, but for `relative_difference`: its prediction is 0, its verdict has a tolerance, and what was measured is
    the largest of the ranks.
    """

    path: str
    quantity: str
    attention: str
    phase: str
    stage: int
    ranks: tuple[int, ...]
    predicted: int | None
    measured: int | float | None
    witness: str
    verdict: Verdict
    note: str = ""


_SILENT = "no rank of this stage reported"
_LESS = "predicted for the first rank of the stage, to whose experts most tokens go; to those of this one go fewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The `paths` whose figures are predicted for the `ranks` to which most tokens go, and are less on others."""

    paths: frozenset[str]
    ranks: frozenset[int]

    def excuses(self, path: str, ranks: Iterable[int], short: int) -> bool:
        """Whether `ranks` may be `short` of the prediction at `path`."""
        return short > 0 and path in self.paths and not self.ranks.intersection(ranks)


def figures(account: StageAccount) -> dict[Key, int]:
    """What an account says, by path and quantity: a collective has calls and payload. Nothing is 0."""
    found: dict[Key, int] = {(entry.path, entry.quantity): entry.value for entry in account.ledger if entry.value}
    for call in account.collectives:
        name = call.kind.replace("-", "_")
        for key, value in (((call.path, f"{name}_calls"), call.count), ((call.path, f"{name}_bytes"), call.bytes)):
            found[key] = found.get(key, 0) + value
    return {key: value for key, value in found.items() if value}


def account_rows(
    predicted: Sequence[StageAccount],
    measured: Mapping[int, StageAccount],
    *,
    phase: str,
    witness: str,
    fused_kernels: Container[int],
    busiest: Bound | None = None,
    stands_for: Callable[[str], str] | None = None,
) -> Iterator[RankRow]:
    """The rows of one pass, of which rank r counted `measured[r]`.

    A path that one side does not have is 0 there. `fused_kernels` are the ranks whose `OF_FUSED_KERNELS` are those that
    are predicted; the others have no rows of these. `busiest`: where other ranks may do less. `stands_for` gives the
    path of the slice that stands for one of the whole model. A stage of which no rank reported has UNMEASURED rows.
    """
    counted = {rank: figures(account) for rank, account in measured.items()}
    for account in predicted:
        expected = figures(account)
        ranks = sorted(rank for rank, own in measured.items() if own.stage == account.stage)
        own = {rank: _whole(counted[rank], expected, stands_for) for rank in ranks}
        unseen: dict[Key, str] = {key: reason for rank in ranks for key, reason in measured[rank].unmeasured.items()}
        for path, quantity in dict.fromkeys((*expected, *(key for found in own.values() for key in found))):
            own_kernels = quantity in OF_FUSED_KERNELS
            asked = [rank for rank in ranks if rank in fused_kernels] if own_kernels else ranks
            if own_kernels and not asked:
                continue
            value = expected.get((path, quantity), 0)
            reason = unseen.get((path if stands_for is None else stands_for(path), quantity))
            by_value: dict[int | None, list[int]] = {}
            for rank in asked:
                by_value.setdefault(None if reason else own[rank].get((path, quantity), 0), []).append(rank)
            for found, sharers in by_value.items() or [(None, [])]:
                verdict, note = confirm.compare(value, found), reason or ("" if sharers else _SILENT)
                if busiest is not None and found is not None and busiest.excuses(path, sharers, value - found):
                    verdict, note = Verdict.BELOW_BOUND, _LESS
                yield RankRow(
                    path=path,
                    quantity=quantity,
                    attention="fused" if own_kernels else "",
                    phase="" if quantity in _FREE else phase,
                    stage=account.stage,
                    ranks=tuple(sharers),
                    predicted=value,
                    measured=found,
                    witness=witness if sharers else "",
                    verdict=verdict,
                    note=note,
                )


def _whole(
    found: Mapping[Key, int], expected: Iterable[Key], stands_for: Callable[[str], str] | None
) -> Mapping[Key, int]:
    """What was counted on a slice, at every path that it stands for; what stands for nothing stays where it is."""
    if stands_for is None:
        return found
    sources = {(path, quantity): (stands_for(path), quantity) for path, quantity in expected}
    used = set(sources.values())
    spread = {key: found[source] for key, source in sources.items() if source in found}
    return spread | {key: value for key, value in found.items() if key not in used}


def difference_rows(
    found: Mapping[int, Sequence[Difference]], stages: Mapping[int, int], *, attention: str, phase: str, witness: str
) -> Iterator[RankRow]:
    """One row per tensor and stage: the rank whose part of it lies farthest from the unsharded one decides."""
    by_tensor: dict[tuple[str, int], list[tuple[int, Difference]]] = {}
    for rank, tensors in sorted(found.items()):
        for each in tensors:
            by_tensor.setdefault((each.what, stages[rank]), []).append((rank, each))
    for (what, stage), members in by_tensor.items():
        judged = {rank: _relative(each) for rank, each in members}
        known = [value for value in judged.values() if value is not None]
        worst = max(known, default=None)
        reason = next((each.reason for _, each in members if each.reason), "")
        if worst is not None and worst > TOLERANCE:
            verdict = Verdict.DIFFERS
            reason = reason or f"more than {TOLERANCE:g} of the largest value"
        elif len(known) < len(judged):
            verdict = Verdict.UNMEASURED
        else:
            verdict = Verdict.AGREES
            reason = f"at most {TOLERANCE:g} of the largest value"
        yield RankRow(
            path=what,
            quantity=DIFFERENCE,
            attention=attention,
            phase=phase,
            stage=stage,
            ranks=tuple(judged),
            predicted=0,
            measured=worst if worst is not None and math.isfinite(worst) else None,
            witness=witness,
            verdict=verdict,
            note=reason,
        )


def _relative(each: Difference) -> float | None:
    """None where it could not be compared."""
    if each.largest is None or each.scale is None:
        return None
    if each.largest == 0:
        return 0.0
    return each.largest / each.scale if each.scale else math.inf


def merged(rows: Iterable[RankRow]) -> list[RankRow]:
    """Rows that several passes have in common once, and no UNMEASURED one beside what another pass measured."""
    kept = dict.fromkeys(rows)
    known = {_place(row) for row in kept if row.verdict is not Verdict.UNMEASURED}
    return [row for row in kept if row.verdict is not Verdict.UNMEASURED or _place(row) not in known]


def _place(row: RankRow) -> tuple[str, str, str, str, int]:
    return row.path, row.quantity, row.attention, row.phase, row.stage


def without_kernel(attention: str, phase: str, reason: str) -> RankRow:
    """The outputs of an attention that no kernel runs."""
    return RankRow(
        path="logits",
        quantity=DIFFERENCE,
        attention=attention,
        phase=phase,
        stage=0,
        ranks=(),
        predicted=0,
        measured=None,
        witness="",
        verdict=Verdict.UNMEASURED,
        note=reason,
    )
