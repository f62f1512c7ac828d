"""Loads of experts and of the device that has the largest, balanced and by a power law."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.latency.routing import TILES, load


@pytest.mark.parametrize(
    ("tokens", "experts", "per_token", "ep", "active", "pairs", "tiles"),
    [
        (8, 8, 1, 1, 8, 8, (8, 8, 8, 8)),  # one token each
        (1, 8, 2, 1, 2, 2, (2, 2, 2, 2)),  # two of eight have one
        (1, 8, 2, 8, 1, 0.25, (1, 1, 1, 1)),  # a quarter of a pair: still one expert's weights
        (1024, 8, 2, 1, 8, 2048, (128, 64, 32, 16)),  # 256 rows each
        (1024, 8, 2, 4, 2, 512, (32, 16, 8, 4)),
        (33, 1, 1, 1, 1, 33, (3, 2, 1, 1)),
    ],
)
def test_balanced_loads_by_hand(
    tokens: int, experts: int, per_token: int, ep: int, active: float, pairs: float, tiles: tuple[float, ...]
) -> None:
    found = load(tokens, experts, per_token, ep, 0.0)
    assert (found.active, found.pairs, found.tiles) == (active, pairs, tiles)


def test_a_power_law_has_fewer_active_experts_and_a_busier_device() -> None:
    even, skewed = load(64, 128, 8, 8, 0.0), load(64, 128, 8, 8, 1.2)
    assert skewed.active < even.active == 16
    assert skewed.pairs > even.pairs == 64
    assert load(4096, 128, 8, 1, 1.2).pairs == pytest.approx(4096 * 8, rel=0.02)  # one device has them all


@settings(max_examples=80, deadline=None)
@given(
    tokens=st.integers(1, 4000),
    more=st.integers(1, 500),
    experts=st.sampled_from([8, 64, 256]),
    per_token=st.sampled_from([1, 2, 8]),
    ep=st.sampled_from([1, 2, 8]),
    skew=st.sampled_from([0.0, 0.5, 1.0, 1.01, 1.2, 2.0]),
)
def test_more_tokens_are_no_less_load(
    tokens: int, more: int, experts: int, per_token: int, ep: int, skew: float
) -> None:
    few, many = load(tokens, experts, per_token, ep, skew), load(tokens + more, experts, per_token, ep, skew)
    slack = 1 + 1e-9
    assert few.active <= many.active * slack
    assert few.pairs <= many.pairs * slack
    assert all(one <= other * slack for one, other in zip(few.tiles, many.tiles, strict=True))
    assert few.active <= max(1, experts // ep) * slack
    assert few.tiles == tuple(sorted(few.tiles, reverse=True))
    assert len(few.tiles) == len(TILES)
