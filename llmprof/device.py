"""Accelerators by name: how much memory each has, and every further figure with its own sources.

One YAML file of ``specs/devices`` describes one accelerator, in the same strict YAML as specs (docs/devices.md). A
name is found exactly or not at all: a part of a name is never taken for it, as an H100 is two devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.spec import source
from llmprof.spec.arch import PositiveInt, Source
from llmprof.spec.document import Name, Sources, Text
from llmprof.spec.nodes import Map, Node, short
from llmprof.spec.problems import Report
from llmprof.spec.validate import check
from llmprof.spec.yamlload import parse
from llmprof.units import parse_bytes

Target = Literal["sm70", "sm75", "sm80", "sm86", "sm89", "sm90", "sm100", "sm120", "gfx90a", "gfx942", "gfx950"]
"""What kernels are compiled for: NVIDIA's compute capabilities, AMD's targets of LLVM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number in base units (bytes, bytes per second, FLOPs per second, units), and where it was read."""

    value: int
    sources: tuple[Source, ...]

    @property
    def confirmed(self) -> bool:
        """Whether two different places said so on the day they were read."""
        return len({each.url for each in self.sources if each.confirmed}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator. What is None nobody has looked up yet; no figure is ever guessed from another.

    `memory` is what the vendor states, a gigabyte being 1e9 bytes. `peak_flops` are dense FLOPs per second of the
    matrix units by dtype, never those "with sparsity". `units` are streaming multiprocessors or compute units,
    `sram_per_unit` the shared memory (LDS) that one of them has, `last_level_cache` what lies right before the memory.
    `architecture` is the target that its kernels are compiled for: ``sm90``, ``gfx942``.
    """

    name: str
    aliases: tuple[str, ...]
    vendor: str
    notes: str | None
    memory: Figure
    memory_bandwidth: Figure | None
    peak_flops: dict[str, Figure]
    units: Figure | None
    sram_per_unit: Figure | None
    last_level_cache: Figure | None
    architecture: Target | None = None
    architecture_sources: tuple[Source, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """The memory that a model, its cache and its activations share."""
        return self.memory.value


def find(name: str) -> Device:
    """The device of this name or alias, upper or lower case.

    Raises InputError for a name that is not known, with those near to it.
    """
    wanted = name.strip().lower()
    for device in entries():
        if wanted == device.name or wanted in (alias.lower() for alias in device.aliases):
            return device
    raise _unknown(name, wanted)


@lru_cache(maxsize=1)
def entries() -> tuple[Device, ...]:
    """Every device of the catalogue, sorted by name. Raises InputError where this installation carries none."""
    return tuple(load(path) for path in sorted((catalog.root() / "devices").glob("*.yaml")))


def load(path: Path) -> Device:
    """The device in a YAML file, whose stem is its name. Raises SpecError with every problem of the file."""
    report = Report(str(path))
    tree = parse(source.read_file(path), file=str(path))
    written = check(_Document, tree, report)
    if written is not None:
        device = _device(written, tree, report)
        if device.name != path.stem:
            report.value(tree.items["name"], f"the name of the file, {path.stem!r}")
        report.raise_if_any()
        return device
    report.raise_if_any()
    raise AssertionError("a document is right or has problems")


# --- the file ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantity:
    """A figure with its unit (``141 GB``, ``4.8 TB/s``, ``989 TFLOP/s``)."""

    value: Annotated[str, MinLen(1)]
    source: Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    """A figure without a unit."""

    value: PositiveInt
    source: Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class _Architecture:
    """What kernels are compiled for."""

    value: Target
    source: Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peaks:
    """Dense peaks of the matrix units, by dtype."""

    fp32: _Quantity | None = None
    tf32: _Quantity | None = None
    bf16: _Quantity | None = None
    fp16: _Quantity | None = None
    fp8: _Quantity | None = None
    int8: _Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """One accelerator."""

    name: Name
    aliases: tuple[Text, ...] = ()
    vendor: Name
    notes: str | None = None
    memory: _Quantity
    memory_bandwidth: _Quantity | None = None
    peak_flops: _Peaks | None = None
    units: _Count | None = None
    sram_per_unit: _Quantity | None = None
    last_level_cache: _Quantity | None = None
    architecture: _Architecture | None = None


def _device(written: _Document, tree: Map, report: Report) -> Device:
    """The document with its figures in base units; reports those that have no unit, or another's."""

    def figure(key: str, quantity: _Quantity | None, unit: str) -> Figure | None:
        if quantity is None:
            return None
        value = _base_units(quantity.value, unit)
        if value is None:
            report.value(_value_at(tree, key), f"a figure with its unit, such as {_EXAMPLES[unit]}")
        return Figure(value=value or 0, sources=quantity.source)

    memory = figure("memory", written.memory, "B")
    assert memory is not None
    peaks: dict[str, Figure] = {}
    for dtype in _Peaks.__dataclass_fields__ if written.peak_flops is not None else ():
        found = figure(f"peak_flops.{dtype}", getattr(written.peak_flops, dtype), "FLOP/s")
        if found is not None:
            peaks[dtype] = found
    units = written.units
    return Device(
        name=written.name,
        aliases=written.aliases,
        vendor=written.vendor,
        notes=written.notes,
        memory=memory,
        memory_bandwidth=figure("memory_bandwidth", written.memory_bandwidth, "B/s"),
        peak_flops=peaks,
        units=None if units is None else Figure(value=units.value, sources=units.source),
        sram_per_unit=figure("sram_per_unit", written.sram_per_unit, "B"),
        last_level_cache=figure("last_level_cache", written.last_level_cache, "B"),
        architecture=None if written.architecture is None else written.architecture.value,
        architecture_sources=() if written.architecture is None else written.architecture.source,
    )


_EXAMPLES = {"B": "141 GB or 50 MiB", "B/s": "4.8 TB/s", "FLOP/s": "989 TFLOP/s"}


def _base_units(text: str, unit: str) -> int | None:
    """A figure in `unit`, whatever its prefix; None where it has another unit or is 0."""
    if not text.endswith(unit):
        return None
    try:
        # Bytes per second and FLOPs have the prefixes of bytes.
        return parse_bytes(f"{text.removesuffix(unit)}B", what="") or None
    except InputError:
        return None


def _value_at(tree: Map, path: str) -> Node:
    node: Node = tree
    for key in (*path.split("."), "value"):
        assert isinstance(node, Map)
        node = node.items[key]
    return node


def _unknown(name: str, wanted: str) -> InputError:
    known = {text.lower(): device.name for device in entries() for text in (device.name, *device.aliases)}
    # Only to suggest: a name that fits several devices is not taken for any of them.
    near = [device for text, device in known.items() if len(wanted) > 1 and text.startswith(wanted)]
    near = near or [known[text] for text in get_close_matches(wanted, known, n=3, cutoff=0.6)]
    names = list(dict.fromkeys(near))
    guess = f"did you mean {' or '.join(names)}?" if names else f"known are {', '.join(d.name for d in entries())}"
    return InputError(f"no device is called {short(name)!r}; {guess}")
