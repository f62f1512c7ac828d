"""`llmprof devices`: the catalogue in every format, one device with its sources, and what is in this machine."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import pytest

from llmprof import device
from llmprof.measure import present
from llmprof.measure.present import Machine, Present
from llmprof.report.device_tables import amount
from tests.cli.conftest import Cli

# --- list -------------------------------------------------------------------------------------------


def test_the_list_names_every_device_and_fits(cli: Cli) -> None:
    done = cli("devices", "list")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(device.entries())]] == [d.name for d in device.entries()]
    assert max(map(len, lines)) <= 120
    (h200,) = [line for line in lines if line.startswith("h200 ")]
    assert h200.split("   ")[0:1] == ["h200"]
    assert " ".join(h200.split()) == "h200 nvidia sm90 141 GB 4.8 TB/s 989 1,979 132 50 MiB 700 W"


def test_the_list_as_data(cli: Cli) -> None:
    found = cli("devices", "list", "--format", "json").json
    assert found["schema_version"] == 1
    assert [each["name"] for each in found["devices"]] == [each.name for each in device.entries()]
    (a100,) = [each for each in found["devices"] if each["name"] == "a100-sxm-80gb"]
    assert a100["memory_bytes"] == 80 * 10**9
    assert a100["memory_bandwidth_bytes_per_s"] == 2_039 * 10**9
    assert (a100["peak_bf16_flops_per_s"], a100["peak_tf32_flops_per_s"]) == (312 * 10**12, 156 * 10**12)
    assert (a100["peak_fp8_flops_per_s"], a100["peak_fp4_flops_per_s"]) == (None, None)
    assert (a100["units"], a100["sram_per_unit_bytes"], a100["last_level_cache_bytes"]) == (108, 164 * 1024, 40 * 2**20)
    assert (a100["clock_hz"], a100["architecture"]) == (1_410_000_000, "sm80")
    assert (a100["interconnect"], a100["interconnect_bytes_per_s_per_direction"]) == ("nvlink", 300 * 10**9)
    assert a100["board_power_watts"] == 400
    rows = list(csv.DictReader(io.StringIO(cli("devices", "list", "--format", "csv").out)))
    assert [row["name"] for row in rows] == [each.name for each in device.entries()]
    assert {row["memory_bytes"] for row in rows if row["name"] == "epyc-9654"} == {""}
    assert "| h200 | nvidia | sm90 | 141 GB |" in cli("devices", "list", "--format", "markdown").out


@pytest.mark.parametrize("vendor", ["nvidia", "amd", "intel", "google", "apple"])
def test_the_list_of_one_vendor(cli: Cli, vendor: str) -> None:
    found = cli("devices", "list", "--vendor", vendor, "--format", "json").json["devices"]
    assert found
    assert [each["name"] for each in found] == [each.name for each in device.entries() if each.vendor == vendor]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list", "--vendor", "acme"), "--vendor"),
        (("list", "--format", "yaml"), "--format"),
        (("show", "h200", "--format", "csv"), "--format"),
        (("detect", "--format", "csv"), "--format"),
        (("show", "h100"), "no device is called 'h100'; did you mean h100-pcie-80gb or h100-sxm-80gb?"),
        (("show", ""), "no device is called ''"),
    ],
)
def test_what_is_not_known_is_refused(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("devices", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


# --- show -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h200", "NVIDIA-H200", "h200-141gb"])
def test_one_device_with_its_places(cli: Cli, name: str) -> None:
    done = cli("devices", "show", name)
    assert (done.code, done.err) == (0, "")
    figures, places = done.out.split("Where each was read")
    assert figures.splitlines()[0] == "h200 (nvidia)"
    rows = {line.split()[0]: line.split() for line in figures.splitlines()[3:] if line}
    assert rows["memory"] == ["memory", "141", "GB", "3", "yes"]
    assert rows["interconnect"] == ["interconnect", "(nvlink)", "450", "GB/s", "2", "yes"]
    assert rows["architecture"] == ["architecture", "sm90", "2", "yes"]
    assert rows["board_power"] == ["board_power", "700", "W", "3", "yes"]
    assert "the host and cooling are not in it" in figures
    assert "NO" not in figures
    assert "also called nvidia-h200" in figures
    assert "1_830 MHz" in figures
    for figure in device.find("h200").figures.values():
        assert all(source.url in places and str(source.read) in places for source in figure.sources)


def test_what_is_left_out_is_said(cli: Cli) -> None:
    out = cli("devices", "show", "epyc-9654").out
    assert "not known from two places: memory, peak_flops" in out
    assert "its memory is what is installed" in out


def test_one_device_as_data(cli: Cli) -> None:
    found = cli("devices", "show", "mi300x", "--format", "json").json
    assert found["memory_bytes"] == 192 * 10**9
    assert found["figures"]["peak_flops.bf16"]["value"] == 1_307 * 10**12
    assert found["figures"]["peak_flops.bf16"]["confirmed"] is True
    assert {source["read"] for source in found["figures"]["units"]["sources"]} == {"2026-11-30"}
    assert len(found["architecture_sources"]) == 2
    assert "| units | 304 | 2 | yes |" in cli("devices", "show", "mi300x", "--format", "markdown").out


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        (141 * 10**9, "memory", "141 GB"),
        (460_800_000_000, "memory_bandwidth", "460.8 GB/s"),
        (2_039 * 10**9, "memory_bandwidth", "2.039 TB/s"),
        (10**16, "peak_flops.fp4", "10,000 TFLOP/s"),
        (228 * 1024, "sram_per_unit", "228 KiB"),
        (50 * 2**20, "last_level_cache", "50 MiB"),
        (1_980_000_000, "clock", "1,980 MHz"),
        (132, "units", "132"),
        (1_400, "board_power", "1,400 W"),
        (7, "memory", "7 B"),
    ],
)
def test_a_figure_is_exact_with_its_unit(value: int, key: str, text: str) -> None:
    assert amount(value, key) == text


# --- detect -----------------------------------------------------------------------------------------

H100 = Present(
    kind="gpu",
    name="NVIDIA H100 80GB HBM3",
    says="NVML, driver 575.57.08",
    called=("NVIDIA-H100-80GB-HBM3",),
    fields={
        "memory_total_bytes": 85_520_809_984,
        "sm_clock_max_mhz": 1980,
        "compute_capability": "9.0",
        "nvlinks_active": None,
        "mig_enabled": False,
    },
    missing={"nvlinks_active": "NVMLError: Not Supported"},
)
CPU = Present(
    kind="cpu",
    name="Acme X 9",
    says="/proc",
    called=("Acme-X-9",),
    fields={"sockets": 1, "cores": 8, "memory_total_bytes": 2**34},
)


def test_what_is_here_stands_beside_the_catalogue(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present, "machine", lambda: Machine(devices=(H100, CPU), notes=("something else",)))
    done = cli("devices", "detect")
    assert (done.code, done.err) == (0, "")
    rows = {" ".join(line.split()) for line in done.out.splitlines()}
    assert "NVIDIA H100 80GB HBM3 (gpu, by NVML, driver 575.57.08): h100-sxm-80gb of the catalogue" in rows
    assert "memory_total_bytes 85,520,809,984 80 GB" in rows
    assert "sm_clock_max_mhz 1,980 1,980 MHz" in rows
    assert "compute_capability 9.0 sm90" in rows
    assert "nvlinks_active unknown: NVMLError: Not Supported" in rows
    assert "mig_enabled no" in rows
    assert "Acme X 9 (cpu, by /proc): not in the catalogue by this name" in rows
    assert "something else" in rows
    found = cli("devices", "detect", "--format", "json").json
    assert found["devices"][0]["device"]["name"] == "h100-sxm-80gb"
    assert found["devices"][0]["fields"]["memory_total_bytes"] == 85_520_809_984
    assert found["devices"][0]["missing"] == {"nvlinks_active": "NVMLError: Not Supported"}
    assert found["devices"][1]["device"] is None
    assert found["notes"] == ["something else"]


def test_a_part_of_a_name_is_never_taken_for_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Present(kind="gpu", name="NVIDIA H100", says="NVML", called=("NVIDIA-H100",), fields={})
    monkeypatch.setattr(present, "machine", lambda: Machine(devices=(other,), notes=()))
    assert cli("devices", "detect", "--format", "json").json["devices"][0]["device"] is None


def test_nothing_here_is_exit_3_with_the_reasons(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present, "machine", lambda: Machine(devices=(), notes=("no GPU: a", "no CPU: b")))
    done = cli("devices", "detect")
    assert (done.code, done.out) == (3, "")
    assert "nothing is detected here: no GPU: a; no CPU: b" in done.err


def test_no_command_imports_torch() -> None:
    code = (
        "import sys\nfrom llmprof.cli.app import run\n"
        "codes = [run(['devices', *words]) for words in (['list'], ['show', 'h200'], ['detect'])]\n"
        "assert codes[:2] == [0, 0] and codes[2] in (0, 3), codes\n"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
