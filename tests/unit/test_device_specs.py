"""The device catalogue: every figure has its sources, and a name is found exactly or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmprof import device
from llmprof.errors import InputError, SpecError

SMALL = """\
name: small
aliases: [Tiny-1]
vendor: acme
memory: {value: 12 GB, source: [{url: "https://a.example", read: 2026-11-23}, {url: "https://b.example", read: 2026-11-23}]}
memory_bandwidth: {value: 1.5 TB/s, source: {url: "https://a.example", read: recalled}}
peak_flops: {bf16: {value: 494.5 TFLOP/s, source: {url: "https://a.example", read: 2026-11-23}}}
units: {value: 8, source: {url: "https://a.example", read: 2026-11-23}}
sram_per_unit: {value: 228 KiB, source: {url: "https://a.example", read: 2026-11-23}}
last_level_cache: {value: 50 MiB, source: {url: "https://a.example", read: 2026-11-23}}
"""


def written(tmp_path: Path, text: str, name: str = "small.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def problem(tmp_path: Path, old: str, new: str) -> str:
    assert old in SMALL
    with pytest.raises(SpecError) as caught:
        device.load(written(tmp_path, SMALL.replace(old, new, 1)))
    return str(caught.value)


# --- the catalogue ------------------------------------------------------------------------------


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
    ],
)
def test_the_memory_of_every_device(name: str, memory: int) -> None:
    assert device.find(name).memory_bytes == memory


def figures(found: device.Device) -> list[device.Figure]:
    several = (found.memory, found.memory_bandwidth, found.units, found.sram_per_unit, found.last_level_cache)
    return [figure for figure in (*several, *found.peak_flops.values()) if figure is not None]


@pytest.mark.parametrize("found", device.entries(), ids=lambda found: found.name)
def test_every_figure_is_confirmed_by_two_places(found: device.Device) -> None:
    assert all(figure.confirmed and figure.value > 0 for figure in figures(found))
    assert all(source.where for figure in figures(found) for source in figure.sources)
    assert len({source.url for source in found.architecture_sources if source.confirmed}) > 1
    assert all(source.where for source in found.architecture_sources)


def test_the_figures_are_of_the_order_of_a_gpu() -> None:
    """A slip of a prefix is a factor of a thousand."""
    for found in device.entries():
        assert 10**10 < found.memory_bytes < 10**12
        assert found.memory_bandwidth is None or 10**11 < found.memory_bandwidth.value < 10**13
        assert all(10**13 < peak.value < 10**16 for peak in found.peak_flops.values())
        assert found.units is None or 10 < found.units.value < 500
        assert found.last_level_cache is None or 2**20 < found.last_level_cache.value < 2**30


def test_what_a_cache_model_and_tiles_need() -> None:
    """The chip of the same name has the same target; CUDA's table of shared memory per SM (KiB) by target."""
    shared = {"sm70": 96, "sm75": 64, "sm80": 164, "sm86": 100, "sm89": 100, "sm90": 228, "sm100": 228, "sm120": 100}
    told: dict[str, tuple[int, str, int | None]] = {
        found.name: (
            found.units.value,
            found.architecture or "",
            None if found.last_level_cache is None else found.last_level_cache.value // 2**20,
        )
        for found in device.entries()
        if found.units is not None
    }
    assert told == {
        "a10": (72, "sm86", 6),
        "a100-40gb": (108, "sm80", 40),
        "a100-pcie-80gb": (108, "sm80", 40),
        "a100-sxm-80gb": (108, "sm80", 40),
        "b200": (148, "sm100", None),
        "h100-pcie-80gb": (114, "sm90", 50),
        "h100-sxm-80gb": (132, "sm90", 50),
        "h200": (132, "sm90", 50),
        "l4": (58, "sm89", 48),
        "l40s": (142, "sm89", None),
        "mi250x": (220, "gfx90a", None),
        "mi300x": (304, "gfx942", 256),
        "mi325x": (304, "gfx942", 256),
        "rtx-3090": (82, "sm86", 6),
        "rtx-4090": (128, "sm89", 72),
        "rtx-5090": (170, "sm120", 96),
        "t4": (40, "sm75", 4),
        "v100-16gb": (80, "sm70", 6),
        "v100-32gb": (80, "sm70", 6),
    }
    for found in device.entries():
        assert found.sram_per_unit is not None
        assert found.sram_per_unit.value == 1024 * shared.get(found.architecture or "", 64), found.name


