"""The simulated cache on short traces, worked out by hand; and what an observer makes of real ops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from llmprof.measure.accesses import accesses
from llmprof.measure.bytes import kernel_bytes
from llmprof.measure.lru import LruCache, LruObserver, Touch
from llmprof.measure.trace import DispatchMode, Launch
from llmprof.twin.passes import Output


def read(key: str, size: int, nbytes: int | None = None) -> Touch:
    moved = size if nbytes is None else nbytes
    return Touch(key, size, moved, 0, moved, False, False)


def write(key: str, size: int, nbytes: int | None = None) -> Touch:
    return Touch(key, size, 0, size if nbytes is None else nbytes, 0, False, False)


def both(key: str, size: int) -> Touch:
    return Touch(key, size, size, size, size, False, False)


TRACES: dict[str, tuple[int | None, list[tuple[str, list[Touch]]], list[str], dict[str, int]]] = {
    "a read that fits is free the second time": (100, [("p", [read("a", 60)]), ("q", [read("a", 60)])], [], {"p": 60}),
    "two that do not fit together move every time": (
        100,
        [("p", [read("a", 60)]), ("q", [read("b", 60)]), ("r", [read("a", 60)])],
        [],
        {"p": 60, "q": 60, "r": 60},
    ),
    # b is the least recent when c comes: a was touched since.
    "the least recent goes": (
        100,
        [("p", [read("a", 40)]), ("p", [read("b", 40)]), ("p", [read("a", 40)]), ("p", [read("c", 40)]), ("q", [read("a", 40)]),
         ("r", [read("b", 40)])],
        [],
        {"p": 120, "r": 40},
    ),
    "what is written stays until it is evicted, and is charged to who wrote": (
        100,
        [("p", [write("a", 60)]), ("q", [read("b", 60)]), ("r", [read("a", 60)])],
        [],
        {"p": 60, "q": 60, "r": 60},
    ),
    "the last writer pays": (100, [("p", [write("a", 60)]), ("q", [both("a", 60)]), ("r", [read("b", 60)])], [], {"q": 60, "r": 60}),
    # Two rows of 10 of an object of 60: they are what an eviction writes. Clean afterwards, it is read whole and dropped.
    "rows that were written are written back, not the whole": (
        100,
        [("p", [write("a", 60, 10)]), ("q", [write("a", 60, 10)]), ("r", [read("b", 60)]), ("s", [read("a", 60)]), ("t", [read("b", 60)])],
        [],
        {"q": 20, "r": 60, "s": 60, "t": 60},
    ),
    "what outlives the pass is written at its end, other dirt is not": (
        None, [("p", [write("a", 60)]), ("q", [write("b", 50)])], ["a", "unknown"], {"p": 60},
    ),
    # An op's own objects may go: a is evicted by b of the same op.
    "an op that does not fit evicts its own": (100, [("p", [read("a", 60), read("b", 60)]), ("q", [read("b", 60)]), ("r", [read("a", 60)])], [],
                                              {"p": 120, "r": 60}),
    # b (200) never fits: it drives out what was touched before it, c stays, and its own writes move at once.
    "an object larger than the cache": (
        100,
        [("p", [read("a", 60), read("b", 200), read("c", 30)]), ("q", [read("c", 30)]), ("r", [read("a", 60)]), ("s", [both("b", 200)])],
        ["b"],
        {"p": 290, "r": 60, "s": 400},
    ),
    # c is touched after b by the same op: it is found where it was.
    "what is touched after a larger one is found": (100, [("p", [read("c", 30)]), ("q", [read("b", 200), read("c", 30)])], [], {"p": 30, "q": 200}),
    "a state is fetched whole": (100, [("p", [Touch("s", 60, 20, 0, 60, False, False)])], [], {"p": 60}),
    "what streams leaves the cache as it is": (
        100,
        [("p", [read("a", 60)]), ("q", [Touch("kv", 90, 10, 20, 10, True, True)]), ("r", [read("a", 60)])],
        ["kv"],
        {"p": 60, "q": 30},
    ),
    "no cache at all": (0, [("p", [read("a", 60), write("b", 50)]), ("q", [read("b", 50)])], ["b"], {"p": 110, "q": 50}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_by_hand(name: str) -> None:
    capacity, ops, outliving, expected = TRACES[name]
    cache = LruCache(capacity)
    for path, touches in ops:
        cache.run(path, touches)
    cache.close(outliving)
    assert {path: moved for path, moved in cache.moved.items() if moved} == expected


def test_what_is_dead_is_not_written() -> None:
    cache = LruCache(100)
    cache.run("p", [write("a", 60)])
    cache.forget("a")
    cache.forget("never seen")
    cache.run("q", [read("b", 100)])
    cache.close(["a"])
    assert cache.moved == {"p": 0, "q": 100}


# --- real ops -----------------------------------------------------------------------------------------------------------


@contextmanager
def observed(
    *capacities: int | None, weights: tuple[Tensor, ...] = (), cache: Tensor | None = None, state: Tensor | None = None
) -> Iterator[LruObserver]:
    """An observer of ops on tensors of these roles, all of them at the path "p"."""
    kept = {
        path: SimpleNamespace(values=tensor, scales=None)
        for path, tensor in (("attn.cache.k", cache), ("attn.core.state", state))
        if tensor is not None
    }
    twin = SimpleNamespace(parameters=lambda: iter(weights), buffers=lambda: iter(()))
    session: Any = SimpleNamespace(twin=twin, kept=kept, constants=())
    observer = LruObserver(session, capacities)
    with torch.no_grad(), DispatchMode((observer,), "p"):
        yield observer


def moved(observer: LruObserver, returned: Tensor | None = None) -> list[int]:
    observer.close(Output(logits=returned, hidden=None, pooled=None))
    return [found["p"] for found in observer.moved.values()]


def test_an_activation_that_dies_never_reaches_memory() -> None:
    """x (400 bytes) is read; y dies after its last use; z (400) is returned. Without a cache every access moves."""
    x = torch.randn(100)
    with observed(None, 0) as observer:
        y = x * 2.0
        z = y + 1.0
        del y
        assert moved(observer, z) == [400 + 400, 400 + 400 + 400 + 400]


def test_an_activation_that_lives_is_written_where_it_does_not_fit() -> None:
    """Room for 1000 bytes. y (400) is dirty; w (800) evicts x and y: y is written. Then y comes again (and evicts w)."""
    x, w = torch.randn(100), torch.randn(200)
    with observed(1000) as observer:
        y = x + 1.0  # x moves: 400
        total = w.sum()  # w moves: 800; x and y go: y is written, 400
        z = y * 2.0  # y moves: 400, and with z (400) evicts w
        assert moved(observer) == [400 + 800 + 400 + 400]
        del total, z


def test_views_and_parts_of_parameters() -> None:
    """A matrix read twice, once transposed, is one object; half of it is another, the same half the same."""
    matrix = torch.randn(10, 10)
    x = torch.randn(1, 10)
    with observed(None, weights=(matrix,)) as observer:
        kept = [x @ matrix, x @ matrix.t(), x[:, :5] @ matrix[:5], matrix.view(100)[:50] + 1.0]
        assert moved(observer) == [40 + 400 + 200]
        del kept


def test_rows_of_a_table_stream_and_its_indices_do_not() -> None:
    """Three rows of 40 bytes and indices of 24, twice: the rows come again, the indices do not."""
    table, ids = torch.randn(1000, 10), torch.tensor([1, 2, 1])
    with observed(None, weights=(table,)) as observer:
        rows = [torch.nn.functional.embedding(ids, table) for _ in range(2)]
        assert moved(observer) == [2 * 120 + 24]
        del rows


def test_a_cache_takes_rows_past_the_cache_and_is_read_whole() -> None:
    """A KV cache of 4 rows of 40 bytes: a row is written straight to memory, and the whole is then read from there."""
    cache, row = torch.zeros(4, 10), torch.randn(1, 10)
    with observed(None, 100, cache=cache) as observer:
        cache[2:3].copy_(row)  # the row moves from x: 40, and to memory: 40
        kept = [cache * 1.0, cache * 1.0]  # 160, and again where 100 bytes are all there is
        assert moved(observer)[0] == 40 + 40 + 160
        del kept


def test_a_cache_that_is_filled_whole_is_not_read_from_memory() -> None:
    cache, rows = torch.zeros(4, 10), torch.randn(4, 10)
    with observed(None, cache=cache) as observer:
        cache.copy_(rows)
        kept = cache * 1.0
        assert moved(observer) == [160 + 160]  # the rows, and the cache at the end of the pass
        del kept


def test_a_state_is_fetched_whole_and_written_at_the_end_as_far_as_it_changed() -> None:
    state = torch.zeros(3, 10)
    with observed(None, state=state) as observer:
        kept = state[0] + 1.0
        state[1].copy_(kept)
        assert moved(observer) == [120 + 40]
        del kept


def test_an_object_is_touched_at_its_last_place() -> None:
    """In place: read and written at once. Room for x and y, or for y and z: x, read before y, is what goes for z."""
    x, y, z = (torch.randn(10) for _ in range(3))
    with observed(80) as observer:
        y.add_(x)  # 80; y is dirty
        kept = z.sum()  # 40; x goes, and 4 bytes of the sum push y out: 40 written
        again = y * 1.0  # y comes again: 40, and with `again` pushes z and the sum out: 4 written
        assert moved(observer) == [80 + 40 + 40 + 40 + 4]
        del kept, again


def test_bytes_tensor_by_tensor_are_the_bytes_of_the_op() -> None:
    seen: list[tuple[int, int]] = []

    class Watch:
        def observe(self, launch: Launch) -> None:
            if launch.is_kernel:
                seen.append((kernel_bytes(launch), sum(a.read + a.written for a in accesses(launch))))

    x, ids = torch.randn(6, 4), torch.tensor([0, 2, 2])
    with torch.no_grad(), DispatchMode((Watch(),), "p"):
        torch.zeros(6, 4).index_add_(0, ids, x[:3])
        torch.zeros(6).scatter_(0, ids, 1.0)
        x.index_select(0, ids)
        x.clone().fill_(1.0)
        torch.softmax(x @ x.t(), dim=-1)
        torch.cat([x, x.t().contiguous().t()])
    assert len(seen) >= 11
    assert all(whole == parts for whole, parts in seen)


def test_an_op_whose_bytes_have_no_rule_tensor_by_tensor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmprof.measure.accesses.kernel_bytes", lambda launch: 1)
    x = torch.randn(3)
    with (
        pytest.raises(RuntimeError, match=r"moves 1 bytes, but 24 tensor by tensor; give Kind\.PLAIN a rule"),
        observed(None),
    ):
        x.neg()
