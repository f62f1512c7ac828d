"""The units of a limit exactly as they are written, and what a unit that looks like one of them should have been."""

from __future__ import annotations

import re

from llmprof.check.verdict import Unit

UNITS: dict[Unit, dict[str, int]] = {
    "B": {
        "B": 1,
        **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGTP", 1)},
        **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", 1)},
    },
    "FLOP": {"FLOP": 1, **{f"{prefix}FLOP": 1000**power for power, prefix in enumerate("KMGTP", 1)}},
    "parameters": {"": 1},
    "ratio": {"": 1},
    "ms": {"": 1},
    "calls": {"": 1},
}
"""What may follow a number, by the unit of the quantity. GB is 1e9 bytes and GiB is 2**30."""

SAID: dict[Unit, str] = {
    "B": "bytes",
    "FLOP": "FLOPs",
    "parameters": "parameters",
    "ratio": "a ratio",
    "ms": "milliseconds",
    "calls": "calls",
}
EXAMPLE: dict[Unit, str] = {
    "B": "16 GiB",
    "FLOP": "1.5 TFLOP",
    "parameters": "6_738_415_616",
    "ratio": "1.5",
    "ms": "45",
    "calls": "162",
}


def unit_hint(unit: str, kind: Unit) -> str | None:
    """What to write instead of a unit that looks like one of ours."""
    if kind == "FLOP":
        single = re.sub(r"s\Z", "", unit, flags=re.IGNORECASE)
        near = [name for name in UNITS["FLOP"] if name.lower() == single.lower()]
        return f"write {near[0]}" if near else None
    if re.fullmatch(r"[kmgtp]b", unit, re.IGNORECASE):
        prefix = unit[0].upper()
        bits = "a small b means bits; " if unit[-1] == "b" and unit[0].isupper() else ""
        return f"{bits}write {prefix}B (powers of 1000) or {prefix}iB (powers of 1024)"
    if re.fullmatch(r"[kmgtp]i?(?:b|bytes?)?|bytes?|b", unit, re.IGNORECASE):
        letters = unit.lower().removesuffix("s").removesuffix("byte").removesuffix("b")
        if len(letters) == 1:
            return f"write {letters.upper()}B (powers of 1000) or {letters.upper()}iB (powers of 1024)"
        return f"write {letters[:1].upper()}{letters[1:]}B"
    return None