def test_a_target_that_is_none(tmp_path: Path) -> None:
    target = 'architecture: {value: sm91, source: {url: "https://a.example", read: 2026-11-30}}'
    assert "sm90" in problem(tmp_path, "units: {", f"{target}\nunits: {{")


def test_names_and_aliases_are_all_different() -> None:
    said = [name.lower() for found in device.entries() for name in (found.name, *found.aliases)]
    assert len(said) == len(set(said))
    assert len(device.entries()) == 19


# --- finding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"), [("H200", "h200"), ("nvidia-h200", "h200"), (" mi300x ", "mi300x"), ("Tesla-T4", "t4")]
)
def test_a_name_or_alias_is_found_in_any_case(name: str, found: str) -> None:
    assert device.find(name).name == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100", "no device is called 'h100'; did you mean h100-pcie-80gb or h100-sxm-80gb?"),
        ("a100", "did you mean a100-40gb or a100-pcie-80gb or a100-sxm-80gb?"),
        ("h20", "did you mean h200?"),
        ("h200x", "did you mean h200"),
        ("80gb", "known are a10,"),
        ("", "known are a10,"),
        ("l", "did you mean l4?"),
    ],
)
def test_what_is_not_a_name_is_never_taken_for_one(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", "[?]")):
        device.find(name)


# --- the file -----------------------------------------------------------------------------------


def test_a_file_in_base_units(tmp_path: Path) -> None:
    found = device.load(written(tmp_path, SMALL))
    assert (found.memory.value, found.memory_bandwidth and found.memory_bandwidth.value) == (12 * 10**9, 1_500 * 10**9)
    assert found.peak_flops["bf16"].value == 494_500_000_000_000
    assert (found.units and found.units.value, found.sram_per_unit and found.sram_per_unit.value) == (8, 228 * 1024)
    assert found.last_level_cache is not None
    assert found.last_level_cache.value == 50 * 2**20


def test_two_readings_confirm_and_a_memory_does_not(tmp_path: Path) -> None:
    found = device.load(written(tmp_path, SMALL))
    assert found.memory.confirmed
    assert found.memory_bandwidth is not None
    assert not found.memory_bandwidth.confirmed
    assert not found.peak_flops["bf16"].confirmed


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12 GB", "12", "small.yaml:4:17: memory.value: found 12; expected text"),
        ("12 GB", "12 G", "memory.value: found '12 G'; expected a figure with its unit, such as 141 GB or 50 MiB"),
        ("12 GB", "0 GB", "memory.value: found '0 GB'"),
        ("12 GB", "-12 GB", "memory.value: found '-12 GB'"),
        ("12 GB", "12 TB/s", "memory.value: found '12 TB/s'"),
        (
            "1.5 TB/s",
            "1.5 TB",
            "memory_bandwidth.value: found '1.5 TB'; expected a figure with its unit, such as 4.8 TB/s",
        ),
        ("494.5 TFLOP/s", "494.5 TFLOPS", "peak_flops.bf16.value: found '494.5 TFLOPS'"),
        ("peak_flops: {bf16", "peak_flops: {bf61", "unknown key 'bf61'"),
        ("vendor: acme", "vendors: acme", "unknown key 'vendors'"),
        ("memory: ", "memory_bandwith: ", "missing key 'memory'"),
        ("units: {value: 8", "units: {value: 8.5", "units.value: found 8.5"),
        ("name: small", "name: other", "name: found 'other'; expected the name of the file, 'small'"),
        (', source: {url: "https://a.example", read: recalled}', "", "missing key 'source'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in problem(tmp_path, old, new)


def test_the_example_of_the_documentation_loads(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    found = device.load(written(tmp_path, example, "h100-sxm-80gb.yaml"))
    assert found.memory == device.Figure(value=80 * 10**9, sources=found.memory.sources)
    assert found.memory.confirmed


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("12 GB", "12 cows").replace("1.5 TB/s", "fast").replace("228 KiB", "228")
    with pytest.raises(SpecError) as caught:
        device.load(written(tmp_path, text))
    # 228 is no text, which the form of the file already forbids; the units are looked at once the form is right.
    assert [each.path for each in caught.value.problems] == ["sram_per_unit.value"]
    with pytest.raises(SpecError) as caught:
        device.load(written(tmp_path, text.replace("value: 228,", "value: 228 KiB,")))
    assert [each.path for each in caught.value.problems] == ["memory.value", "memory_bandwidth.value"]
