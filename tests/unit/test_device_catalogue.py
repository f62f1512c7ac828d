"""What the catalogue of devices holds: every figure by hand once more, from two places, and none with sparsity."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from llmprof import device
from llmprof.errors import InputError


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("a100-40gb", 40 * 10**9),
        ("a100-pcie-80gb", 80 * 10**9),
        ("a100-sxm-80gb", 80 * 10**9),
        ("h100-pcie-80gb", 80 * 10**9),
        ("h100-sxm-80gb", 80 * 10**9),
        ("h200", 141 * 10**9),
        ("b200", 180 * 10**9),
        ("l4", 24 * 10**9),
        ("l40s", 48 * 10**9),
        ("a10", 24 * 10**9),
        ("rtx-3090", 24 * 10**9),
        ("rtx-4090", 24 * 10**9),
        ("rtx-5090", 32 * 10**9),
        ("v100-16gb", 16 * 10**9),
        ("v100-32gb", 32 * 10**9),
        ("t4", 16 * 10**9),
        ("mi300x", 192 * 10**9),
        ("mi325x", 256 * 10**9),
        ("mi250x", 128 * 10**9),
        ("a30", 24 * 10**9),
        ("h20", 96 * 10**9),
        ("gb200", 186 * 10**9),
        ("b300", 288 * 10**9),
        ("rtx-pro-6000-workstation", 96 * 10**9),
        ("rtx-pro-6000-max-q", 96 * 10**9),
        ("rtx-pro-6000-server", 96 * 10**9),
        ("mi210", 64 * 10**9),
        ("mi355x", 288 * 10**9),
        ("gaudi2", 96 * 10**9),
        ("gaudi3", 128 * 10**9),
        ("tpu-v4", 32 * 10**9),
        ("tpu-v5e", 16 * 10**9),
        ("tpu-v5p", 95 * 10**9),
        ("tpu-v6e", 32 * 10**9),
        ("m1-16gb", 16 * 10**9),
        ("m1-ultra-128gb", 128 * 10**9),
        ("m2-24gb", 24 * 10**9),
        ("m2-max-96gb", 96 * 10**9),
        ("m2-ultra-192gb", 192 * 10**9),
        ("m3-ultra-512gb", 512 * 10**9),
        ("m4-pro-64gb", 64 * 10**9),
        ("m4-max-128gb", 128 * 10**9),
    ],
)
def test_the_memory_of_every_device(name: str, memory: int) -> None:
    assert device.find(name).memory_bytes == memory


def test_the_memory_of_a_cpu_is_what_is_installed() -> None:
    cpu = device.find("AMD-EPYC-9654-96-Core-Processor")
    assert (cpu.name, cpu.memory, cpu.units and cpu.units.value) == ("epyc-9654", None, 96)
    with pytest.raises(InputError, match=r"epyc-9654 has no memory of its own: .* such as 384GiB"):
        cpu.memory_bytes  # noqa: B018 - to read it raises
    assert [found.name for found in device.entries() if found.memory is None] == ["epyc-9654"]


CODE = ("github.com", "raw.githubusercontent.com", "gist.github.com", "huggingface.co", "pypi.org")
"""Hosts of whoever has something to put there: who that is, the path says."""


def site(url: str) -> str:
    """Whose page an address is."""
    parts = urlsplit(url)
    return "/".join(parts.path.split("/")[1:3]) if parts.netloc in CODE else parts.netloc


@pytest.mark.parametrize("found", device.entries(), ids=lambda found: found.name)
def test_every_figure_is_confirmed_by_two_places(found: device.Device) -> None:
    assert all(figure.confirmed and figure.value > 0 for figure in found.figures.values())
    assert all(source.where for figure in found.figures.values() for source in figure.sources)
    for key, figure in found.figures.items():
        assert len({site(source.url) for source in figure.sources if source.confirmed}) > 1, key
    places = {site(source.url) for source in found.architecture_sources if source.confirmed}
    assert (found.architecture is None and not places) or len(places) > 1
    assert all(source.where for source in found.architecture_sources)


def test_the_figures_are_of_the_order_of_an_accelerator() -> None:
    """A slip of a prefix is a factor of a thousand."""
    for found in device.entries():
        apple, few = found.vendor == "apple", found.vendor == "google"
        assert found.memory is None or 10**10 < found.memory.value < 10**12
        assert found.memory_bandwidth is None or 10 ** (10 if apple else 11) < found.memory_bandwidth.value < 10**13
        assert all(10**13 < peak.value <= 10**16 for peak in found.peak_flops.values())
        assert found.units is None or (0 if few else 10) < found.units.value < 500
        assert found.last_level_cache is None or 2**20 < found.last_level_cache.value < 2**30
        assert found.clock is None or 10**9 < found.clock.value < 3 * 10**9
        assert found.interconnect is None or 10**10 < found.interconnect.per_direction.value < 10**12
        assert found.board_power is None or 50 < found.board_power.value < 1500


def test_wider_types_are_slower_by_two_and_sixteen_bits_are_alike() -> None:
    """A figure "with sparsity" among dense ones is off by two. Vendors round each for itself, by at most 1.5%."""

    def near(found: device.Device, fast: str, slow: str, ratio: float) -> None:
        if fast in found.peak_flops and slow in found.peak_flops:
            quotient = found.peak_flops[fast].value / found.peak_flops[slow].value
            assert abs(quotient / ratio - 1) < 0.015, (found.name, fast, slow)

    for found in device.entries():
        near(found, "fp16", "bf16", 1)
        near(found, "bf16", "tf32", 2)
        near(found, "fp8", "bf16", 2)
        near(found, "fp4", "fp8", 2)
        # A TPU v4 computes int8 as bf16 is; all others have 8 bits twice.
        near(found, "int8", "bf16", 1 if found.name == "tpu-v4" else 2)
        near(found, "int8", "fp16", 2)


RATES = {"sm80": 2048, "sm89": 1024, "sm90": 4096, "sm100": 8192, "gfx90a": 1024, "gfx942": 2048, "gfx950": 4096}
"""FLOPs per clock of one SM or compute unit in bf16, dense: 4 matrix cores of 256, 128, 512, .. FMAs each.

