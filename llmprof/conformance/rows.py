"""What a verification says: one row per quantity and witness, each with a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

Quantity = Literal[
    "params_total",
    "params_embedding",
    "params",
    "matmul_flops",
    "kv_cache_bytes",
    "recurrent_state_bytes",
    "architecture",
]
"""What is held against a witness.

params_total, params_embedding   parameters of the whole model, and of its tables (a tied one once)
params                           parameters of one module, or of several that a witness has as one
matmul_flops                     FLOPs of the contractions of a pass, dense
kv_cache_bytes                   bytes of rows of tokens that are kept after the pass
recurrent_state_bytes            bytes of states of constant size that are kept after it
architecture                     what the spec says, held against what its config.json says: fields that differ
"""

Witness = Literal["twin", "transformers", "published", "config.json", "module"]
Verdict = Literal["AGREES", "EXPLAINED", "DIFFERS", "UNMEASURED"]

TOTALS: tuple[Quantity, ...] = (
    "params_total",
    "params_embedding",
    "matmul_flops",
    "kv_cache_bytes",
    "recurrent_state_bytes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure as predicted and as a witness has it. None: the witness has none, and `note` says why.

    `phase` is empty for what depends on no pass, `path` for what is of the whole model. `explanations` are the keys of
    the known errors of the witness (known.py) that make the difference to the last unit.
    """

    quantity: Quantity
    witness: Witness
    predicted: int | None
    found: int | None
    verdict: Verdict
    phase: str = ""
    path: str = ""
    note: str = ""
    explanations: tuple[str, ...] = ()


def compared(
    quantity: Quantity,
    witness: Witness,
    predicted: int,
    found: int | None,
    *,
    phase: str = "",
    path: str = "",
    note: str = "",
) -> Row:
    """A row whose verdict is equality: integers are equal or wrong."""
    verdict: Verdict = "UNMEASURED" if found is None else "AGREES" if predicted == found else "DIFFERS"
    return Row(
        quantity=quantity,
        witness=witness,
        predicted=predicted,
        found=found,
        verdict=verdict,
        phase=phase,
        path=path,
        note=note,
    )


def unmeasured(quantity: Quantity, witness: Witness, reason: str, *, predicted: int | None, phase: str = "") -> Row:
    """A row of a witness that could not testify."""
    return Row(
        quantity=quantity,
        witness=witness,
        predicted=predicted,
        found=None,
        verdict="UNMEASURED",
        phase=phase,
        note=reason,
    )


@dataclass(slots=True, kw_only=True)
class Result:
    """What came out for one architecture. Filled witness by witness, so that an interruption keeps what there is."""

    arch: ArchSpec
    workloads: tuple[Workload, ...] = ()
    predicted: dict[str, int] = field(default_factory=dict)
    """What is predicted, by the names of `figures`."""
    rows: list[Row] = field(default_factory=list)
    ran: dict[str, str] = field(default_factory=dict)
    """Witness -> what it ran, in words."""
    matched: dict[str, str] = field(default_factory=dict)
    """Witness -> how many of its modules were held against ours, in words."""
    errors: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def verdict(self) -> Verdict:
        """The worst that the rows say."""
        return worst(row.verdict for row in self.rows)

    @property
    def explanations(self) -> tuple[str, ...]:
        """The known errors that some row needed, in the order of the rows."""
        return tuple(dict.fromkeys(key for row in self.rows for key in row.explanations))

    def of(self, witness: Witness) -> list[Row]:
        """The rows of one witness."""
        return [row for row in self.rows if row.witness == witness]

    def explained_by(self, witness: Witness) -> tuple[str, ...]:
        """The known errors that some row of one witness needed."""
        return tuple(dict.fromkeys(key for row in self.of(witness) for key in row.explanations))


_RANK: dict[Verdict, int] = {"UNMEASURED": 0, "AGREES": 1, "EXPLAINED": 2, "DIFFERS": 3}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """DIFFERS over EXPLAINED over AGREES over UNMEASURED, which no rows at all are too."""
    return max(verdicts, key=_RANK.__getitem__, default="UNMEASURED")


def record(row: Row) -> dict[str, Any]:
    """A row for machines."""
    return {
        "path": row.path,
        "quantity": row.quantity,
        "phase": row.phase,
        "witness": row.witness,
        "predicted": row.predicted,
        "found": row.found,
        "verdict": row.verdict,
        "note": row.note,
        "explanations": list(row.explanations),
    }
