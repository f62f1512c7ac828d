"""Sums of floors and visited tiles, each held against what it stands for: counting one by one."""

from __future__ import annotations

import random

import pytest

from llmprof.predict.tiles import CAUSAL, FULL, Mask, Shape, Visits, both_ways, prefix, window
from llmprof.predict.tiles.floors import clamped_sum, floor_sum, nested_floor_sum, reaching

RANDOM = random.Random(20221127)


def lines(count: int) -> list[tuple[int, int, int, int]]:
    """How many, start, step and width of a line, at random."""
    return [
        (RANDOM.randint(0, 12), RANDOM.randint(-60, 60), RANDOM.randint(1, 30), RANDOM.randint(1, 30))
        for _ in range(count)
    ]


def test_a_floor_sum_by_hand() -> None:
    # floor(0/3) + floor(2/3) + floor(4/3) + floor(6/3) + floor(8/3) = 0 + 0 + 1 + 2 + 2
    assert floor_sum(5, 0, 2, 3) == 5
    # Below zero floors go down: floor(-4/3) + floor(-2/3) + floor(0/3) = -2 - 1 + 0
    assert floor_sum(3, -4, 2, 3) == -3
    assert floor_sum(0, 7, 2, 3) == 0


def test_sums_of_floors_are_what_adding_them_up_gives() -> None:
    for count, start, step, width in lines(3000):
        floors = [(start + i * step) // width for i in range(count)]
        assert floor_sum(count, start, step, width) == sum(floors)
        low = RANDOM.randint(-5, 10)
        high = low + RANDOM.randint(0, 10)
        assert clamped_sum(count, start, step, width, low, high) == sum(min(high, max(low, f)) for f in floors)
        assert reaching(low, count, start, step, width) == sum(f < low for f in floors)
        page, over = RANDOM.randint(1, 40), RANDOM.randint(0, width - 1)
        found = nested_floor_sum(count, start, step, width, page, over)
        assert found == sum((width * f + over) // page for f in floors), (count, start, step, width, page, over)


def sees(mask: Mask, position: int, key: int) -> bool:
    match mask.kind:
        case "full":
            return True
        case "causal":
            return key <= position
        case "window":
            return position - mask.extent < key <= position
        case "both ways":
            return abs(position - key) <= mask.extent // 2
        case "prefix":
            return key <= position or key < mask.extent


def masks() -> Mask:
    extent = RANDOM.randint(1, 30)
    return RANDOM.choice([FULL, CAUSAL, window(extent), both_ways(extent - 1), prefix(extent - 1)])


def test_visits_are_the_tiles_in_which_something_is_visible() -> None:
    for _ in range(1500):
        t, s, br, bc = RANDOM.randint(1, 20), RANDOM.randint(1, 20), RANDOM.randint(1, 9), RANDOM.randint(1, 9)
        mask, splits, page = masks(), RANDOM.randint(1, 5), RANDOM.randint(1, 12)
        rows = [range(i, min(i + br, t)) for i in range(0, t, br)]
        keys = [range(j, min(j + bc, s)) for j in range(0, s, bc)]
        visible = [{k for k in range(s) if sees(mask, s - t + row, k)} for row in range(t)]
        visited = [[of for of in keys if any(k in visible[row] for row in tile for k in of)] for tile in rows]
        found, case = Visits(t, s, mask, br, bc), (t, s, br, bc, mask, splits, page)
        assert found.total == sum(map(len, visited)), case
        assert found.key_loads == sum(len(of) for each in visited for of in each), case
        assert found.row_loads == sum(len(tile) * len(each) for tile, each in zip(rows, visited, strict=True)), case
        active = [tile for tile, each in zip(rows, visited, strict=True) if each]
        assert (found.active_row_tiles, found.active_rows) == (len(active), sum(map(len, active))), case
        assert found.visited_keys == len({k for each in visited for of in each for k in of}), case
        ranges = [keys[i : i + splits] for i in range(0, len(keys), splits)]
        ctas = [{k for of in each if of in part for k in of} for each in visited for part in ranges]
        ctas = [cta for cta in ctas if cta]
        assert found.in_ranges(splits).total == len(ctas), case
        assert found.pages(page, splits) == sum(len({k // page for k in cta}) for cta in ctas), case
        sizes = Shape(batch=1, queries=t, keys=s, heads=1, kv_heads=1, head_dim=1, value_dim=1, mask=mask)
        assert sizes.seeing_rows == sum(map(bool, visible)), case
        assert sizes.seen_keys == len(set().union(*visible)), case


@pytest.mark.parametrize(
    ("mask", "total"),
    [
        # T = S = 10, Br = 4, Bc = 3: row tiles end at rows 3, 7 and 9, key tiles begin at 0, 3, 6 and 9.
        (FULL, 3 * 4),
        (CAUSAL, 2 + 3 + 4),
        (window(2), 2 + 2 + 2),  # from keys -1, 3 and 7 on: tiles 0-1, 1-2, 2-3
        (both_ways(4), 2 + 4 + 2),  # two further on either side: keys 0-5, 2-9, 6-9
        (prefix(7), 3 + 3 + 4),  # the first three tiles for all
    ],
)
def test_visits_by_hand(mask: Mask, total: int) -> None:
    assert Visits(10, 10, mask, 4, 3).total == total


def test_fewer_keys_than_rows_leave_row_tiles_without_a_visit() -> None:
    # Rows 0-5 stand before the first of the 4 keys; tiles of 4 rows: the first sees nothing, the second rows 6 and 7.
    found = Visits(10, 4, CAUSAL, 4, 3)
    assert (found.row_tiles, found.active_row_tiles, found.active_rows) == (3, 2, 6)
    assert found.total == 0 + 1 + 2


def test_a_figure_takes_no_longer_for_more_tokens() -> None:
    # 10**12 tokens, 10**10 row tiles: the sum is closed. A square of 128x128 tiles, the diagonal among them.
    tiles = 10**12 // 128
    assert Visits(128 * tiles, 128 * tiles, CAUSAL, 128, 128).total == tiles * (tiles + 1) // 2


@pytest.mark.parametrize("wrong", [("window", 0), ("full", 3), ("causal", 1), ("prefix", -1)])
def test_a_mask_has_the_extent_of_its_kind(wrong: tuple[str, int]) -> None:
    with pytest.raises(ValueError, match=wrong[0]):
        Mask(*wrong)  # type: ignore[arg-type]


def test_sizes_are_positive_and_heads_come_in_groups() -> None:
    sizes = {"batch": 1, "queries": 1, "keys": 1, "heads": 6, "kv_heads": 4, "head_dim": 8, "value_dim": 8}
    with pytest.raises(ValueError, match="kv_heads must divide heads"):
        Shape(**sizes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        Shape(**{**sizes, "kv_heads": 3, "keys": 0})  # type: ignore[arg-type]
