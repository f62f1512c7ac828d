"""`plan --slo`, `--request-rate`, `--watts` and `--device-profile`: what they may say. Every error names its option."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.latency.local import Local
    from llmprof.planning.slo import Target

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
SLOWEST, FASTEST = 1e-6, 1e6
"""Fewer requests per second than one in eleven days, or more than a million, are a slip of the pen."""
LONGEST = 86_400.0
"""Seconds: a level of more than a day is a slip of the pen."""

SloOption = Annotated[
    str | None,
    typer.Option(
        "--slo",
        metavar="LEVELS",
        help="What is still good enough: ttft=500ms,tpot=30ms or one of them, the time to the first token and of each "
        "further one. Times are then predicted, beside their bounds.",
    ),
]
RateOption = Annotated[
    str | None,
    typer.Option(
        "--request-rate",
        metavar="R",
        help="Requests that arrive per second, at random times, in place of clients that wait for their answers; "
        "--concurrency is then the most that run at once.",
    ),
]
WattsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--watts",
        metavar="WATTS",
        help="The power of a device while it serves: one number, or h100-sxm=560,l40s=290 (also repeated). Default: "
        "the most that its board draws, where two places say it.",
    ),
]


def parse_target(slo: str | None, rate: str | None) -> Target | None:
    """What is asked; None where neither is. InputError for what is no level, no time or no rate."""
    if slo is None and rate is None:
        return None
    from llmprof.planning.slo import Slo, Target

    return Target(slo=Slo() if slo is None else Slo(**parse_slo(slo)), rate=None if rate is None else parse_rate(rate))


def parse_local(device_profile: str | None, target: Target | None) -> Local | None:
    """What was measured here; None where no times are predicted, and then InputError for a profile."""
    from llmprof.cli import local_option

    if target is not None:
        return local_option.parse(device_profile)
    if device_profile is not None:
        raise InputError("--device-profile has no effect without --slo or --request-rate; leave it out")
    return None


def parse_watts(given: Sequence[str] | None, devices: Sequence[Device], target: Target | None) -> dict[str, float]:
    """The stated watts of devices, by their names. InputError where no energy is said, and as `per_device.parse`."""
    if not given:
        return {}
    if target is None:
        raise InputError("--watts has no effect without --slo or --request-rate; leave it out")
    from llmprof.cli import per_device

    return per_device.parse(
        ",".join(given),
        devices,
        option="--watts",
        what="power",
        meaning="the watts that a device draws",
        example="560",
    )


def parse_slo(text: str) -> dict[str, float]:
    """Levels in seconds by their names."""
    from llmprof.cli import options
    from llmprof.planning.slo import METRICS

    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise InputError(
                f"--slo: found {_shown(part)}; expected a level and its time, such as ttft=500ms,tpot=30ms"
            )
        if len(name) > 64:
            raise InputError(f"--slo: found {_shown(name)}; expected ttft or tpot")
        options.choice(name, METRICS, option="--slo")
        if name in found:
            raise InputError(f"--slo: {name} is given twice; leave one out")
        found[name] = _seconds(value, name)
    return found


def parse_rate(text: str) -> float:
    """Requests per second."""
    value = _number(text)
    if value is None or not SLOWEST <= value <= FASTEST:
        raise InputError(
            f"--request-rate: found {_shown(text)}; expected requests per second, above 0 (at least {SLOWEST:f}) and "
            f"at most {FASTEST:,.0f}, such as 2.5"
        )
    return value


def _seconds(text: str, name: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|ms|us)", text, re.ASCII)
    if match is None:
        if _number(text):
            raise InputError(
                f"--slo {name}: found {_shown(text)} without a unit; expected s, ms or us, such as {text}ms"
            )
        raise InputError(f"--slo {name}: found {_shown(text)}; expected a time above 0 in s, ms or us, such as 500ms")
    value = float(match[1]) * UNITS[match[2]]
    if not 0 < value <= LONGEST:
        raise InputError(f"--slo {name}: found {_shown(text)}; expected a time above 0, and of a day at most")
    return value


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", text, re.ASCII) else None


def _shown(text: str) -> str:
    return repr(text.strip()) if len(text) <= 64 else f"a text of {len(text):,} characters"
