"""The list of the catalogue for people."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from llmprof.report.tables import Table
from llmprof.units import format_exact

ATTENTION_WIDTH = 19
"""Columns for the words about attention, so that the whole table fits in 120; more words go on in further rows."""

NOTES = (
    "Layers are those of all stacks. KV/token is what the caches of self-attention grow by per token in bf16, in "
    "bytes, while no window is full. Behind a name of attention are its query heads, and key-value heads where there "
    "are fewer.",
    "--variants has the variants too, each in a row of its own; --format json has the aliases.",
)


def list_table(records: Sequence[Mapping[str, Any]], *, wide: bool) -> Table:
    """A row for each record of `llmprof specs list`; `wide` has all counts of parameters and wraps nothing."""
    rows: list[tuple[str, ...]] = []
    for found in records:
        name = found["name"] if found["variant"] is None else f"{found['name']}:{found['variant']}"
        counts = ["params_total", "params_non_embedding", "params_active"] if wide else ["params_total"]
        figures = [f"{found['n_layers']}", *(format_exact(found[key]) for key in counts), _kv(found)]
        said = [found["attention"]] if wide else _lines(found["attention"])
        rows.append((name, found["family"], found["structure"], said[0], *figures))
        rows += [("", "", "", line, *[""] * len(figures)) for line in said[1:]]
    parameters = ("parameters", "non-embedding", "active") if wide else ("parameters",)
    columns = ("name", "family", "structure", "attention", "layers", *parameters, "KV/token")
    return Table(title="", columns=columns, rows=tuple(rows), left=4, notes=NOTES)


def _lines(attention: str) -> list[str]:
    """A line for each kind of layer, as narrow as the column is."""
    return [
        line
        for kind in attention.split(", ")
        for line in textwrap.wrap(kind, ATTENTION_WIDTH, break_on_hyphens=False, break_long_words=False)
    ]


def _kv(found: Mapping[str, Any]) -> str:
    """Bytes per token, exact; a part of a byte where several tokens share a row of compressed keys."""
    value = found["kv_cache_bytes_per_token"]
    return format_exact(value) if isinstance(value, int) else f"{value:,.2f}"
