"""The part of a device's profile that `plan` and `verify` use: constants of served ops, and what hosts add to a pass.

The constants are of the forms of the catalogue's (docs/latency.md) and fractions of the figures beside them; on the
device of that name they take the place of the catalogue's, and whatever was not measured stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from llmprof.device_figures import Device, KernelConstants, LatencyConstants
from llmprof.errors import InputError
from llmprof.latency.constants import Bound, DeviceModel
from llmprof.latency.estimate import kernel_seconds
from llmprof.latency.figures import Figures
from llmprof.latency.op import Collective, DecodeAttention, Elementwise, Gemm, Launch, Op, PrefillAttention
from llmprof.spec.arch import Source

NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Whole = Annotated[int, Gt(0)]
Words = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFigures:
    """What constants are fractions of: FLOPs per second, bytes per second, processors, bytes, hertz."""

    bf16: Whole
    fp8: Whole | None = None
    memory_bandwidth: Whole
    units: Whole
    last_level_cache: Whole
    clock: Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedKernel:
    """Constants of one kernel, the factors of its interval below and above 20 us, and its errors where held out.

    `timed` is how many times it was fitted to; `median_error` and `p90_error` are |predicted / measured - 1|.
    """

    op: Literal["gemm", "decode", "prefill", "elementwise", "allreduce", "launch"]
    dtype: Literal["bf16", "fp16", "fp8"]
    engine: Literal["torch"] | None = None
    form: Literal["searched", "split", "unsplit-mha", "per-head", "packed", "plain"] = "plain"
    constants: dict[str, NotNegative]
    short: tuple[Positive, ...]
    long: tuple[Positive, ...]
    timed: Whole
    median_error: NotNegative
    p90_error: NotNegative

    @property
    def kernel(self) -> KernelConstants:
        """The constants as a device's file has them."""
        return KernelConstants(
            op=self.op,
            dtype=self.dtype,
            engine=self.engine,
            form=self.form,
            constants=self.constants,
            short=(self.short[0], self.short[-1]),
            long=(self.long[0], self.long[-1]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which it was measured, None where nobody could say: lowest and highest clock, highest power, and limits.

    `kernels` are those that the device ran, by what was called.
    """

    driver: str | None = None
    sm_clock_mhz: tuple[Whole, ...] | None = None
    power_mw: Whole | None = None
    power_limit_mw: Whole | None = None
    kernels: dict[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What was fitted on the device that the catalogue calls `device`."""

    device: Words
    measured: Words
    figures: ServedFigures
    conditions: Conditions
    kernels: tuple[ServedKernel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConstant:
    """What one engine of one version adds to each pass on one device: fitted to `points` served runs.

    Errors are |predicted / measured - 1| of their times per token.
    """

    engine: Words
    version: str
    device: Words
    step_s: NotNegative
    points: Whole
    mean_error: NotNegative
    largest_error: NotNegative

    @property
    def basis(self) -> str:
        """What a time that rests on it says."""
        version = f" {self.version}" if self.version else ""
        return f"fitted to {self.points} served points of {self.engine}{version} on {self.device}"


_SAMPLES: dict[str, Op] = {
    "gemm": Gemm(m=64, n=4096, k=4096),
    "decode": DecodeAttention(batch=8, context=1024, heads=32, kv_heads=8, head_dim=128),
    "prefill": PrefillAttention(batch=1, new_tokens=1024, heads=32, kv_heads=8, head_dim=128),
    "elementwise": Elementwise(bytes=1 << 20),
    "allreduce": Collective(bytes=1 << 20, devices=2),
    "launch": Launch(kernels=1, graph=False),
}
_REPLAYED = Launch(kernels=1)


def problems(served: Served) -> Iterator[tuple[str, str]]:
    """(path within `served`, what was expected) of everything that types cannot see."""
    seen: set[tuple[str, str, str | None]] = set()
    for number, each in enumerate(served.kernels):
        path = f"kernels.{number}"
        for name, factors in (("short", each.short), ("long", each.long)):
            if len(factors) != 2 or not factors[0] <= 1 <= factors[1]:
                yield f"{path}.{name}", "a factor up to 1 and one from 1"
        if (each.op, each.dtype, each.engine) in seen:
            yield f"{path}.op", "one entry for each op, dtype and engine"
        seen.add((each.op, each.dtype, each.engine))
        lacking = _lacking(each, served)
        if lacking:
            yield f"{path}.constants", f"the constants of {each.op} {each.form}: {lacking}"
    clocks = served.conditions.sm_clock_mhz
    if clocks is not None and (len(clocks) != 2 or clocks[0] > clocks[1]):
        yield "conditions.sm_clock_mhz", "the lowest and the highest clock"


def _lacking(each: ServedKernel, served: Served) -> str:
    """Which constant the formula misses, or that it makes no time of them."""
    ops = [_SAMPLES[each.op], *((_REPLAYED,) if each.op == "launch" else ())]
    if isinstance(ops[0], Gemm):
        ops = [replace(ops[0], dtype=each.dtype)]
    bound = Bound(kernel=each.kernel, figures=figures_of(served.figures, link=1e9))
    try:
        good = all(kernel_seconds(op, bound) > 0 for op in ops)
    except KeyError as error:
        return f"{error.args[0]} is missing"
    except (ArithmeticError, ValueError, TypeError, IndexError):
        good = False
    return "" if good else "they make no time"


def figures_of(figures: ServedFigures, link: float | None = None) -> Figures:
    """The figures as formulas take them."""
    return Figures(
        bf16=figures.bf16,
        fp8=figures.fp8,
        bandwidth=figures.memory_bandwidth,
        units=figures.units,
        cache=figures.last_level_cache,
        clock=figures.clock,
        link=link,
    )


def applied(served: Served, device: Device) -> Device:
    """`device` with the measured constants before those of its file; `served` must be of it.

    InputError where the catalogue has other figures by now: fractions of the old ones would be wrong.
    """
    assert served.device == device.name
    own = device.latency
    if own is not None:
        stated = DeviceModel.of(device).figures
        if replace(stated, link=None) != figures_of(served.figures):
            raise InputError(
                f"the profile's figures of {device.name} are no longer those of the catalogue; run `llmprof calibrate`"
            )
    measured = tuple(each.kernel for each in served.kernels)
    kept = () if own is None else own.kernels
    replaced = {(each.op, each.dtype, each.engine) for each in measured}
    source = Source(url="https://pypi.org/project/llmprof/", where="llmprof calibrate", read=served.measured)
    figures = served.figures
    latency = LatencyConstants(
        sources=(source, *(() if own is None else own.sources)),
        bf16=figures.bf16,
        fp8=figures.fp8,
        memory_bandwidth=figures.memory_bandwidth,
        units=figures.units,
        last_level_cache=figures.last_level_cache,
        clock=figures.clock,
        kernels=(*measured, *(each for each in kept if (each.op, each.dtype, each.engine) not in replaced)),
    )
    return replace(device, latency=latency)


def joined(served: Served | None, before: Served | None) -> Served | None:
    """The kernels of `served`, and those of `before` that it has not, as far as both refer to the same figures."""
    if served is None or before is None:
        return served or before
    if (served.device, served.figures) != (before.device, before.figures):
        return served
    anew = {(each.op, each.dtype, each.engine) for each in served.kernels}
    kept = tuple(each for each in before.kernels if (each.op, each.dtype, each.engine) not in anew)
    return replace(served, kernels=(*served.kernels, *kept))


def host_of(hosts: tuple[HostConstant, ...], engine: str, version: str, device: str) -> HostConstant | None:
    """The constant of an engine on a device; of any version where none is asked for and one alone was fitted.

    InputError where several versions were, and none is asked for.
    """
    found = [each for each in hosts if (each.engine, each.device) == (engine, device)]
    exact = [each for each in found if each.version == version]
    if exact or version:
        return exact[0] if exact else None
    if len(found) > 1:
        versions = ", ".join(sorted(each.version for each in found))
        raise InputError(f"the profile has a constant of {engine} {versions} on {device}: of which version is not said")
    return found[0] if found else None


def written(value: Any) -> dict[str, Any]:
    """A part of a profile as YAML has it: floats with six digits, and nothing that is not known."""
    found: dict[str, Any] = _plain(asdict(value))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value
