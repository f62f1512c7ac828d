"""The YAML file of one accelerator: the same strict YAML as specs (docs/devices.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from llmprof.device_figures import (
    Device,
    Figure,
    Interconnect,
    KernelConstants,
    LatencyConstants,
    LinkKind,
    Target,
    Vendor,
)
from llmprof.errors import InputError
from llmprof.spec import source
from llmprof.spec.arch import PositiveFloat, PositiveInt
from llmprof.spec.document import Name, Sources, Text
from llmprof.spec.nodes import Map, Node, Seq
from llmprof.spec.problems import Report
from llmprof.spec.validate import check
from llmprof.spec.yamlload import parse
from llmprof.units import parse_bytes


def load(path: Path) -> Device:
    """The device in a YAML file, whose stem is its name. Raises SpecError with every problem of the file."""
    report = Report(str(path))
    tree = parse(source.read_file(path), file=str(path), root="a mapping with keys such as 'name:' and 'memory:'")
    written = check(_Document, tree, report)
    if written is not None:
        device = _device(written, tree, report)
        if device.name != path.stem:
            report.value(tree.items["name"], f"the name of the file, {path.stem!r}")
        report.raise_if_any()
        return device
    report.raise_if_any()
    raise AssertionError("a document is right or has problems")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantity:
    """A figure with its unit (``141 GB``, ``4.8 TB/s``, ``989 TFLOP/s``, ``1980 MHz``, ``700 W``)."""

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
class _Interconnect:
    """What one device has towards all others of its node, in one direction or in both together."""

    kind: LinkKind
    per: Literal["direction", "both"]
    value: Annotated[str, MinLen(1)]
    source: Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peaks:
    """Dense peaks of the matrix units, by dtype."""

    fp32: _Quantity | None = None
    tf32: _Quantity | None = None
    bf16: _Quantity | None = None
    fp16: _Quantity | None = None
    fp8: _Quantity | None = None
    fp4: _Quantity | None = None
    int8: _Quantity | None = None


Factors = tuple[PositiveFloat, ...]
"""What a time is multiplied by at the low and at the high end of its interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """The constants of one kernel, by the letters of docs/latency.md."""

    op: Literal["gemm", "decode", "prefill", "mla-decode", "mla-prefill", "mla-latent", "moe", "allreduce"]
    dtype: Literal["bf16", "fp8", "fp8_block"]
    engine: Literal["vllm", "trtllm", "sglang"] | None = None
    form: str = "plain"
    constants: dict[str, Annotated[float, Ge(0)]]
    short: Factors
    long: Factors


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latency:
    """What was fitted on this device, and the figures that its fractions refer to."""

    source: Sources
    bf16: Annotated[str, MinLen(1)]
    fp8: Annotated[str, MinLen(1)] | None = None
    memory_bandwidth: Annotated[str, MinLen(1)]
    units: PositiveInt
    last_level_cache: Annotated[str, MinLen(1)]
    clock: Annotated[str, MinLen(1)]
    kernels: tuple[_Kernel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """One accelerator."""

    name: Name
    aliases: tuple[Text, ...] = ()
    vendor: Vendor
    notes: str | None = None
    memory: _Quantity | None = None
    memory_bandwidth: _Quantity | None = None
    peak_flops: _Peaks | None = None
    units: _Count | None = None
    sram_per_unit: _Quantity | None = None
    last_level_cache: _Quantity | None = None
    architecture: _Architecture | None = None
    clock: _Quantity | None = None
    interconnect: _Interconnect | None = None
    board_power: _Quantity | None = None
    latency: _Latency | None = None


def _device(written: _Document, tree: Map, report: Report) -> Device:
    """The document with its figures in base units; reports those that have no unit, or another's."""

    def figure(key: str, quantity: _Quantity | _Interconnect | None, unit: str) -> Figure | None:
        if quantity is None:
            return None
        value = _base_units(quantity.value, unit)
        if value is None:
            report.value(_value_at(tree, key), f"a figure with its unit, such as {_EXAMPLES[unit]}")
        return Figure(value=value or 0, sources=quantity.source)

    memory = figure("memory", written.memory, "B")
    bandwidth = figure("memory_bandwidth", written.memory_bandwidth, "B/s")
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
        memory_bandwidth=bandwidth,
        peak_flops=peaks,
        units=None if units is None else Figure(value=units.value, sources=units.source),
        sram_per_unit=figure("sram_per_unit", written.sram_per_unit, "B"),
        last_level_cache=figure("last_level_cache", written.last_level_cache, "B"),
        architecture=None if written.architecture is None else written.architecture.value,
        architecture_sources=() if written.architecture is None else written.architecture.source,
        clock=figure("clock", written.clock, "Hz"),
        interconnect=_interconnect(written.interconnect, figure("interconnect", written.interconnect, "B/s")),
        board_power=figure("board_power", written.board_power, "W"),
        latency=None if written.latency is None else _latency(written.latency, tree, report),
    )


