"""Devices of the catalogue as tables and records: all of them, one with its sources, and those of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from llmprof.device_figures import Device, Figure
from llmprof.report.tables import Table
from llmprof.units import format_exact

if TYPE_CHECKING:
    from llmprof.spec.arch import Source

UNITS = {
    "memory": "B",
    "memory_bandwidth": "B/s",
    "peak_flops": "FLOP/s",
    "units": "",
    "sram_per_unit": "B",
    "last_level_cache": "B",
    "clock": "Hz",
    "interconnect": "B/s",
    "board_power": "W",
}
"""The base unit of each figure of a device; those of `peak_flops` are by dtype."""

BINARY = ("sram_per_unit", "last_level_cache")
"""Figures that vendors state in powers of two."""

LIST_NOTES = (
    "Memory as vendors state it, a gigabyte being 1e9 bytes; bf16, fp8: peaks in TFLOP/s, dense, never with sparsity; "
    "power: the most that the board draws. - is what no two places say alike. --format json has the rest.",
)

DIRECTION = "interconnect: of one direction, over all links of the device together."
POWER = "board_power: the most that the board draws as it is sold; the host and cooling are not in it."


def amount(value: int, key: str) -> str:
    """A figure with its unit, exact: ``141 GB``, ``4.8 TB/s``, ``50 MiB``, ``132``."""
    unit = UNITS[key.split(".")[0]]
    steps: list[tuple[int, str]]
    if not unit:
        return format_exact(value)
    if key in BINARY:
        steps = [(2**20, "Mi"), (2**10, "Ki")]
    elif unit == "B":
        steps = [(10**9, "G")]
    elif unit == "Hz":
        steps = [(10**6, "M")]
    else:
        steps = [(10**12, "T"), (10**9, "G")]
    scale, prefix = next((step for step in steps if value >= step[0]), (1, ""))
    return f"{_decimal(Fraction(value, scale))} {prefix}{unit}"


def _decimal(value: Fraction) -> str:
    """The exact decimal, which ends: scales are powers of ten or of two."""
    whole, rest = divmod(value, 1)
    digits = ""
    while rest:
        digit, rest = divmod(rest * 10, 1)
        digits += str(digit)
    return f"{whole:,}.{digits}" if digits else f"{whole:,}"


def _cell(figure: Figure | None, key: str) -> str:
    return "-" if figure is None else amount(figure.value, key)


# --- list -----------------------------------------------------------------------------------------


def list_table(devices: Sequence[Device]) -> Table:
    """A row for each device."""
    columns = ("name", "vendor", "target", "memory", "bandwidth", "bf16", "fp8", "units", "last cache", "power")
    rows = [
        (
            each.name,
            each.vendor,
            each.architecture or "-",
            _cell(each.memory, "memory"),
            _cell(each.memory_bandwidth, "memory_bandwidth"),
            _peak(each, "bf16"),
            _peak(each, "fp8"),
            _cell(each.units, "units"),
            _cell(each.last_level_cache, "last_level_cache"),
            _cell(each.board_power, "board_power"),
        )
        for each in devices
    ]
    return Table(title="", columns=columns, rows=tuple(rows), left=3, notes=LIST_NOTES)


def _peak(device: Device, dtype: str) -> str:
    peak = device.peak_flops.get(dtype)
    return "-" if peak is None else _decimal(Fraction(peak.value, 10**12))


DTYPES = ("fp32", "tf32", "bf16", "fp16", "fp8", "fp4", "int8")


def record(device: Device) -> dict[str, Any]:
    """The figures of one device in base units; null where no two places agree."""
    figures = device.figures

    def value(key: str) -> int | None:
        return figures[key].value if key in figures else None

    return {
        "name": device.name,
        "vendor": device.vendor,
        "architecture": device.architecture,
        "memory_bytes": value("memory"),
        "memory_bandwidth_bytes_per_s": value("memory_bandwidth"),
        **{f"peak_{dtype}_flops_per_s": value(f"peak_flops.{dtype}") for dtype in DTYPES},
        "units": value("units"),
        "sram_per_unit_bytes": value("sram_per_unit"),
        "last_level_cache_bytes": value("last_level_cache"),
        "clock_hz": value("clock"),
        "interconnect": None if device.interconnect is None else device.interconnect.kind,
        "interconnect_bytes_per_s_per_direction": value("interconnect"),
        "board_power_watts": value("board_power"),
        "aliases": list(device.aliases),
        "notes": device.notes,
    }


# --- show -----------------------------------------------------------------------------------------


def show_tables(device: Device) -> list[Table]:
    """Every figure and how many places say it; and those places."""
    found = [
        (_named(device, key), amount(figure.value, key), figure.sources, figure.confirmed)
        for key, figure in device.figures.items()
    ]
    if device.architecture is not None:
        target = Figure(value=1, sources=device.architecture_sources)
        found.append(("architecture", device.architecture, target.sources, target.confirmed))
    lacking = [key for key in UNITS if not any(each.split(".")[0] == key for each in device.figures)]
    notes = [f"also called {', '.join(device.aliases)}"] if device.aliases else []
    notes += [device.notes] if device.notes else []
    notes += [f"not known from two places: {', '.join(lacking)}"] if lacking else []
    notes += [DIRECTION] if device.interconnect is not None else []
    notes += [POWER] if device.board_power is not None else []
    figures = Table(
        title=f"{device.name} ({device.vendor})",
        columns=("figure", "value", "places", "confirmed by two"),
        rows=tuple((name, value, f"{len(places)}", "yes" if sure else "NO") for name, value, places, sure in found),
        notes=tuple(notes),
    )
    sources = Table(
        title="Where each was read",
        columns=("figure", "read", "place"),
        rows=tuple(row for name, _, places, _ in found for row in _places(name, places)),
        left=3,
    )
    return [figures, sources]


def _named(device: Device, key: str) -> str:
    return f"{key} ({device.interconnect.kind})" if key == "interconnect" and device.interconnect else key


def _places(name: str, sources: Sequence[Source]) -> list[tuple[str, str, str]]:
    where = [f"{each.url} ({each.where})" if each.where else each.url for each in sources]
    names = [name, *[""] * len(sources)]
    return [(names[n], str(each.read), where[n]) for n, each in enumerate(sources)]


def show_record(device: Device) -> dict[str, Any]:
    """The record of `list`, and every figure with its sources."""
    figures = {
        key: {
            "value": figure.value,
            "confirmed": figure.confirmed,
            "sources": [_source(source) for source in figure.sources],
        }
        for key, figure in device.figures.items()
    }
    places = [_source(source) for source in device.architecture_sources]
    return {**record(device), "figures": figures, "architecture_sources": places}


def _source(source: Source) -> dict[str, Any]:
    return {"url": source.url, "where": source.where, "read": str(source.read)}


# --- detect ---------------------------------------------------------------------------------------


def detect_table(found: Mapping[str, Any], device: Device | None) -> Table:
    """What the driver says of one device of this machine, beside the catalogue's figure of the same thing."""
    said = found["fields"]
    rows = [
        (name, *_beside(name, value, device)) if value is not None else (name, f"unknown: {found['missing'][name]}", "")
        for name, value in said.items()
    ]
    known = f"{device.name} of the catalogue" if device is not None else "not in the catalogue by this name"
    title = f"{found['name']} ({found['kind']}, by {found['says']}): {known}"
    return Table(title=title, columns=("field", "here", "catalogue"), rows=tuple(rows))


_SAME = {"memory_total_bytes": "memory", "sm_clock_max_mhz": "clock", "compute_capability": "architecture"}
"""What a driver says -> the catalogue's figure of the same thing."""


def _beside(name: str, value: Any, device: Device | None) -> tuple[str, str]:
    here = format_exact(value) if isinstance(value, int) and not isinstance(value, bool) else _word(value)
    if device is None or name not in _SAME:
        return here, ""
    if _SAME[name] == "architecture":
        return here, device.architecture or "-"
    figure = device.figures.get(_SAME[name])
    return here, "-" if figure is None else amount(figure.value, _SAME[name])


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
