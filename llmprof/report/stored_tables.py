"""A file against an architecture as tables for people and as records for programs. Formats only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from llmprof.report.tables import Table
from llmprof.stored.fold import bare, fold, together
from llmprof.stored.joined import Item, Joined, Kind, Lacking
from llmprof.units import format_bytes

EXPLAINED = "Every value of the file has its place, and every parameter of the architecture its values."
COLUMNS = ("kind", "what", "path", "dtype", "shape", "tensors", "values", "bytes", "expected", "found", "note")
"""The columns of `records`."""


def pages(joined: Joined) -> list[Table]:
    """What the file holds by dtype, how the architecture comes to that, and what is beside, missing, or different."""
    tables = [_dtypes(joined), _balance(joined)]
    extras = _extras(joined)
    if extras:
        tables.append(_beside(extras))
    wrong = _wrong(joined)
    if wrong:
        tables.append(_without_place(wrong))
    lacking = _lacking(joined)
    if lacking:
        tables.append(_by_module(lacking))
    notes = (EXPLAINED,) if joined.explained else ()
    if joined.notes or notes:
        tables.append(Table(title="", columns=(), rows=(), notes=(*notes, *joined.notes)))
    return tables


def payload(joined: Joined) -> dict[str, object]:
    """The same for programs: raw counts; tensors whose names differ in numbers alone are one entry."""
    file = joined.file
    return {
        "spec": joined.arch.label,
        "file": file.path,
        "format": file.kind,
        "files": dict(file.files),
        "tensors": len(file.tensors),
        "elements": file.elements,
        "values": joined.values,
        "bytes": file.nbytes,
        "dtypes": [
            {"dtype": dtype, "tensors": count, "elements": elements, "bytes": nbytes}
            for dtype, count, elements, nbytes in file.by_dtype()
        ],
        "params_total": joined.params_total,
        "params_mtp": joined.further_expected,
        "held_bytes": joined.held_bytes,
        "stated_bytes": joined.stated_bytes,
        "balance": [{"what": what, "values": values} for what, values in joined.balance()],
        "kinds": [
            {"kind": kind.name.lower(), "tensors": count, "values": values, "bytes": nbytes}
            for kind, (count, values, nbytes) in joined.by_kind.items()
        ],
        "items": [_entry(name, group) for name, group in _folded(joined.items)],
        "lacking": [
            {
                "path": name,
                "parameter": group[0].name,
                "shape": list(group[0].shape),
                "expected": group[0].expected,
                "found": group[0].found,
                "differs": group[0].differs,
                "modules": len(group),
            }
            for name, group in _lacking(joined)
        ],
        "explained": joined.explained,
        "notes": list(joined.notes),
    }


def records(joined: Joined) -> list[dict[str, object]]:
    """The same as flat records: dtypes, the balance, the items, and what is lacking."""
    flat = [
        _record("dtype", dtype=dtype, tensors=count, values=elements, bytes=nbytes)
        for dtype, count, elements, nbytes in joined.file.by_dtype()
    ]
    flat += [_record("balance", what=what, values=values) for what, values in joined.balance()]
    flat += [_record("item", **_entry(name, group)) for name, group in _folded(joined.items)]
    for name, group in _lacking(joined):
        each = group[0]
        shape, fate = list(each.shape), _fate(each)
        flat.append(
            _record(
                "lacking", what=each.name, path=name, shape=shape, expected=each.expected, found=each.found, note=fate
            )
        )
    return flat


def _record(kind: str, **values: object) -> dict[str, object]:
    return {column: {**values, "kind": kind}.get(column) for column in COLUMNS}


def _entry(name: str, group: Sequence[Item]) -> dict[str, object]:
    first = group[0]
    return {
        "what": first.kind.name.lower(),
        "name": name,
        "path": together(item.path for item in group) or None,
        "dtype": first.tensor.dtype,
        "shape": list(first.tensor.shape),
        "tensors": sum(item.whole for item in group),
        "values": sum(item.values for item in group),
        "bytes": sum(item.nbytes for item in group),
        "note": first.note or None,
    }


# --- tables ---------------------------------------------------------------------------------------


def _dtypes(joined: Joined) -> Table:
    file = joined.file
    rows = [
        (dtype, f"{count:,}", f"{elements:,}", f"{nbytes:,}", format_bytes(nbytes))
        for dtype, count, elements, nbytes in file.by_dtype()
    ]
    rows.append(("all", f"{len(file.tensors):,}", f"{file.elements:,}", f"{file.nbytes:,}", format_bytes(file.nbytes)))
    size = sum(file.files.values())
    files = "1 file" if len(file.files) == 1 else f"{len(file.files):,} files"
    note = f"{files} of {size:,} bytes, of which {size - file.nbytes:,} are headers and padding."
    columns = ("dtype", "tensors", "values as stored", "bytes", "")
    return Table(title=f"{Path(file.path).name}: {file.kind}", columns=columns, rows=tuple(rows), notes=(note,))


def _balance(joined: Joined) -> Table:
    """From the architecture's parameters to the values of the file."""
    kinds = {kind.value: row for kind, row in joined.by_kind.items()}
    placed = joined.by_kind.get(Kind.PARAMETER, (0, 0, 0))
    rows = []
    for number, (what, values) in enumerate(joined.balance()):
        if number == 0:
            count, nbytes = f"{placed[0]:,}", f"{placed[2]:,}"
        elif what in kinds:
            count, nbytes = f"{kinds[what][0]:,}", f"{kinds[what][2]:,}"
        else:
            count = nbytes = ""
        rows.append((what, count, f"{values:,}" if number == 0 else f"{values:+,}", nbytes))
    file = joined.file
    rows.append(
        (f"values of {Path(file.path).name}", f"{len(file.tensors):,}", f"{joined.values:,}", f"{file.nbytes:,}")
    )
    packed = joined.values - file.elements
    notes = [f"Packed tensors are unpacked: they stand for {packed:,} values more than they show."] if packed else []
    if joined.stated_bytes is not None:
        notes.append(_stated(joined, joined.stated_bytes))
    title = f"From {joined.arch.label} to the file"
    return Table(title=title, columns=("", "tensors", "values", "bytes"), rows=tuple(rows), notes=tuple(notes))


