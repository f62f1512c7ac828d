"""How tokens spread over experts, and over the devices that share them: the loads that decide a mixture's time.

Balanced: all experts alike. A power law: the load of an expert is drawn from x^-alpha between 1 and a largest that
grows with the tokens, as in the public tables that the constants were fitted to (ai-dynamo/aiconfigurator,
collector/helper.py, `sample_power_law`, read 2026-11-30), and the device with the largest load is timed, as all wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from math import ceil
from random import Random

TILES = (16, 32, 64, 128)
"""Rows of the tiles that kernels of grouped products choose from."""

DRAWS = 8
SPREAD = 200.0
"""Between the least and the largest load of few tokens."""

LARGEST_PART = 0.8
"""Of all tokens, for the busiest expert before loads are scaled to their sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one device gets: experts with any token, (token, expert) pairs, and tiles by their rows, on average."""

    active: float
    pairs: float
    tiles: tuple[float, ...]


@lru_cache(maxsize=65536)
def load(tokens: int, experts: int, per_token: int, devices: int, skew: float) -> Load:
    """The load of the busiest of `devices`, where `tokens` of all of them choose `per_token` of `experts`.

    `skew` is the exponent of the power law, 0 for balanced. More tokens are never less load.
    """
    local = max(1, experts // devices)
    pairs = tokens * per_token / devices
    if skew == 0:
        active = min(float(local), max(pairs, 1.0))
        return Load(active=active, pairs=pairs, tiles=tuple(active * ceil(pairs / active / rows) for rows in TILES))
    largest = max(SPREAD, LARGEST_PART * tokens)
    draws = [_busiest(tokens, per_token, local, shares) for shares in _shares(experts, skew, largest)]
    # Of each expert whether it has a token, or what part of one on average. Written out, as there are thousands.
    parts = [[n if n < 1.0 else 1.0 for n in loads] for loads in draws]
    active = max(1.0, sum(map(sum, parts)) / DRAWS)
    tiles = tuple(max(1.0, sum(map(_tiles, parts, draws, repeat(rows))) / DRAWS) for rows in TILES)
    return Load(active=active, pairs=sum(map(sum, draws)) / DRAWS, tiles=tiles)


def _tiles(parts: list[float], loads: list[float], rows: int) -> float:
    """Tiles of so many rows, half a tile of each expert filled up on average."""
    return sum([part * (n / rows + 0.5) if n > 0.5 * rows else part for part, n in zip(parts, loads, strict=True)])


def _busiest(tokens: int, per_token: int, local: int, shares: tuple[float, ...]) -> list[float]:
    """Tokens of each expert of the busiest device; no expert gets more than all of them."""
    most = float(tokens)
    loads = [n if (n := share * tokens * per_token) < most else most for share in shares]
    groups = [loads[start : start + local] for start in range(0, len(loads), local)]
    return max(groups, key=sum)


@lru_cache(maxsize=64)
def _shares(experts: int, skew: float, largest: float) -> tuple[tuple[float, ...], ...]:
    """Of a few draws, what part of all pairs each expert has: the same draws whatever the number of tokens."""
    power = 1 - skew
    found = []
    for draw in _uniform(experts):
        if skew == 1:
            loads = [largest**u for u in draw]
        else:
            loads = [((largest**power - 1) * u + 1) ** (1 / power) for u in draw]
        total = sum(loads)
        found.append(tuple(each / total for each in loads))
    return tuple(found)


@lru_cache(maxsize=64)
def _uniform(experts: int) -> tuple[tuple[float, ...], ...]:
    """Numbers in [0, 1), the same on every machine and in every version, as Python promises of `random()`."""
    return tuple(tuple(random.random() for _ in range(experts)) for random in map(Random, range(DRAWS)))
