"""A pynvml with two GPUs and a MIG slice behind it, whose calls can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As in pynvml."""


class Fake(ModuleType):
    """A pynvml with two GPUs behind it; `broken` names the calls that fail."""

    NVML_SUCCESS = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_FI_DEV_POWER_INSTANT = 186
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_FEATURE_ENABLED = 1

    def __init__(self, *broken: str) -> None:
        super().__init__("pynvml")
        self.broken = set(broken)
        self.open = 0
        self.asked: list[object] = []
        self.names = {"first": "NVIDIA A", "second": "NVIDIA B", "slice": "NVIDIA B MIG"}
        self.links = {"first": 18, "second": 0}

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Callable[..., Any]] = {
            "nvmlSystemGetDriverVersion": lambda: b"575.57.08",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 12090,
            "nvmlDeviceGetHandleByUUID": self._by_uuid,
            "nvmlDeviceGetHandleByPciBusId": self._by_address,
            "nvmlDeviceIsMigDeviceHandle": lambda h: h == "slice",
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda h: "second",
            "nvmlDeviceGetName": lambda h: self.names[h],
            "nvmlDeviceGetCount": lambda: len(self.links),
            "nvmlDeviceGetHandleByIndex": lambda n: list(self.links)[n],
            "nvmlDeviceGetMemoryBusWidth": lambda h: 5120,
            "nvmlDeviceGetCudaComputeCapability": lambda h: (9, 0),
            "nvmlDeviceGetNvLinkState": self._link,
            "nvmlDeviceGetMemoryInfo": lambda h: SimpleNamespace(total=80 * 10**9, free=79 * 10**9),
            "nvmlDeviceGetClockInfo": lambda h, kind: {1: 345, 2: 2619}[kind],
            "nvmlDeviceGetMaxClockInfo": lambda h, kind: {1: 1980, 2: 2620}[kind],
            "nvmlDeviceGetFieldValues": lambda h, ids: [self._field(ids[0])],
            "nvmlDeviceGetPowerUsage": lambda h: 71_000,
            "nvmlDeviceGetEnforcedPowerLimit": lambda h: 700_000,
            "nvmlDeviceGetTemperature": lambda h, sensor: 31,
            "nvmlDeviceGetMigMode": lambda h: [int(h == "second"), 0],
            "nvmlDeviceGetCurrPcieLinkGeneration": lambda h: 4,
            "nvmlDeviceGetMaxPcieLinkGeneration": lambda h: 5,
            "nvmlDeviceGetCurrPcieLinkWidth": lambda h: 8,
            "nvmlDeviceGetMaxPcieLinkWidth": lambda h: 16,
        }
        if name not in answers:
            raise AttributeError(name)

        def call(*args: Any) -> Any:
            if name in self.broken:
                raise NVMLError("Not Supported")
            self.asked.append((name, *args))
            return answers[name](*args)

        return call

    def nvmlInit(self) -> None:
        if "nvmlInit" in self.broken:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def _by_uuid(self, uuid: str) -> str:
        known = {"GPU-aaaa": "first", "GPU-bbbb": "second", "MIG-cccc": "slice"}
        if uuid not in known:
            raise NVMLError("Not Found")
        return known[uuid]

    def _by_address(self, address: str) -> str:
        known = {"00000000:1b:00.0": "first", "00000001:43:00.0": "second"}
        if address not in known:
            raise NVMLError("Not Found")
        return known[address]

    def _link(self, board: str, link: int) -> int:
        if link >= self.links[board]:
            raise NVMLError("Not Supported" if link == 0 else "Invalid Argument")
        return int(link != 3)  # one is down

    def _field(self, wanted: int) -> Any:
        assert wanted == 186
        code = 3 if "instant power" in self.broken else 0
        return SimpleNamespace(nvmlReturn=code, value=SimpleNamespace(uiVal=68_500))


def gpu(**known: object) -> Any:
    return SimpleNamespace(**{"uuid": "aaaa", **known})
