"""What NVML says about a GPU: clocks, power, memory, driver. Never required, never an exception.

The module is `pynvml` of the package nvidia-ml-py. Every field that cannot be read is None, and
`missing` says why: a record must show that something was not known, and a laptop without a GPU must not fail.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

Value = int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value, or None and the reason."""

    value: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """The fields of one GPU by name, units in the names; `missing` gives a reason for each that is None."""

    fields: dict[str, Value]
    missing: dict[str, str]

    def as_record(self) -> dict[str, object]:
        """The fields, and `missing` below them, ready for JSON."""
        return {**self.fields, "missing": dict(self.missing)}


class GpuProperties(Protocol):
    """What identifies a GPU to both torch and NVML: a part of `torch.cuda.get_device_properties`.

    `pci_bus_id`, `pci_device_id` and `pci_domain_id` are read too where they exist.
    """

    @property
    def uuid(self) -> object:
        """The UUID, without a prefix."""


FIELDS = (
    "name",
    "driver_version",
    "cuda_driver_version",
    "memory_total_bytes",
    "memory_free_bytes",
    "sm_clock_mhz",
    "sm_clock_max_mhz",
    "memory_clock_mhz",
    "memory_clock_max_mhz",
    "power_draw_mw",
    "power_draw_kind",
    "power_limit_mw",
    "temperature_c",
    "mig_enabled",
    "pcie_generation",
    "pcie_generation_max",
    "pcie_width",
    "pcie_width_max",
)
"""Every field that `read_gpu` returns. `power_draw_kind` is ``instant`` or ``average`` (over about a second)."""


def driver_version() -> Reading:
    """The version of the loaded NVIDIA driver."""
    try:
        with session() as nvml:
            return Reading(value=_text(nvml.nvmlSystemGetDriverVersion()))
    except Exception as error:
        return Reading(value=None, reason=why(error))


def read_gpu(properties: GpuProperties) -> GpuReading:
    """What NVML says now about the GPU that torch knows by `properties`.

    The GPU is found by its UUID, then by its PCI address, never by its number: CUDA_VISIBLE_DEVICES
    renumbers torch's devices and not NVML's. The UUID itself stays out of the result.
    """
    try:
        with session() as nvml:
            return _read(nvml, properties)
    except Exception as error:
        reason = why(error)
        return GpuReading(fields=dict.fromkeys(FIELDS), missing=dict.fromkeys(FIELDS, reason))


def _read(nvml: Any, properties: GpuProperties) -> GpuReading:
    fields: dict[str, Value] = dict.fromkeys(FIELDS)
    missing: dict[str, str] = {}

    def fill(names: tuple[str, ...], read: Callable[[], tuple[Value, ...]]) -> None:
        try:
            fields.update(zip(names, read(), strict=True))
        except Exception as error:
            missing.update(dict.fromkeys(names, why(error)))

    fill(("driver_version",), lambda: (_text(nvml.nvmlSystemGetDriverVersion()),))
    fill(("cuda_driver_version",), lambda: (_cuda_version(nvml.nvmlSystemGetCudaDriverVersion_v2()),))
    try:
        gpu = handle_of(nvml, properties)
    except Exception as error:
        rest = [name for name in FIELDS if fields[name] is None and name not in missing]
        missing.update(dict.fromkeys(rest, why(error)))
        return GpuReading(fields=fields, missing=missing)

    def memory() -> tuple[Value, ...]:
        info = nvml.nvmlDeviceGetMemoryInfo(gpu)
        return int(info.total), int(info.free)

    # Clocks, power and the bus belong to the whole board; a MIG slice has only its memory and its name.
    board = board_of(nvml, gpu)
    fill(("name",), lambda: (_text(nvml.nvmlDeviceGetName(gpu)),))
    fill(("memory_total_bytes", "memory_free_bytes"), memory)
    fill(("sm_clock_mhz",), lambda: (int(nvml.nvmlDeviceGetClockInfo(board, nvml.NVML_CLOCK_SM)),))
    fill(("sm_clock_max_mhz",), lambda: (int(nvml.nvmlDeviceGetMaxClockInfo(board, nvml.NVML_CLOCK_SM)),))
    fill(("memory_clock_mhz",), lambda: (int(nvml.nvmlDeviceGetClockInfo(board, nvml.NVML_CLOCK_MEM)),))
    fill(("memory_clock_max_mhz",), lambda: (int(nvml.nvmlDeviceGetMaxClockInfo(board, nvml.NVML_CLOCK_MEM)),))
    fill(("power_draw_mw", "power_draw_kind"), lambda: _power(nvml, board))
    fill(("power_limit_mw",), lambda: (int(nvml.nvmlDeviceGetEnforcedPowerLimit(board)),))
    fill(("temperature_c",), lambda: (int(nvml.nvmlDeviceGetTemperature(board, nvml.NVML_TEMPERATURE_GPU)),))
    fill(("mig_enabled",), lambda: (nvml.nvmlDeviceGetMigMode(board)[0] == nvml.NVML_DEVICE_MIG_ENABLE,))
    fill(("pcie_generation",), lambda: (int(nvml.nvmlDeviceGetCurrPcieLinkGeneration(board)),))
    fill(("pcie_generation_max",), lambda: (int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(board)),))
    fill(("pcie_width",), lambda: (int(nvml.nvmlDeviceGetCurrPcieLinkWidth(board)),))
    fill(("pcie_width_max",), lambda: (int(nvml.nvmlDeviceGetMaxPcieLinkWidth(board)),))
    return GpuReading(fields=fields, missing=missing)


