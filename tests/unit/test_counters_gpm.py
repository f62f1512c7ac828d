"""NVML's GPM with a fake NVML: the integral by hand, and every way in which it cannot be had. No GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from fake_nvml import Fake, NVMLError, gpu

from llmprof.measure.counters.gpm import Integral, integrate
from llmprof.measure.counters.unavailable import Unavailable


class World(Fake):
    """A GPU whose memory is busy as `busy` says, in percent; every pass takes `seconds` and `millijoules`."""

    NVML_GPM_METRIC_DRAM_BW_UTIL = 10
    NVML_GPM_METRICS_GET_VERSION = 1

    def __init__(self, *broken: str, busy: float = 50.0, supported: int = 1, code: int = 0) -> None:
        super().__init__(*broken)
        self.busy, self.supported, self.code = busy, supported, code
        self.time, self.energy, self.passes, self.samples = 0.0, 1000, 0, 0
        self.metric: list[int] = []

    def run(self) -> None:
        self.time += 0.1
        self.energy += 30
        self.passes += 1

    def now(self) -> float:
        return self.time

    def __getattr__(self, name: str) -> Any:
        mine = {
            "nvmlGpmQueryDeviceSupport": lambda h: SimpleNamespace(isSupportedDevice=self.supported),
            "nvmlGpmSampleAlloc": self._alloc,
            "nvmlGpmSampleFree": self._free,
            "nvmlGpmSampleGet": lambda h, sample: sample,
            "nvmlGpmMetricsGet": self._metrics,
            "c_nvmlGpmMetricsGet_t": lambda: SimpleNamespace(metrics=[SimpleNamespace()]),
            "nvmlDeviceGetMemoryBusWidth": lambda h: 5120,
            "nvmlDeviceGetTotalEnergyConsumption": lambda h: self.energy,
        }
        if name not in mine:
            return super().__getattr__(name)
        if name in self.broken:

            def refuse(*args: Any) -> Any:
                raise NVMLError("Not Supported")

            return refuse
        return mine[name]

    def _alloc(self) -> object:
        self.samples += 1
        return object()

    def _free(self, sample: object) -> None:
        self.samples -= 1

    def _metrics(self, asked: Any) -> Any:
        assert (asked.version, asked.numMetrics) == (1, 1)
        assert asked.sample1 is not asked.sample2
        self.metric.append(asked.metrics[0].metricId)
        asked.metrics[0].nvmlReturn, asked.metrics[0].value = self.code, self.busy
        return asked


def ask(monkeypatch: pytest.MonkeyPatch, world: World, **known: object) -> Integral:
    monkeypatch.setitem(sys.modules, "pynvml", world)
    try:
        return integrate(world.run, lambda: None, gpu(**known), seconds=2.0, now=world.now)
    finally:
        assert world.open == 0
        assert world.samples == 0, "every sample is freed"


def test_the_integral_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    found = ask(monkeypatch, world)
    # One pass to begin with, then samples after 3 passes of 0.1 s each (0.3 s >= 0.25 s), until 2 s are over: 7 x 3.
    assert (found.passes, found.samples, world.passes) == (21, 7, 22)
    assert found.seconds == pytest.approx(2.1)
    # 2620 MHz x 2 x 5120 bits / 8 = 3.3536e12 bytes a second, half of it busy for 0.1 s.
    assert found.peak_bytes_per_s == 2620 * 10**6 * 2 * 5120 / 8
    assert found.dram_bytes == pytest.approx(3.3536e12 * 0.5 * 0.1)
    assert found.utilisation == pytest.approx(0.5)
    assert found.joules == pytest.approx(0.030)
    assert set(world.metric) == {10}


def test_energy_that_is_not_there_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(monkeypatch, World("nvmlDeviceGetTotalEnergyConsumption"))
    assert (found.joules, found.energy_reason) == (None, "NVMLError: Not Supported")
    assert found.dram_bytes > 0


@pytest.mark.parametrize(
    ("world", "known", "message"),
    [
        (World(supported=0), {}, r"has no GPM \(it came with Hopper\); use Nsight Compute"),
        (World(code=3), {}, "does not say how busy the memory was .code 3"),
        (World(busy=float("nan")), {}, "does not say"),
        (World(busy=101.0), {}, "does not say"),
        (World("nvmlGpmSampleGet"), {}, "NVML does not answer: NVMLError: Not Supported"),
        (World("nvmlInit"), {}, "NVML does not answer: NVMLError: Driver Not Loaded"),
        (World(), {"uuid": "zzzz"}, "NVML does not know torch's GPU"),
        (World(), {"uuid": "cccc"}, "MIG slice"),
    ],
)
def test_every_failure_has_a_reason(
    monkeypatch: pytest.MonkeyPatch, world: World, known: dict[str, object], message: str
) -> None:
    with pytest.raises(Unavailable, match=message):
        ask(monkeypatch, world, **known)


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Unavailable, match="nvidia-ml-py is not installed"):
        integrate(lambda: None, lambda: None, gpu())
