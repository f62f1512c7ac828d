"""Rows of ranks by hand: who says what, what a slice stands for, which differences are too large, what is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from llmprof.ledger import Basis, Entry, Ledger, Quantity, Verdict
from llmprof.measure.sharded.compare import Difference
from llmprof.profiling.sharded import ShardedResult
from llmprof.profiling.sharded_rows import Bound, RankRow, account_rows, difference_rows, merged
from llmprof.sharding import Collective, Sharding, StageAccount
from tests.sharded_specs import PREFILL, spec


def account(stage: int, params: dict[str, int], *, quantity: Quantity = "params", calls: int = 1) -> StageAccount:
    """One with these values and as many all-reduces of 8 bytes at ``embed``."""
    ledger = Ledger(Entry(path=p, quantity=quantity, value=v, basis=Basis.COUNTED) for p, v in params.items())
    call = Collective(path="embed", kind="all-reduce", count=calls, bytes=8 * calls, wire_bytes=0)
    return StageAccount(stage=stage, ledger=ledger, collectives=(call,) if calls else ())


def told(rows: list[RankRow]) -> list[tuple[str, str, tuple[int, ...], object, object, str]]:
    return [(r.path, r.quantity, r.ranks, r.predicted, r.measured, r.verdict.value) for r in rows]


def joined(predicted: StageAccount, measured: dict[int, StageAccount], **more: object) -> list[RankRow]:
    made = account_rows([predicted], measured, phase="prefill", witness="w", fused_kernels=(0,), **more)  # type: ignore[arg-type]
    return list(made)


def test_ranks_that_say_the_same_share_a_row() -> None:
    same, other = account(0, {"a": 5, "zero": 0}), account(0, {"a": 6, "b": 1}, calls=0)
    assert told(joined(account(0, {"a": 5}), {0: same, 1: same, 2: other})) == [
        ("a", "params", (0, 1), 5, 5, "AGREES"),
        ("a", "params", (2,), 5, 6, "DIFFERS"),
        ("embed", "all_reduce_calls", (0, 1), 1, 1, "AGREES"),
        ("embed", "all_reduce_calls", (2,), 1, 0, "DIFFERS"),
        ("embed", "all_reduce_bytes", (0, 1), 8, 8, "AGREES"),
        ("embed", "all_reduce_bytes", (2,), 8, 0, "DIFFERS"),
        ("b", "params", (0, 1), 0, 0, "AGREES"),
        ("b", "params", (2,), 0, 1, "DIFFERS"),
    ]


def test_a_stage_without_a_report_is_unmeasured() -> None:
    assert told(joined(account(1, {"a": 5}, calls=0), {0: account(0, {"a": 5})})) == [
        ("a", "params", (), 5, None, "UNMEASURED")
    ]


def test_a_slice_stands_for_all_layers_and_hides_nothing_of_its_own() -> None:
    whole = account(0, {"layers.0.x": 3, "layers.1.x": 3}, calls=0)
    sliced = account(0, {"layers.0.x": 3, "layers.0.y": 1}, calls=0)
    rows = joined(whole, {0: sliced}, stands_for=lambda path: path.replace("layers.1", "layers.0"))
    assert told(rows) == [
        ("layers.0.x", "params", (0,), 3, 3, "AGREES"),
        ("layers.1.x", "params", (0,), 3, 3, "AGREES"),
        ("layers.0.y", "params", (0,), 0, 1, "DIFFERS"),
    ]


def test_what_only_some_ranks_are_predicted_for() -> None:
    one, less = (account(0, {"e": value}, quantity="hbm_bytes", calls=0) for value in (9, 4))
    assert told(joined(one, {0: one, 1: less})) == [("e", "hbm_bytes", (0,), 9, 9, "AGREES")]
    one, less, more = (account(0, {"e": value}, quantity="matmul_flops", calls=0) for value in (9, 4, 10))
    busiest = Bound(paths=frozenset({"e"}), ranks=frozenset({0}))
    assert [r.verdict.value for r in joined(one, {0: one, 1: less}, busiest=busiest)] == ["AGREES", "BELOW_BOUND"]
    assert [r.verdict.value for r in joined(one, {0: one, 1: more}, busiest=busiest)] == ["AGREES", "DIFFERS"]
    assert [r.verdict.value for r in joined(one, {0: less}, busiest=busiest)] == ["DIFFERS"]


@pytest.mark.parametrize(
    ("largest", "verdict", "measured"),
    [
        ((0.0, 0.0), "AGREES", 0.0),
        ((1e-5, 2e-5), "AGREES", 1e-5),  # of values up to 2
        ((1e-5, 2.1e-5), "DIFFERS", 1.05e-5),
        ((0.0, math.inf), "DIFFERS", None),
        ((0.0, None), "UNMEASURED", 0.0),
        ((1.0, None), "DIFFERS", 0.5),
    ],
)
def test_the_farthest_rank_decides(largest: tuple[float | None, ...], verdict: str, measured: float | None) -> None:
    found = {
        rank: (Difference(what="logits", largest=each, scale=None if each is None else 2.0),)
        for rank, each in enumerate(largest)
    }
    (row,) = difference_rows(found, {0: 0, 1: 0}, attention="fused", phase="decode", witness="w")
    assert (row.verdict.value, row.ranks) == (verdict, (0, 1))
    assert row.measured == (None if measured is None else pytest.approx(measured))


def test_an_unmeasured_row_gives_way() -> None:
    (row,) = joined(account(0, {"a": 5}, calls=0), {0: account(0, {"a": 5})})[:1]
    absent = replace(row, verdict=Verdict.UNMEASURED, measured=None, ranks=())
    assert merged([absent, row, row]) == [row]
    assert merged([absent]) == [absent]


def test_what_nobody_counted_is_missing() -> None:
    """A result without rows, or of which one rank says nothing, confirms nothing, though nothing differs."""
    result = ShardedResult(
        arch=spec("learned"),
        sharding=Sharding(tensor_parallel=2),
        workloads=(PREFILL,),
        attentions=("fused",),
        asked=(0, 1),
        heard=(0,),
        compared=True,
    )
    assert result.verdict == "unconfirmed"
    assert {"rank 1", "embed params", "layers.1.attn.cache.v kv_cache_bytes prefill"} <= set(result.missing)
    assert {"every collective prefill", "outputs prefill fused"} <= set(result.missing)
