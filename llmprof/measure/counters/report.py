"""What Nsight Compute printed: ``--csv --page raw --print-units base``, one row for each kernel.

The page has a row of names, a row of units, and then the kernels; before, between and after them stand lines that begin
with ``==``. Numbers are quoted and have separators of thousands. (Layout: Nsight Compute's documentation of its command
line, docs.nvidia.com/nsight-compute/NsightComputeCli, and public examples of its output; read 2026-11-30.)

What is not understood is refused: a number that was misread would be a wrong measurement.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmprof.measure.counters.metrics import TIME
from llmprof.measure.counters.ranges import Place, place_of

_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_ABSENT = {"", "n/a", "(!) n/a", "nan", "-nan", "inf"}
"""How a counter without a value is printed."""

_SECONDS = {"ns": 1.0, "nsecond": 1.0, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6, "s": 1e9, "second": 1e9}
"""Unit of a time -> nanoseconds."""
_COUNTERS = ("gpu__time_duration", "dram__bytes", "lts__t_bytes", "sm__ops_path_tensor", "sm__sass_data_bytes")
_BASE = {"", "byte", "bytes", "inst", "ops", "op"}
"""Units of counters that are whole numbers of what they count."""


class ReportError(ValueError):
    """A report that is none, or that was not understood. The message says which row or column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One launch of a kernel: its name, where it was launched, its counters, and the counters without a value."""

    name: str
    place: Place | None
    metrics: Mapping[str, float]
    absent: tuple[str, ...] = ()


def parse(text: str) -> tuple[Kernel, ...]:
    """The kernels of a raw page, in the order of their launches; none where no kernel was profiled.

    Raises ReportError.
    """
    rows = list(_rows(text))
    if not rows:
        return ()
    header, units, *body = (*rows, []) if len(rows) == 1 else rows
    names = _columns(header)
    if len(units) != len(header) or any(units[names[key]].strip() for key in ("ID", "Kernel Name")):
        raise ReportError("the row below the names is no row of units; expected --page raw")
    ranges = [index for index, name in enumerate(header) if "Range" in name]
    counters = {name: (index, factor(name, units[index])) for index, name in enumerate(header) if is_counter(name)}
    return tuple(_kernel(row, len(header), names["Kernel Name"], ranges, counters) for row in body)


def _rows(text: str) -> Iterator[list[str]]:
    """The rows of the table in `text`: from the row that begins with "ID" on, without lines of messages."""
    lines = text.replace("\0", "").splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith(('"ID"', "ID,"))), None)
    if begin is None:
        return
    table = [line for line in lines[begin:] if line.strip() and not line.startswith("==")]
    try:
        # `csv` reads line by line: a quote that is never closed would otherwise swallow the rest.
        for number, line in enumerate(table, 1):
            for row in csv.reader(io.StringIO(line), strict=True):
                if row == next(csv.reader([table[0]])) and number > 1:
                    continue  # a further process prints the names again
                yield row
    except csv.Error as error:
        raise ReportError(f"row {number} of the table is no CSV ({error})") from error


def _columns(header: Sequence[str]) -> dict[str, int]:
    names = {name: index for index, name in enumerate(header)}
    if "Metric Name" in names:
        raise ReportError("this is the page of details; expected --page raw")
    if "Kernel Name" not in names or "ID" not in names:
        raise ReportError("the table has no column Kernel Name; expected --page raw")
    if len(names) != len(header):
        twice = next(name for index, name in enumerate(header) if names[name] != index)
        raise ReportError(f"the table has two columns {twice!r}")
    return names


def is_counter(name: str) -> bool:
    """Whether this is one of the sums that are asked for: a report may also have attributes, rates and shares."""
    return name.endswith(".sum") and name.startswith(_COUNTERS)


def factor(name: str, unit: str) -> float:
    """What a counter's value is multiplied by; ReportError for units that are not base units."""
    unit = unit.strip()
    if name == TIME:
        if unit in _SECONDS:
            return _SECONDS[unit]
    elif unit in _BASE:
        return 1.0
    raise ReportError(f"the unit of {name} is {unit!r}; expected a base unit (--print-units base)")


def _kernel(
    row: Sequence[str], width: int, name: int, ranges: Sequence[int], counters: Mapping[str, tuple[int, float]]
) -> Kernel:
    if len(row) != width:
        raise ReportError(f"a row has {len(row)} cells below {width} names: {','.join(row)[:120]!r}")
    try:
        place = place_of(" ".join(row[index] for index in ranges))
    except ValueError as error:
        raise ReportError(f"kernel {row[name]!r}: {error}") from error
    metrics: dict[str, float] = {}
    absent = []
    for counter, (index, factor) in counters.items():
        value = _value(row[index], counter)
        if value is None:
            absent.append(counter)
        else:
            metrics[counter] = value * factor
    return Kernel(name=row[name], place=place, metrics=metrics, absent=tuple(absent))


def _value(cell: str, counter: str) -> float | None:
    text = cell.strip()
    if text.lower() in _ABSENT:
        return None
    if not _NUMBER.fullmatch(text):
        raise ReportError(f"{counter} is {text!r}; expected a number such as 1,234.50")
    value = float(text.replace(",", ""))
    return value if value != float("inf") else None
