"""A table of served runs: what each row asks, read strictly, with the number of its line in every complaint.

Columns are those of public accuracy tables of served models. `backend`, `model_path`, `system`, `isl`, `osl`,
`batch_size` and `tp_size` are needed; `mode`, `pp_size`, `moe_tp_size`, `moe_ep_size`, `concurrency`,
`backend_version` and `kv_dtype` may be there. `silicon_ttft_ms` and `silicon_tpot_ms` are what was measured: they are
read here and go to the error figures alone.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from llmprof.errors import InputError
from llmprof.latency.compose_pass import Layout
from llmprof.spec.nodes import short

NEEDED = ("backend", "model_path", "system", "isl", "osl", "batch_size", "tp_size")
MEASURED = {"ttft": "silicon_ttft_ms", "tpot": "silicon_tpot_ms"}
MAX_BYTES = 1 << 28
LARGEST = 10**9
"""More tokens or sequences than this are a slip of the pen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One served run. `cells` are its fields as they stand in the file; `batch` is that of one copy of the attention.

    `concurrency` counts the clients of all copies. Measured times are in milliseconds, None where the file has none.
    """

    line: int
    cells: Mapping[str, str]
    backend: str
    version: str
    model_path: str
    system: str
    mode: str
    prompt_tokens: int
    output_tokens: int
    batch: int
    concurrency: int
    layout: Layout
    kv_dtype: str
    ttft_ms: float | None
    tpot_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The columns of a file in their order, its rows, and what is wrong with those that are none (by line).

    `unmeasured` says by line which measured times are none: such rows are predicted, and held against nothing there.
    """

    columns: tuple[str, ...]
    lines: tuple[tuple[int, Mapping[str, str]], ...]
    rows: Mapping[int, Row]
    problems: Mapping[int, str]
    unmeasured: Mapping[int, str]


def read(path: str) -> Runs:
    """The runs of a CSV file. InputError where it cannot be read, has no rows, or lacks a column that is needed."""
    reader = csv.DictReader(io.StringIO(_text_of(path), newline=""), strict=True)
    try:
        columns = tuple(reader.fieldnames or ())
        _check_columns(path, columns)
        lines = [(reader.line_num, _cells(columns, cells)) for cells in reader]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: no CSV: {error}") from error
    if not lines:
        raise InputError(f"{path}: no rows below the header")
    rows: dict[int, Row] = {}
    problems: dict[int, str] = {}
    unmeasured: dict[int, str] = {}
    for line, cells in lines:
        times: dict[str, float | None] = {}
        for quantity, column in MEASURED.items():
            try:
                times[quantity] = _time(cells, column)
            except InputError as error:
                times[quantity], unmeasured[line] = None, str(error)
        try:
            rows[line] = _row(line, cells, ttft_ms=times["ttft"], tpot_ms=times["tpot"])
        except InputError as error:
            problems[line] = str(error)
    return Runs(columns=columns, lines=tuple(lines), rows=rows, problems=problems, unmeasured=unmeasured)


def _text_of(path: str) -> str:
    """The text of a file. InputError where it cannot be read, is no UTF-8 or too large for a table of runs."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes, which is no table of served runs")
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; expected a CSV file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from error


def _check_columns(path: str, columns: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise InputError(
            f"{path}: the header lacks {', '.join(missing)}; needed are {', '.join(NEEDED)}, "
            f"found {short(', '.join(columns)) or 'nothing'}"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the header has {', '.join(twice)} more than once")


def _cells(columns: Sequence[str], cells: Mapping[str, object]) -> dict[str, str]:
    """The fields of a line as text; '' for those that a short line lacks."""
    if None in cells:  # what csv calls fields beyond the header
        raise csv.Error(f"more fields than the {len(columns)} columns of the header")
    return {name: str(cells.get(name) or "") for name in columns}


def _row(line: int, cells: Mapping[str, str], *, ttft_ms: float | None, tpot_ms: float | None) -> Row:
    tensor, pipeline = _count(cells, "tp_size"), _count(cells, "pp_size", default=1)
    shared, expert = _count(cells, "moe_tp_size", default=1), _count(cells, "moe_ep_size", default=1)
    batch = _count(cells, "batch_size")
    layout = _layout(tensor, pipeline, shared, expert)
    return Row(
        line=line,
        cells=cells,
        backend=_word(cells, "backend"),
        version=cells.get("backend_version", "").strip(),
        model_path=_word(cells, "model_path"),
        system=_word(cells, "system"),
        mode=cells.get("mode", "").strip() or "agg",
        prompt_tokens=_count(cells, "isl"),
        output_tokens=_count(cells, "osl"),
        batch=batch,
        concurrency=_count(cells, "concurrency", default=batch * layout.attention_copies * pipeline),
        layout=layout,
        kv_dtype=cells.get("kv_dtype", "").strip(),
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
    )


def _layout(tensor: int, pipeline: int, shared: int, expert: int) -> Layout:
    """Dense models say 1 x 1 for their experts; others say how their devices share the experts."""
    experts = shared * expert
    if experts <= 1:
        return Layout(tensor=tensor, pipeline=pipeline, group=tensor, expert=1)
    if experts % tensor:
        raise InputError(
            f"moe_tp_size x moe_ep_size is {experts}, which is no multiple of tp_size ({tensor}): the devices that "
            "share the experts have to be those of one or more copies of the attention"
        )
    return Layout(tensor=tensor, pipeline=pipeline, group=experts, expert=expert)


def _word(cells: Mapping[str, str], name: str) -> str:
    found = cells[name].strip()
    if not found:
        raise InputError(f"{name} is empty")
    return found


def _count(cells: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A whole number of at least 1, which tables also write as 8.0."""
    text = cells.get(name, "").strip()
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and value == int(value) and 1 <= value <= LARGEST):
        raise InputError(f"{name} is {short(text)!r}; expected a whole number from 1 to {LARGEST:,}")
    return int(value)


def _time(cells: Mapping[str, str], name: str) -> float | None:
    text = cells.get(name, "").strip()
    if not text or text.lower() in ("nan", "none", "null"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value > 0):
        raise InputError(f"{name} is {short(text)!r}; expected milliseconds, or nothing")
    return value
