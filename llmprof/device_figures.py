"""What the catalogue says about one accelerator: figures in base units, each with its own sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.errors import InputError
from llmprof.spec.arch import Source

Target = Literal[
    "sm70", "sm75", "sm80", "sm86", "sm89", "sm90", "sm100", "sm103", "sm120", "gfx90a", "gfx942", "gfx950"
]
"""What kernels are compiled for: NVIDIA's compute capabilities, AMD's targets of LLVM."""

Vendor = Literal["nvidia", "amd", "intel", "google", "apple"]

LinkKind = Literal["nvlink", "xgmi", "pcie", "ici", "roce"]
"""How devices of one node reach each other: NVLink, AMD's Infinity Fabric, PCIe, a TPU's links, or Ethernet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number in base units (bytes, their or FLOPs per second, hertz, watts, units), and where it was read."""

    value: int
    sources: tuple[Source, ...]

    @property
    def confirmed(self) -> bool:
        """Whether two different places said so on the day they were read."""
        return len({each.url for each in self.sources if each.confirmed}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Interconnect:
    """What one device has towards all others of its node together, whatever the number of links.

    `per_direction` is in bytes per second, half of what vendors state of both directions together.
    """

    kind: LinkKind
    per_direction: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelConstants:
    """What was fitted to measured times of one kernel on one device; docs/latency.md says what `constants` are.

    `dtype` is that of the weights, for attention of the cache. `engine` is whose kernel it is, None where all engines
    call the same. `form` names the variant of the formula. `short` and `long` are the factors around a time below and
    above 20 us between which 90% of the measurements lie.
    """

    op: str
    dtype: str
    engine: str | None
    form: str
    constants: dict[str, float]
    short: tuple[float, float]
    long: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyConstants:
    """Constants of kernels, and the figures of the device that they are fractions of, in base units.

    They are no figures of a datasheet: a fit is a statement about measurements, and is labelled as calibrated.
    """

    sources: tuple[Source, ...]
    bf16: int
    fp8: int | None
    memory_bandwidth: int
    units: int
    last_level_cache: int
    clock: int
    kernels: tuple[KernelConstants, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator. What is None nobody has looked up yet; no figure is ever guessed from another.

    `memory` is what the vendor states, a gigabyte being 1e9 bytes; a CPU has none of its own. `peak_flops` are dense
    FLOPs per second of the matrix units by dtype, never those "with sparsity". `units` are streaming multiprocessors,
    compute units or cores, `sram_per_unit` the shared memory (LDS) that one of them has, `last_level_cache` what lies
    right before the memory. `clock` is the highest of the units. `board_power` is the most that all of the device
    draws as it is sold, in watts. `architecture` is the target that its kernels are compiled for: ``sm90``,
    ``gfx942``. `latency` has the constants of its kernels where somebody has fitted them.
    """

    name: str
    aliases: tuple[str, ...]
    vendor: str
    notes: str | None
    memory: Figure | None
    memory_bandwidth: Figure | None
    peak_flops: dict[str, Figure]
    units: Figure | None
    sram_per_unit: Figure | None
    last_level_cache: Figure | None
    architecture: Target | None = None
    architecture_sources: tuple[Source, ...] = ()
    clock: Figure | None = None
    interconnect: Interconnect | None = None
    board_power: Figure | None = None
    latency: LatencyConstants | None = None

    @property
    def memory_bytes(self) -> int:
        """The memory that a model, its cache and its activations share.

        Raises InputError for a device without any of its own, which is a CPU.
        """
        if self.memory is None:
            raise InputError(
                f"{self.name} has no memory of its own: what is installed is its memory; "
                "say that as a number of bytes, such as 384GiB"
            )
        return self.memory.value

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by its key, those of `peak_flops` by dtype: ``peak_flops.bf16``."""
        link = self.interconnect
        named = {
            "memory": self.memory,
            "memory_bandwidth": self.memory_bandwidth,
            **{f"peak_flops.{dtype}": peak for dtype, peak in self.peak_flops.items()},
            "units": self.units,
            "sram_per_unit": self.sram_per_unit,
            "last_level_cache": self.last_level_cache,
            "clock": self.clock,
            "interconnect": None if link is None else link.per_direction,
            "board_power": self.board_power,
        }
        return {key: figure for key, figure in named.items() if figure is not None}
