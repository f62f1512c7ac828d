"""Counters of ranges of one's own process, through CUPTI: what is launched between a push and a pop, added up.

    with Ranges(cupti, context, device_index, metrics, most) as ranges:
        counted = ranges.count(run)     # `run(push, pop)`, once for every pass of the hardware

The order of calls is that of CUPTI's documentation of the range profiler (docs.nvidia.com/cupti, and the sample
`range_profiling` of CUDA 12.6; recalled). No GPU has run this yet.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from llmprof.measure.counters.cupti_api import RANGE_PROFILER, USER_RANGE, USER_REPLAY, Cupti, image_of, names_of
from llmprof.measure.counters.unavailable import Unavailable

MOST_PASSES = 16
"""More passes than any set of counters here needs; beyond them something is wrong."""

Push = Callable[[str], object]
Pop = Callable[[], object]


class Ranges:
    """The range profiler of one context, set up for `metrics` and at most `most` ranges in a pass.

    `passes` is how often what is counted has to run.
    """

    def __init__(self, cupti: Cupti, context: int, device_index: int, metrics: tuple[str, ...], most: int) -> None:
        self._cupti, self._metrics, self._most = cupti, metrics, most
        self._names = names_of(metrics)
        self._host: int | None = None
        self._profiler: int | None = None
        cupti.call("ProfilerInitialize")
        chip = cupti.call("DeviceGetChipName", deviceIndex=device_index).pChipName
        size = cupti.call("ProfilerGetCounterAvailability", ctx=context).size
        self._availability = image_of(size)
        cupti.call("ProfilerGetCounterAvailability", ctx=context, size=size, image=self._availability)
        made = cupti.call(
            "ProfilerHostInitialize", profilerType=RANGE_PROFILER, pChipName=chip, availability=self._availability
        )
        self._host = made.host
        try:
            self._config, self.passes = self._schedule()
            self._profiler = cupti.call("RangeProfilerEnable", ctx=context).profiler
            self._data = self._counter_data()
        except Unavailable:
            self.close()
            raise

    def __enter__(self) -> Ranges:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the counters back."""
        if self._profiler is not None:
            self._cupti.call("RangeProfilerDisable", profiler=self._profiler)
            self._profiler = None
        if self._host is not None:
            self._cupti.call("ProfilerHostDeinitialize", host=self._host)
            self._host = None

    def _schedule(self) -> tuple[Any, int]:
        """The configuration that collects the metrics, and how many passes it needs."""
        call, host = self._cupti.call, self._host
        call("ProfilerHostConfigAddMetrics", host=host, names=self._names, count=len(self._metrics))
        size = call("ProfilerHostGetConfigImageSize", host=host).size
        config = image_of(size)
        call("ProfilerHostGetConfigImage", host=host, size=size, image=config)
        return config, int(call("ProfilerHostGetNumOfPasses", size=size, image=config).passes)

    def _counter_data(self) -> Any:
        """Room for the counters of all ranges."""
        size = self._cupti.call(
            "RangeProfilerGetCounterDataSize",
            profiler=self._profiler,
            names=self._names,
            count=len(self._metrics),
            ranges=self._most,
            nodes=self._most + 1,
        ).size
        data = image_of(size)
        self._cupti.call("RangeProfilerCounterDataImageInitialize", profiler=self._profiler, size=size, image=data)
        return data

    def count(self, run: Callable[[Push, Pop], object]) -> Mapping[str, Mapping[str, float]]:
        """Call `run` once for every pass, and return the counters of each range by its name.

        Raises Unavailable where CUPTI does not count them all.
        """
        call, profiler = self._cupti.call, self._profiler
        call(
            "RangeProfilerSetConfig",
            profiler=profiler,
            configSize=len(self._config),
            config=self._config,
            size=len(self._data),
            image=self._data,
            range=USER_RANGE,
            replay=USER_REPLAY,
            maxRangesPerPass=self._most,
            numNestingLevels=1,
            minNestingLevel=1,
            passIndex=0,
            targetNestingLevel=1,
        )
        for _ in range(MOST_PASSES):
            call("RangeProfilerStart", profiler=profiler)
            run(
                lambda name: call("RangeProfilerPushRange", profiler=profiler, rangeName=name.encode()),
                lambda: call("RangeProfilerPopRange", profiler=profiler),
            )
            if call("RangeProfilerStop", profiler=profiler).allPassesSubmitted:
                break
        else:
            raise Unavailable(f"CUPTI wants more than {MOST_PASSES} passes", "use Nsight Compute: --counters ncu")
        dropped = call("RangeProfilerDecodeData", profiler=profiler).dropped
        if dropped:
            raise Unavailable(f"CUPTI dropped {dropped} ranges", "use Nsight Compute: --counters ncu")
        return dict(self._range(number) for number in range(self._info()))

    def _info(self) -> int:
        found = self._cupti.call("RangeProfilerGetCounterDataInfo", image=self._data, size=len(self._data))
        return int(found.ranges)

    def _range(self, number: int) -> tuple[str, dict[str, float]]:
        """The name of a range, and its counters."""
        told = self._cupti.call(
            "RangeProfilerCounterDataGetRangeInfo",
            image=self._data,
            size=len(self._data),
            range=number,
            delimiter=b"/",
        )
        values = (ctypes.c_double * len(self._metrics))()
        self._cupti.call(
            "ProfilerHostEvaluateToGpuValues",
            host=self._host,
            image=self._data,
            size=len(self._data),
            range=number,
            names=self._names,
            count=len(self._metrics),
            values=values,
        )
        return told.rangeName.decode(), dict(zip(self._metrics, values, strict=True))
