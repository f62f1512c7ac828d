"""CUPTI's range profiler, as far as it is used: its functions, their parameters, and the library's place.

CUPTI comes with every build of torch for CUDA, where Nsight Compute has to be installed. Declarations as in the headers
cupti_range_profiler.h, cupti_profiler_host.h, cupti_target.h and cupti_profiler_target.h of nvidia-cuda-cupti 13.5.25,
read 2026-11-30; fields that were added at the end of a structure since CUDA 12.6 are left out, which its size tells.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_size_t, c_uint8, c_uint16, c_uint32, c_void_p
from pathlib import Path
from typing import Any

from llmprof.measure.counters.diagnosis import PERMISSION
from llmprof.measure.counters.unavailable import Unavailable

USER_RANGE, USER_REPLAY, RANGE_PROFILER = 2, 3, 0
"""CUPTI_UserRange, CUPTI_UserReplay, CUPTI_PROFILER_TYPE_RANGE_PROFILER."""

_Bytes = POINTER(c_uint8)
_Names = POINTER(c_char_p)
_FIELDS: dict[str, tuple[tuple[str, Any], ...]] = {
    "ProfilerInitialize": (),
    "DeviceGetChipName": (("deviceIndex", c_size_t), ("pChipName", c_char_p)),
    "ProfilerGetCounterAvailability": (("ctx", c_void_p), ("size", c_size_t), ("image", _Bytes)),
    "ProfilerHostInitialize": (
        ("profilerType", c_int),
        ("pChipName", c_char_p),
        ("availability", _Bytes),
        ("host", c_void_p),
    ),
    "ProfilerHostDeinitialize": (("host", c_void_p),),
    "ProfilerHostConfigAddMetrics": (("host", c_void_p), ("names", _Names), ("count", c_size_t)),
    "ProfilerHostGetConfigImageSize": (("host", c_void_p), ("size", c_size_t)),
    "ProfilerHostGetConfigImage": (("host", c_void_p), ("size", c_size_t), ("image", _Bytes)),
    "ProfilerHostGetNumOfPasses": (("size", c_size_t), ("image", _Bytes), ("passes", c_size_t)),
    "ProfilerHostEvaluateToGpuValues": (
        ("host", c_void_p),
        ("image", _Bytes),
        ("size", c_size_t),
        ("range", c_size_t),
        ("names", _Names),
        ("count", c_size_t),
        ("values", POINTER(c_double)),
    ),
    "RangeProfilerEnable": (("ctx", c_void_p), ("profiler", c_void_p)),
    "RangeProfilerDisable": (("profiler", c_void_p),),
    "RangeProfilerGetCounterDataSize": (
        ("profiler", c_void_p),
        ("names", _Names),
        ("count", c_size_t),
        ("ranges", c_size_t),
        ("nodes", c_uint32),
        ("size", c_size_t),
    ),
    "RangeProfilerCounterDataImageInitialize": (("profiler", c_void_p), ("size", c_size_t), ("image", _Bytes)),
    "RangeProfilerSetConfig": (
        ("profiler", c_void_p),
        ("configSize", c_size_t),
        ("config", _Bytes),
        ("size", c_size_t),
        ("image", _Bytes),
        ("range", c_int),
        ("replay", c_int),
        ("maxRangesPerPass", c_size_t),
        ("numNestingLevels", c_uint16),
        ("minNestingLevel", c_uint16),
        ("passIndex", c_size_t),
        ("targetNestingLevel", c_uint16),
    ),
    "RangeProfilerStart": (("profiler", c_void_p),),
    "RangeProfilerStop": (
        ("profiler", c_void_p),
        ("passIndex", c_size_t),
        ("targetNestingLevel", c_size_t),
        ("allPassesSubmitted", c_uint8),
    ),
    "RangeProfilerPushRange": (("profiler", c_void_p), ("rangeName", c_char_p)),
    "RangeProfilerPopRange": (("profiler", c_void_p),),
    "RangeProfilerDecodeData": (("profiler", c_void_p), ("dropped", c_size_t)),
    "RangeProfilerGetCounterDataInfo": (("image", _Bytes), ("size", c_size_t), ("ranges", c_size_t)),
    "RangeProfilerCounterDataGetRangeInfo": (
        ("image", _Bytes),
        ("size", c_size_t),
        ("range", c_size_t),
        ("delimiter", c_char_p),
        ("rangeName", c_char_p),
    ),
}
"""Function without its prefix ``cupti`` -> the fields of its parameters after structSize and pPriv, in their order."""

PARAMETERS: dict[str, type[Structure]] = {
    name: type(f"{name}Params", (Structure,), {"_fields_": [("structSize", c_size_t), ("pPriv", c_void_p), *fields]})
    for name, fields in _FIELDS.items()
}

_RESULTS = {
    26: ("another tool holds the GPU's performance counters", "stop what collects them (DCGM, another profiler)"),
    27: ("CUPTI does not support this GPU or its driver", "use Nsight Compute: --counters ncu"),
    35: ("this user may not read the GPU's performance counters (CUPTI_ERROR_INSUFFICIENT_PRIVILEGES)", PERMISSION),
    40: ("the virtual GPU does not let its guests read performance counters", "have its host allow it, or use another"),
}
"""CUptiResult -> reason and remedy: HARDWARE_BUSY, NOT_SUPPORTED, INSUFFICIENT_PRIVILEGES, VIRTUALIZED_DEVICE_..."""

_SONAMES = ("libcupti.so.13", "libcupti.so.12")


def size_of(parameters: type[Structure]) -> int:
    """What structSize has to say: up to the end of the last field, without padding."""
    name = parameters._fields_[-1][0]
    field = getattr(parameters, name)
    return int(field.offset + field.size)


class Cupti:
    """The library, whose functions raise what they return."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def call(self, name: str, **values: Any) -> Any:
        """Call ``cupti`` + `name` with these parameters and return the structure that it filled. Raises Unavailable."""
        kind = PARAMETERS[name]
        parameters = kind(structSize=size_of(kind), **values)
        try:
            function = getattr(self._library, f"cupti{name}")
        except AttributeError as error:
            raise Unavailable(
                f"this CUPTI has no cupti{name}: it is older than CUDA 12.6", "use Nsight Compute: --counters ncu"
            ) from error
        code = int(function(ctypes.byref(parameters)))
        if code:
            known = _RESULTS.get(code)
            raise Unavailable(
                *(known or (f"cupti{name} failed with code {code}", "use Nsight Compute: --counters ncu"))
            )
        return parameters


def load() -> Cupti:
    """CUPTI as torch brings it, or as the CUDA toolkit has it. Raises Unavailable."""
    tried = []
    for candidate in (*_SONAMES, *_beside_torch()):
        try:
            return Cupti(ctypes.CDLL(candidate))
        except OSError as error:
            tried.append(str(error))
    raise Unavailable(f"CUPTI cannot be loaded ({tried[0]})", "install a build of torch for CUDA, which brings it")


def _beside_torch() -> Iterator[str]:
    """The libraries in the packages that a build of torch for CUDA depends on."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield from sorted((str(path) for path in Path(place).glob("*/lib/libcupti.so.*")), reverse=True)


def names_of(metrics: tuple[str, ...]) -> Any:
    """An array of C strings."""
    return (c_char_p * len(metrics))(*(metric.encode() for metric in metrics))


def image_of(size: int) -> Any:
    """Bytes that a function fills."""
    return (c_uint8 * size)()