def handle_of(nvml: Any, properties: GpuProperties) -> Any:
    """The NVML handle of the GPU that torch knows by `properties`, or LookupError with what was tried."""
    uuid = str(getattr(properties, "uuid", "")).removeprefix("GPU-").removeprefix("MIG-")
    attempts: list[tuple[str, Callable[[], Any]]] = []
    if uuid:
        attempts += [
            ("its UUID", lambda: nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")),
            ("its UUID as a MIG slice", lambda: nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")),
        ]
    bus, slot = getattr(properties, "pci_bus_id", None), getattr(properties, "pci_device_id", None)
    if isinstance(bus, int) and isinstance(slot, int):
        address = f"{getattr(properties, 'pci_domain_id', 0) or 0:08x}:{bus:02x}:{slot:02x}.0"
        attempts.append(("its PCI address", lambda: nvml.nvmlDeviceGetHandleByPciBusId(address)))
    failures = []
    for how, find in attempts:
        try:
            return find()
        except Exception as error:
            failures.append(f"{how} ({why(error)})")
    raise LookupError("NVML does not know torch's GPU by " + (", ".join(failures) or "anything torch says about it"))


def board_of(nvml: Any, gpu: Any) -> Any:
    """The handle of the whole board, of which `gpu` may be a slice."""
    try:
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(gpu) if nvml.nvmlDeviceIsMigDeviceHandle(gpu) else gpu
    except Exception:  # drivers before MIG: the handle is the board
        return gpu


def _power(nvml: Any, board: Any) -> tuple[Value, ...]:
    """Milliwatts drawn: this instant's where the driver has the field, else the average over a second."""
    try:
        (field,) = nvml.nvmlDeviceGetFieldValues(board, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn == nvml.NVML_SUCCESS:
            return int(field.value.uiVal), "instant"
    except Exception:  # an older driver or binding: the average is the next best, and is named so
        pass
    return int(nvml.nvmlDeviceGetPowerUsage(board)), "average"


def _cuda_version(packed: int) -> str:
    """NVML packs 12.8 as 12080."""
    return f"{packed // 1000}.{packed % 1000 // 10}"


@contextmanager
def session() -> Iterator[Any]:
    """NVML, initialised; it is shut down at the end. Raises what its import and its initialisation raise."""
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def why(error: Exception) -> str:
    """What failed, for a record."""
    if isinstance(error, ModuleNotFoundError):
        return "the package nvidia-ml-py is not installed"
    return f"{type(error).__name__}: {error}"