def _latency(written: _Latency, tree: Map, report: Report) -> LatencyConstants:
    """The constants with the figures they refer to in base units."""

    def base(key: str, unit: str) -> int:
        text = getattr(written, key)
        value = _base_units(text, unit)
        if value is None:
            report.value(_at(tree, f"latency.{key}"), f"a figure with its unit, such as {_EXAMPLES[unit]}")
        return value or 1

    for number, each in enumerate(written.kernels):
        for key, factors in (("short", each.short), ("long", each.long)):
            if len(factors) != 2 or not factors[0] <= 1 <= factors[1]:
                report.value(_at(tree, f"latency.kernels.{number}.{key}"), "a factor up to 1 and one from 1")
    return LatencyConstants(
        sources=written.source,
        bf16=base("bf16", "FLOP/s"),
        fp8=None if written.fp8 is None else base("fp8", "FLOP/s"),
        memory_bandwidth=base("memory_bandwidth", "B/s"),
        units=written.units,
        last_level_cache=base("last_level_cache", "B"),
        clock=base("clock", "Hz"),
        kernels=tuple(
            KernelConstants(
                op=each.op,
                dtype=each.dtype,
                engine=each.engine,
                form=each.form,
                constants=each.constants,
                short=_ends(each.short),
                long=_ends(each.long),
            )
            for each in written.kernels
        ),
    )


def _ends(factors: Factors) -> tuple[float, float]:
    """Both factors, which have been told if they are not two."""
    return (factors[0], factors[-1]) if factors else (1.0, 1.0)


def _interconnect(written: _Interconnect | None, stated: Figure | None) -> Interconnect | None:
    """The bandwidth of one direction: half of what a vendor states of both."""
    if written is None or stated is None:
        return None
    halves = 2 if written.per == "both" else 1
    return Interconnect(kind=written.kind, per_direction=Figure(value=stated.value // halves, sources=stated.sources))


_EXAMPLES = {"B": "141 GB or 50 MiB", "B/s": "4.8 TB/s", "FLOP/s": "989 TFLOP/s", "Hz": "1980 MHz", "W": "700 W"}


def _base_units(text: str, unit: str) -> int | None:
    """A figure in `unit`, whatever its prefix; None where it has another unit or is 0."""
    if not text.endswith(unit):
        return None
    try:
        # Bytes per second, FLOPs, hertz and watts have the prefixes of bytes.
        return parse_bytes(f"{text.removesuffix(unit)}B", what="") or None
    except InputError:
        return None


def _value_at(tree: Map, path: str) -> Node:
    return _at(tree, f"{path}.value")


def _at(tree: Map, path: str) -> Node:
    node: Node = tree
    for key in path.split("."):
        assert isinstance(node, Map | Seq)
        node = node.items[key] if isinstance(node, Map) else node.items[int(key)]
    return node