stas00/ml-engineering, compute/accelerator, "How To Calculate Theoretical TFLOPS", read 2026-11-30, for sm80, sm90 and
AMD's; sm100 as jax-ml/scaling-book, gpus.md, infers it from 148 SMs, read 2026-11-30; sm89: NVIDIA's Ada white paper,
recalled.
"""


def test_no_peak_is_above_what_the_units_can_do_at_their_highest_clock() -> None:
    """One with sparsity would be: peaks are 93% to 100% of it. A GeForce adds in FP32 at half the rate."""
    held = set()
    for found in device.entries():
        if "bf16" in found.peak_flops and found.units and found.clock and found.architecture in RATES:
            halves = 2 if found.name == "rtx-4090" else 1
            most = found.units.value * found.clock.value * RATES[found.architecture] // halves
            assert 0.92 < found.peak_flops["bf16"].value / most < 1.001, found.name
            held.add(found.name)
    assert {
        "a100-sxm-80gb",
        "h100-sxm-80gb",
        "h200",
        "b200",
        "l40s",
        "l4",
        "rtx-4090",
        "a30",
        "mi210",
        "mi250x",
        "mi300x",
        "mi355x",
    } <= held


def test_clocks_and_interconnects() -> None:
    """By hand: MHz, and GB/s of one direction; an entry for two forms of a board has neither that differs."""
    clocks = {each.name: each.clock.value // 10**6 for each in device.entries() if each.clock is not None}
    assert clocks == {
        "a100-40gb": 1410,
        "a100-pcie-80gb": 1410,
        "a100-sxm-80gb": 1410,
        "a30": 1440,
        "b200": 1965,
        "h100-pcie-80gb": 1755,
        "h100-sxm-80gb": 1980,
        "h200": 1980,
        "l4": 2040,
        "l40s": 2520,
        "mi210": 1700,
        "mi250x": 1700,
        "mi300x": 2100,
        "mi325x": 2100,
        "mi355x": 2400,
        "rtx-3090": 1695,
        "rtx-4090": 2520,
        "rtx-5090": 2407,
        "t4": 1590,
    }
    links = {
        each.name: (each.interconnect.kind, each.interconnect.per_direction.value // 10**9)
        for each in device.entries()
        if each.interconnect is not None
    }
    assert links == {
        "a100-sxm-80gb": ("nvlink", 300),  # 12 links of 25
        "h100-sxm-80gb": ("nvlink", 450),  # 18 links of 25
        "h20": ("nvlink", 450),
        "h200": ("nvlink", 450),
        "b200": ("nvlink", 900),  # 18 links of 50
        "b300": ("nvlink", 900),
        "gb200": ("nvlink", 900),
        "mi300x": ("xgmi", 448),  # 7 links of 64
        "l40s": ("pcie", 32),  # 16 lanes of 16 GT/s
    }


def test_the_power_of_boards() -> None:
    """By hand: watts. An entry for several forms of a board has none, nor one on whose power nobody agrees."""
    power = {each.name: each.board_power.value for each in device.entries() if each.board_power is not None}
    assert power == {
        "a10": 150,
        "a100-pcie-80gb": 300,
        "a100-sxm-80gb": 400,
        "a30": 165,
        "b200": 1000,
        "gaudi2": 600,
        "gb200": 1200,
        "h100-pcie-80gb": 350,
        "h100-sxm-80gb": 700,
        "h20": 400,
        "h200": 700,
        "l4": 72,
        "l40s": 350,
        "mi210": 300,
        "mi250x": 560,
        "mi300x": 750,
        "mi325x": 1000,
        "mi355x": 1400,
        "rtx-3090": 350,
        "rtx-4090": 450,
        "rtx-5090": 575,
        "rtx-pro-6000-max-q": 300,
        "rtx-pro-6000-server": 600,
        "rtx-pro-6000-workstation": 600,
        "t4": 70,
    }


def test_figures_without_which_a_device_is_not_planned() -> None:
    """By hand once more, where two places were found last."""
    peaks = {name: device.find(name).peak_flops["bf16"].value / 10**12 for name in ("a10", "mi210", "gaudi2")}
    assert peaks == {"a10": 125, "mi210": 181, "gaudi2": 432}
    assert device.find("rtx-pro-6000-workstation").peak_flops["bf16"].value == 503_800 * 10**9
    gaudi2 = device.find("gaudi2").figures["memory_bandwidth"].value
    assert gaudi2 == 2_460 * 10**9
    assert gaudi2 == round(6 * 1024 * 3.2e9 / 8, -10), "six stacks of 1,024 bits at 3.2 Gb/s, to three digits"
    # Two dies with a memory each: what they have together is nobody's bandwidth, and nothing may be planned by it.
    assert device.find("mi250x").memory_bandwidth is None


def test_what_a_cache_model_and_tiles_need() -> None:
    """The chip of the same name has the same target; CUDA's table of shared memory per SM (KiB) by target."""
    shared = {"sm70": 96, "sm75": 64, "sm80": 164, "sm86": 100, "sm89": 100, "sm90": 228, "sm100": 228}
    shared |= {"sm103": 228, "sm120": 100, "gfx90a": 64, "gfx942": 64, "gfx950": 160}
    told: dict[str, tuple[int, str, int | None]] = {
        found.name: (
            found.units.value,
            found.architecture,
            None if found.last_level_cache is None else found.last_level_cache.value // 2**20,
        )
        for found in device.entries()
        if found.units is not None and found.architecture is not None
    }
    assert told == {
        "a10": (72, "sm86", 6),
        "a100-40gb": (108, "sm80", 40),
        "a100-pcie-80gb": (108, "sm80", 40),
        "a100-sxm-80gb": (108, "sm80", 40),
        "a30": (56, "sm80", 24),
        "b200": (148, "sm100", 126),
        "h100-pcie-80gb": (114, "sm90", 50),
        "h100-sxm-80gb": (132, "sm90", 50),
        "h20": (78, "sm90", 60),
        "h200": (132, "sm90", 50),
        "l4": (58, "sm89", 48),
        "l40s": (142, "sm89", None),
        "mi210": (104, "gfx90a", 8),
        "mi250x": (220, "gfx90a", None),
        "mi300x": (304, "gfx942", 256),
        "mi325x": (304, "gfx942", 256),
        "mi355x": (256, "gfx950", 256),
        "rtx-3090": (82, "sm86", 6),
        "rtx-4090": (128, "sm89", 72),
        "rtx-5090": (170, "sm120", 96),
        "rtx-pro-6000-max-q": (188, "sm120", 128),
        "rtx-pro-6000-server": (188, "sm120", 128),
        "rtx-pro-6000-workstation": (188, "sm120", 128),
        "t4": (40, "sm75", 4),
        "v100-16gb": (80, "sm70", 6),
        "v100-32gb": (80, "sm70", 6),
    }
    for found in device.entries():
        assert (found.sram_per_unit is None) == (found.architecture is None), found.name
        if found.sram_per_unit is not None and found.architecture is not None:
            assert found.sram_per_unit.value == 1024 * shared[found.architecture], found.name


def test_names_and_aliases_are_all_different() -> None:
    said = [name.lower() for found in device.entries() for name in (found.name, *found.aliases)]
    assert len(said) == len(set(said))
    assert len(device.entries()) == 43
