"""Predictions of the levels below op level against what the GPU's counters say: rows with verdicts. No torch.

Three outcomes beside a verdict of difference: it agrees within its band, it could not be measured (with a reason and a
remedy), or it is reported without a verdict, because something other than prediction and measurement decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from llmprof.ledger import Ledger, Quantity, Verdict
from llmprof.profiling.bands import LEAST_BYTES, LEAST_REASON, band
from llmprof.units import format_exact

Tier = Literal["ncu", "cupti", "gpm", "none"]
Caches = Literal["cold", "warm"]
QUANTITIES: tuple[Quantity, ...] = ("dram_bytes", "l2_to_sm_bytes", "smem_bytes", "matmul_flops_executed")
"""What counters measure, from the memory inwards."""

TILED = "flash"
"""The fused kernel whose tiles are predicted (docs/reference-tiles.md)."""
_TMA = ("tma", "sm90", "sm100", "sm120", "nvjet")
"""Parts of names of kernels that copy into shared memory with the tensor memory accelerator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterRow:
    """One quantity of one module, or of the whole pass (path ""), predicted and counted.

    `verdict` is None for what is reported without one; `note` says why, or why nothing was measured. `kernels` are the
    names of what was launched, each once.
    """

    path: str
    quantity: str
    phase: str
    attention: str
    caches: str
    tier: Tier
    predicted: int | None
    measured: int | None
    band: float | None
    verdict: Verdict | None
    note: str = ""
    kernels: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Measured over predicted."""
        return None if self.measured is None or not self.predicted else self.measured / self.predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was counted of one module, by quantity: a value, or why there is none."""

    values: Mapping[str, int | str]
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReading:
    """What was counted of a pass: of each module, and of the whole, where `whole` also has what the modules lack.

    `cores`: the fused kernel of each core that has one. `capacity` of the last-level cache, in bytes. `drained` are the
    bytes of `whole` that were in the cache when the pass ended and were written after it.
    """

    phase: str
    attention: str
    caches: str
    tier: Tier
    modules: Mapping[str, Reading]
    whole: Reading
    cores: Mapping[str, str]
    capacity: int | None = None
    drained: int = 0


def rows(predicted: Ledger, reading: PassReading) -> list[CounterRow]:
    """One row for each quantity of each module that has a prediction, and for the whole pass, in that order."""
    unseen = Reading(values=dict.fromkeys(QUANTITIES, "no kernel of it was seen"))
    expected = dict.fromkeys(entry.path for entry in predicted if entry.value and entry.path)
    modules = {path: reading.modules.get(path, unseen) for path in (*reading.modules, *expected)}
    found = [
        _row(reading, path, quantity, predicted.at(path, quantity), module)
        for path, module in modules.items()
        if reading.modules
        for quantity in QUANTITIES
        if predicted.at(path, quantity) is not None or path in reading.cores
    ]
    return [*found, *_whole(predicted, reading)]


def _whole(predicted: Ledger, reading: PassReading) -> Iterator[CounterRow]:
    """The memory traffic of the whole pass; the other levels are not predicted of every module."""
    lacking = [path for path in reading.modules if predicted.at(path, "dram_bytes") is None]
    total = None if lacking else predicted.total("dram_bytes") or None
    row = _row(reading, "", "dram_bytes", total, reading.whole)
    if lacking and row.verdict is Verdict.UNPREDICTED:
        note = f"no prediction of {len(lacking)} of its modules, the first of them {lacking[0]}"
        row = replace(row, verdict=Verdict.UNPREDICTED, note=note)
    yield row


def unmeasured(phase: str, attention: str, caches: str, predicted: Ledger | None, reason: str) -> list[CounterRow]:
    """A row for each quantity of a pass that nothing was read of, with the one reason."""
    return [
        CounterRow(
            path="",
            quantity=quantity,
            phase=phase,
            attention=attention,
            caches=caches,
            tier="none",
            predicted=predicted.total(quantity) or None if predicted is not None else None,
            measured=None,
            band=band(quantity, phase, attention).share,
            verdict=Verdict.UNMEASURED,
            note=reason,
        )
        for quantity in QUANTITIES
    ]