def _stated(joined: Joined, stated: int) -> str:
    """The bytes of the parameters against those that the spec's release says."""
    held = f"The parameters, with what quantises them, take {joined.held_bytes:,} bytes"
    if joined.held_bytes == stated:
        return f"{held}, as the release of the spec has it."
    return f"{held}; the release of the spec has {stated:,}, so that this is another."


def _beside(extras: Sequence[tuple[str, list[Item]]]) -> Table:
    rows = [
        (_word(group[0]), name, _place(group), group[0].tensor.dtype, _shape(group[0].tensor.shape), *_sums(group))
        for name, group in extras
    ]
    columns = ("what", "tensors called", "of", "dtype", "shape", "tensors", "values", "bytes")
    return Table(title="Beside the parameters", columns=columns, rows=tuple(rows), left=5)


def _without_place(wrong: Sequence[tuple[str, list[Item]]]) -> Table:
    rows = [(_word(group[0]), name, group[0].tensor.dtype, group[0].note, *_sums(group)) for name, group in wrong]
    columns = ("what", "tensors called", "dtype", "why", "tensors", "values", "bytes")
    return Table(title="What is not understood", columns=columns, rows=tuple(rows), left=4)


def _by_module(lacking: Sequence[tuple[str, list[Lacking]]]) -> Table:
    rows = []
    for name, group in lacking:
        each = group[0]
        found = (f"{each.expected:,}", f"{each.found:,}")
        rows.append((name, each.name, _shape(each.shape), _fate(each), f"{len(group):,}", *found))
    columns = ("module", "parameter", "shape", "fate", "modules", "values of each", "found")
    return Table(title="Module by module: parameters without their values", columns=columns, rows=tuple(rows), left=4)


# --- groups ---------------------------------------------------------------------------------------

_BAD = (Kind.UNEXPLAINED, Kind.DIFFERS)


def _folded(items: Sequence[Item]) -> list[tuple[str, list[Item]]]:
    found = fold(
        items,
        lambda item: item.tensor.name,
        lambda item: (item.kind, item.tensor.dtype, item.tensor.shape, bare(item.path), bare(item.note), item.whole),
    )
    return sorted(found, key=lambda pair: list(Kind).index(pair[1][0].kind))


def _extras(joined: Joined) -> list[tuple[str, list[Item]]]:
    return _folded([item for item in joined.items if item.kind not in (Kind.PARAMETER, *_BAD)])


def _wrong(joined: Joined) -> list[tuple[str, list[Item]]]:
    return _folded([item for item in joined.items if item.kind in _BAD])


def _lacking(joined: Joined) -> list[tuple[str, list[Lacking]]]:
    return fold(
        joined.lacking,
        lambda each: each.path,
        lambda each: (each.name, each.shape, each.found, each.differs, each.further),
    )


def _word(item: Item) -> str:
    return item.kind.name.lower()


def _place(group: Sequence[Item]) -> str:
    return together(item.path for item in group) or "-"


def _sums(group: Sequence[Item]) -> Iterator[str]:
    yield f"{sum(item.whole for item in group):,}"
    yield f"{sum(item.values for item in group):,}"
    yield f"{sum(item.nbytes for item in group):,}"


def _fate(each: Lacking) -> str:
    if each.differs:
        return "another size"
    return "some experts are missing" if each.found else "missing"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) if shape else "one value"
