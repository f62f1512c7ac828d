"""How far predictions were from what was measured: medians, upper tails and how many intervals held the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from llmprof import device as catalogue
from llmprof.errors import InputError
from llmprof.latency.constants import DeviceModel
from llmprof.latency.estimate import Estimate, estimate
from llmprof.latency.local import NOTHING, Local
from llmprof.latency.systems import device_of
from llmprof.latency.table import Row, Table

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Of rows of one op, device and dtype: relative errors in percent, and the part of them whose interval held."""

    op: str
    device: str
    dtype: str
    basis: str
    count: int
    median: float
    p90: float
    coverage: float


def model_of(name: str, local: Local = NOTHING) -> DeviceModel:
    """The model of a device as a table calls it. InputError for a name that no device has, with those near to it."""
    found = device_of(name)
    return DeviceModel.of(local.device(catalogue.find(name.replace("_", "-")) if found is None else found))


def predict(rows: Iterable[Row], local: Local = NOTHING) -> list[Estimate]:
    """One estimate for each row, from everything but what it measured; constants of `local` before the catalogue's."""
    model = _models(local)
    return [estimate(row.op, model(row.device)) for row in rows]


def _models(local: Local) -> Callable[[str], DeviceModel]:
    """`model_of`, each name once, whether it is understood or not."""
    known: dict[str, DeviceModel | InputError] = {}

    def model(name: str) -> DeviceModel:
        if name not in known:
            try:
                known[name] = model_of(name, local)
            except InputError as error:
                known[name] = error
        found = known[name]
        if isinstance(found, InputError):
            raise found
        return found

    return model


def predict_table(table: Table, local: Local = NOTHING) -> tuple[Table, list[Estimate]]:
    """The table without the rows that have no time on their device, which join its problems, and the others' times."""
    rows, found, problems = [], [], list(table.problems)
    model = _models(local)
    for row in table.rows:
        try:
            found.append(estimate(row.op, model(row.device)))
        except InputError as error:
            problems.append((row.line, row.row_id, str(error)))
        else:
            rows.append(row)
    return replace(table, rows=tuple(rows), problems=tuple(sorted(problems))), found


def judge(rows: Sequence[Row], estimates: Sequence[Estimate]) -> list[Accuracy]:
    """By op, device and dtype, then by op and all together; rows without a measured time are left out."""
    pairs = [(row, each) for row, each in zip(rows, estimates, strict=True) if row.measured is not None]
    groups: dict[tuple[str, str, str], list[tuple[Row, Estimate]]] = {}
    for row, each in pairs:
        for key in ((row.kind, row.device, row.dtype), (row.kind, ALL, ALL), (ALL,) * 3):
            groups.setdefault(key, []).append((row, each))
    order = sorted(groups, key=lambda key: tuple((part == ALL, part) for part in key))
    return [_accuracy(key, groups[key]) for key in order]


def _accuracy(key: tuple[str, str, str], pairs: Sequence[tuple[Row, Estimate]]) -> Accuracy:
    errors, held = [], 0
    for row, each in pairs:
        assert row.measured is not None
        seconds = row.measured * 1e-6
        errors.append(abs(each.seconds / seconds - 1) * 100)
        held += each.low <= seconds <= each.high
    bases = sorted({each.basis for _, each in pairs})
    return Accuracy(
        op=key[0],
        device=key[1],
        dtype=key[2],
        basis=" and ".join(bases),
        count=len(errors),
        median=median(errors),
        p90=quantile(errors, 0.9),
        coverage=held / len(errors),
    )


def quantile(values: Sequence[float], part: float) -> float:
    """The value that `part` of all are below, between the two that it falls between."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