def _row(reading: PassReading, path: str, quantity: Quantity, predicted: int | None, found: Reading) -> CounterRow:
    limit = band(quantity, reading.phase, reading.attention)
    value = found.values.get(quantity, "it was not asked for")
    measured = value if isinstance(value, int) else None
    row = CounterRow(
        path=path,
        quantity=quantity,
        phase=reading.phase,
        attention=reading.attention,
        caches=reading.caches,
        tier=reading.tier,
        predicted=predicted,
        measured=measured,
        band=limit.share,
        verdict=None,
        kernels=tuple(dict.fromkeys(found.kernels)),
    )
    if isinstance(value, str):
        return replace(row, verdict=Verdict.UNMEASURED, note=value)
    if predicted is None:
        return replace(row, verdict=Verdict.UNPREDICTED, note="no prediction of this module on this device")
    for reason in _doubts(row, reading):
        return replace(row, verdict=None, note=reason)
    if limit.share is None:
        return replace(row, verdict=None, note=limit.reason)
    difference = abs(value - predicted)
    if difference <= limit.share * predicted:
        return replace(row, verdict=Verdict.AGREES)
    for reason in _excuses(row, reading, difference):
        return replace(row, verdict=None, note=reason)
    return replace(row, verdict=Verdict.DIFFERS, note=f"beyond its band: {limit.reason}")


def _doubts(row: CounterRow, reading: PassReading) -> Iterator[str]:
    """Why a row has no verdict whatever its figures."""
    assert row.predicted is not None
    if row.tier == "gpm":
        yield "a mean over the whole GPU, whose exactness no record has shown yet"
    if row.quantity == "dram_bytes" and reading.caches != "cold":
        yield "the prediction is of a pass that begins with nothing in the cache"
    if row.quantity.endswith("bytes") and row.predicted < LEAST_BYTES:
        yield LEAST_REASON
    kernel = reading.cores.get(row.path)
    if row.quantity in ("smem_bytes", "matmul_flops_executed") and kernel not in (None, TILED):
        yield f"the kernel that ran, {kernel}, is not the one whose tiles are predicted"
    if row.quantity == "smem_bytes" and (copied := _first(row.kernels, _TMA)) is not None:
        yield f"{copied} copies with the tensor memory accelerator, which is not in the counter"


def _excuses(row: CounterRow, reading: PassReading, difference: int) -> Iterator[str]:
    """Why a difference beyond the band is no verdict on the prediction."""
    if row.quantity == "dram_bytes" and row.path and reading.capacity is not None and difference <= reading.capacity:
        yield (
            "what the module before left dirty in the cache is written while this one runs, and may be as much as the "
            "cache holds; the row of the whole pass has it in"
        )
    if row.quantity == "dram_bytes" and not row.path and row.measured is not None and row.predicted is not None:
        excess = row.measured - row.predicted
        if 0 < excess <= reading.drained:
            yield (
                f"{format_exact(reading.drained)} B of it were written after the pass, also of tensors that were dead "
                "by then, which are not predicted"
            )
    if row.quantity == "matmul_flops_executed" and row.path not in reading.cores:
        yield "the tile of a matrix product is its library's choice, and is not predicted"


def _first(names: Iterable[str], parts: Iterable[str]) -> str | None:
    return next((name for name in names if any(part in name.lower() for part in parts)), None)


def outcome(found: Iterable[CounterRow]) -> Literal["failed", "measured", "unmeasured"]:
    """``failed`` on any DIFFERS; ``unmeasured`` where something could not be read, or a whole pass was held against
    nothing, or there is nothing; else ``measured``.
    """
    read = list(found)
    if any(row.verdict is Verdict.DIFFERS for row in read):
        return "failed"
    open_rows = [
        row
        for row in read
        if row.verdict is Verdict.UNMEASURED or (row.verdict is Verdict.UNPREDICTED and not row.path)
    ]
    return "unmeasured" if open_rows or not read else "measured"
