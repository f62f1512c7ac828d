"""What fused attention reads from memory again, in closed form, equals a cache of tiles below CTAs that walk in step."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.measure.tiles.problem import Tile
from tests.importing import EVERYTHING
from tests.rereading import ROW, again, both, problem


@settings(max_examples=2_000 if EVERYTHING else 400)
@given(
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    queries=st.integers(1, 30),
    keys=st.integers(1, 30),
    tile=st.sampled_from([(4, 4), (4, 7), (8, 3)]),
    in_flight=st.integers(1, 20),
    capacity=st.integers(0, 100 * ROW),
)
def test_any_cache_and_any_number_in_flight(
    batch: int,
    kv_heads: int,
    group: int,
    queries: int,
    keys: int,
    tile: tuple[int, int],
    in_flight: int,
    capacity: int,
) -> None:
    p = problem(batch=batch, queries=queries, keys=keys, kv_heads=kv_heads, group=group)
    predicted, simulated = both(p, Tile(*tile), in_flight, capacity)
    assert predicted == simulated


def test_the_clear_regimes() -> None:
    """Row tiles of 4 rows: 8 of a head, 2 heads of 12 keys each (384 bytes of K and V).

    4 in flight: two waves a head, one head each. Where one head fits it is loaded once, else twice. 8 in flight: no
    head is in two waves, whatever fits. 6 in flight: waves of heads (0), (0, 1), (1); both borders lie within a head.
    """
    p = problem(queries=32, keys=12, kv_heads=2)
    assert both(p, Tile(4, 4), 4, 384) == (2 * 384, 2 * 384)
    assert both(p, Tile(4, 4), 4, 383) == (4 * 384, 4 * 384)
    assert both(p, Tile(4, 4), 8, 0) == (2 * 384, 2 * 384)
    assert both(p, Tile(4, 4), 6, 2 * 384) == (2 * 384, 2 * 384)
    assert both(p, Tile(4, 4), 6, 383) == (4 * 384, 4 * 384)


def test_between_them_some_tiles_are_still_there() -> None:
    """The same with 6 in flight and room for 5 of the tiles of 128 bytes, where two heads have 6.

    Border (0) to (0, 1): since the first tile of head 0 its 2 others were touched: 3 with itself, it is there; since the
    last one 2 x 2 were: 5 with itself, there too. Border (0, 1) to (1): since the first one 2 x 2: there.
    """
    p = problem(queries=32, keys=12, kv_heads=2)
    assert both(p, Tile(4, 4), 6, 5 * 128) == (2 * 384, 2 * 384)
    # One tile less: the last tile of head 0 and the first of head 1 have gone.
    assert both(p, Tile(4, 4), 6, 4 * 128) == (2 * 384 + 2 * 128, 2 * 384 + 2 * 128)


def test_more_heads_than_anybody_could_walk() -> None:
    """6 x 10^11 heads of 8 row tiles and 384 bytes, and no cache: the borders come again and are counted once.

    4 in flight: one border within each head. 6: of the 4 borders of three heads the last lies between two. 8: none.
    """
    p = problem(batch=3 * 10**11, queries=32, keys=12, kv_heads=2)
    found = [again(p, Tile(4, 4), in_flight, 0) for in_flight in (4, 6, 8)]
    assert found == [6 * 10**11 * 384, 6 * 10**11 * 384, 0]
