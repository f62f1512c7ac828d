"""Quantities as text, and text as quantities. Inside, everything is an integer in base units.

GB is 1e9 bytes and GiB is 2**30, in print and in input alike.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from llmprof.errors import InputError

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_DECIMAL = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_NUMBER = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*\Z")


def _parse(text: str, *, suffix: str, what: str, example: str) -> int:
    match = _NUMBER.match(text)
    unit = match.group(2).removesuffix(suffix) if match else ""
    scale = {"": 1, **_BINARY, **_DECIMAL}.get(unit)
    if match is None or scale is None or (suffix and not match.group(2).endswith(suffix)):
        raise InputError(f"{what}: found {text!r}; expected a number such as {example}")
    value = Fraction(match.group(1).replace("_", "")) * scale
    if value.denominator != 1:
        raise InputError(f"{what}: {text!r} is not a whole number of {suffix or 'units'}")
    return int(value)


def parse_count(text: str, *, what: str) -> int:
    """A length such as ``4096``, ``4_096`` or ``4Ki``. Raises InputError naming `what`."""
    return _parse(text, suffix="", what=what, example="4096 or 4Ki")


def parse_bytes(text: str, *, what: str) -> int:
    """A size such as ``80GiB`` or ``16GB``; a unit is required. Raises InputError naming `what`."""
    return _parse(text, suffix="B", what=what, example="80GiB or 80GB")


def _scaled(value: int | float, steps: list[tuple[float, str]]) -> str:
    scale, unit = next((scale, unit) for scale, unit in steps if abs(value) >= scale)
    return f"{value / scale:.2f} {unit}"


def format_bytes(value: int | float) -> str:
    """Bytes in binary units, such as ``12.55 GiB``; below 1 KiB they are exact, or a part of a byte to two places."""
    if abs(value) < 1024:
        return f"{value} B" if isinstance(value, int) else f"{value:.2f} B"
    return _scaled(value, [(2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")])


def format_count(value: int | float) -> str:
    """A count in decimal units, such as ``6.74 G``; below a thousand it is exact."""
    if abs(value) < 1000:
        return f"{value}" if isinstance(value, int) else f"{value:.2f}"
    return _scaled(value, [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")])


def format_ratio(value: float) -> str:
    """A ratio to three places, such as ``0.125``; below 0.01 to three digits that say something (``0.000452``)."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.3f}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def format_exact(value: int) -> str:
    """An integer with thousands separators: nothing is rounded away."""
    return f"{value:,}"


def number_of(value: int, noun: str) -> str:
    """How many of what: ``1 request``, ``1,371 sequences``."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"
