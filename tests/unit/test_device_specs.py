"""Devices: the file of one, whose every figure has its sources, and names, found exactly or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmprof import device
from llmprof.errors import InputError, SpecError

SMALL = """\
name: small
aliases: [Tiny-1]
vendor: nvidia
memory: {value: 12 GB, source: [{url: "https://a.example", read: 2026-11-23}, {url: "https://b.example", read: 2026-11-23}]}
memory_bandwidth: {value: 1.5 TB/s, source: {url: "https://a.example", read: recalled}}
peak_flops: {bf16: {value: 494.5 TFLOP/s, source: {url: "https://a.example", read: 2026-11-23}}}
units: {value: 8, source: {url: "https://a.example", read: 2026-11-23}}
sram_per_unit: {value: 228 KiB, source: {url: "https://a.example", read: 2026-11-23}}
last_level_cache: {value: 50 MiB, source: {url: "https://a.example", read: 2026-11-23}}
clock: {value: 1980 MHz, source: {url: "https://a.example", read: 2026-11-23}}
interconnect: {kind: nvlink, per: both, value: 900 GB/s, source: {url: "https://a.example", read: 2026-11-23}}
board_power: {value: 1.4 kW, source: {url: "https://a.example", read: 2026-11-23}}
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


# --- finding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [("H200", "h200"), ("nvidia-h200", "h200"), (" mi300x ", "mi300x"), ("Tesla-T4", "t4"), ("H20", "h20")],
)
def test_a_name_or_alias_is_found_in_any_case(name: str, found: str) -> None:
    assert device.find(name).name == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100", "no device is called 'h100'; did you mean h100-pcie-80gb or h100-sxm-80gb?"),
        ("a100", "did you mean a100-40gb or a100-pcie-80gb or a100-sxm-80gb?"),
        ("h2", "did you mean h20 or h200?"),
        ("rtx-pro-6000", "did you mean rtx-pro-6000-max-q or rtx-pro-6000-server or rtx-pro-6000-workstation?"),
        ("m4-max", "did you mean m4-max-128gb?"),
        ("h200x", "did you mean h200"),
        ("zz", "known are a10,"),
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
    assert (found.memory_bytes, found.memory_bandwidth and found.memory_bandwidth.value) == (12 * 10**9, 1_500 * 10**9)
    assert found.peak_flops["bf16"].value == 494_500_000_000_000
    assert (found.units and found.units.value, found.sram_per_unit and found.sram_per_unit.value) == (8, 228 * 1024)
    assert found.last_level_cache is not None
    assert found.last_level_cache.value == 50 * 2**20
    assert found.clock is not None
    assert found.clock.value == 1_980_000_000
    assert found.interconnect is not None  # 900 GB/s of both directions
    assert (found.interconnect.kind, found.interconnect.per_direction.value) == ("nvlink", 450 * 10**9)
    assert found.board_power is not None
    assert found.board_power.value == 1400
    assert list(found.figures)[-4:] == ["last_level_cache", "clock", "interconnect", "board_power"]


def test_a_link_stated_for_one_direction_is_taken_as_it_is(tmp_path: Path) -> None:
    found = device.load(written(tmp_path, SMALL.replace("per: both, value: 900", "per: direction, value: 450")))
    assert found.interconnect is not None
    assert found.interconnect.per_direction.value == 450 * 10**9


def test_two_readings_confirm_and_a_memory_does_not(tmp_path: Path) -> None:
    found = device.load(written(tmp_path, SMALL))
    assert found.memory is not None
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
        ("vendor: nvidia", "vendors: nvidia", "unknown key 'vendors'"),
        ("memory: ", "memory_bandwith: ", "unknown key 'memory_bandwith'"),
        ("1980 MHz", "1980", "clock.value: found 1980; expected text"),
        ("1980 MHz", "1980 MB", "clock.value: found '1980 MB'; expected a figure with its unit, such as 1980 MHz"),
        ("kind: nvlink", "kind: ethernet", "interconnect.kind: found 'ethernet'"),
        ("per: both, ", "", "missing key 'per'"),
        ("per: both", "per: link", "interconnect.per: found 'link'"),
        ("900 GB/s", "900 GB", "interconnect.value: found '900 GB'"),
        ("1.4 kW", "1.4 kWh", "board_power.value: found '1.4 kWh'; expected a figure with its unit, such as 700 W"),
        ("vendor: nvidia", "vendor: acme", "vendor: found 'acme'"),
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
    assert found.memory is not None
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


def test_a_target_that_is_none(tmp_path: Path) -> None:
    target = 'architecture: {value: sm91, source: {url: "https://a.example", read: 2026-11-30}}'
    assert "sm90" in problem(tmp_path, "units: {", f"{target}\nunits: {{")
