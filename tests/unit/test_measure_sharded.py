"""The witness of sharding by itself: what its counter counts, what it refuses to guess, which weights a rank gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import _functional_collectives as collectives
from torch.testing._internal.distributed.fake_pg import FakeStore

from llmprof.errors import DeviceError
from llmprof.measure.live import LiveBytes
from llmprof.measure.sharded.account import accounts_on_meta, count, mesh_of
from llmprof.measure.sharded.collectives import CollectiveCounter
from llmprof.measure.sharded.trace import RankTrace
from llmprof.routing import Routing
from llmprof.sharding import Collective, Sharding
from llmprof.spec.arch import Gqa
from llmprof.twin import sharded_routes
from llmprof.twin.build import build
from llmprof.twin.routes import table
from llmprof.twin.session import Session
from llmprof.twin.sharded import build_sharded
from llmprof.twin.sharded_ring import NoUnfusedRing, RingSight, own_chunks
from llmprof.twin.sharded_weights import fill, widened
from llmprof.workload import Execution
from tests.sharded_specs import DECODE, FP32, LONG, PREFILL, spec


@contextmanager
def group(ranks: int, rank: int = 0) -> Iterator[None]:
    """A group in which nobody else is."""
    dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def everybody() -> dist.ProcessGroup:
    """The group that this process is in."""
    assert dist.group.WORLD is not None
    return dist.group.WORLD


def tracing(ranks: int) -> tuple[CollectiveCounter, RankTrace]:
    """A counter of collectives, and what shows it to them."""
    counter = CollectiveCounter(Sharding(tensor_parallel=ranks))
    return counter, RankTrace(counter, LiveBytes(excluded=(), constants=()), ())


class Talking(nn.Module):
    """Says one of everything, on tensors of fp32; `inner` is a module below it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.inner.register_forward_pre_hook(lambda _, inputs: collectives.all_reduce(inputs[0], "sum", everybody()))

    def forward(self, x: Tensor) -> Tensor:
        torch.ops._c10d_functional.all_gather_into_tensor(x, 3, everybody().group_name)
        dist.send(x, dst=1)
        dist.send(x, dst=1)
        self.inner(x)
        return x


def test_calls_are_counted_where_they_are_made() -> None:
    with group(3):
        model, x = Talking(), torch.empty(5, 2, device="meta")
        counter, trace = tracing(3)
        with torch.no_grad(), trace.along(model), trace:
            model(x)
    assert set(counter.collectives) == {
        # 10 values in three parts of 4, each sent twice by each of two: 2 * 2 * 4 * 4 bytes
        Collective(path="inner", kind="all-reduce", count=1, bytes=40, wire_bytes=64),
        # 3 * 40 bytes, of which the rank has 40
        Collective(path="", kind="all-gather", count=1, bytes=120, wire_bytes=80),
        Collective(path="", kind="send", count=2, bytes=80, wire_bytes=80),
    }
    assert not model.inner._forward_hooks, "what counts is gone afterwards"


def test_a_collective_without_a_rule_is_an_error() -> None:
    with group(2):
        _, trace = tracing(2)
        refused = pytest.raises(RuntimeError, match=r"broadcast was dispatched at '', and no rule says what it sends")
        with refused, torch.no_grad(), trace:
            collectives.broadcast(torch.empty(4, device="meta"), 0, everybody())


def test_a_process_in_a_group_does_not_count_on_meta() -> None:
    with group(2), pytest.raises(DeviceError, match="in a process group already"):
        accounts_on_meta(spec("learned"), PREFILL, Sharding(tensor_parallel=2))


def test_heads_are_repeated_and_the_vocabulary_padded() -> None:
    narrow = spec("grouped")  # two KV heads of 6, a vocabulary of 37
    wide = widened(narrow, 4)
    gqa = wide.main.layers[0].attention
    assert isinstance(gqa, Gqa)
    assert (gqa.n_heads, gqa.n_kv_heads, wide.vocab_size) == (8, 4, 40)
    assert widened(narrow, 1) == narrow

    twin = build(narrow, dtypes=FP32, device="cpu", seed=5)
    filled = build(wide, dtypes=FP32, device="cpu", seed=6)
    fill(filled, twin)
    of, to = dict(twin.named_parameters()), dict(filled.named_parameters())
    assert of.keys() == to.keys()
    for name in ("k_proj.weight", "v_proj.bias", "k_norm.weight"):
        first, second = of[f"layers.1.attn.{name}"].reshape(2, -1)
        assert torch.equal(to[f"layers.1.attn.{name}"].reshape(4, -1), torch.stack([first, first, second, second]))
    assert torch.equal(to["embed.weight"][:37], of["embed.weight"])
    assert not to["lm_head.weight"][37:].any()
    assert not to["lm_head.bias"][37:].any()
    assert torch.equal(to["layers.0.attn.q_proj.weight"], of["layers.0.attn.q_proj.weight"])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_tied_table_is_one_tensor_of_a_rank_and_two_of_a_pipeline(rank: int) -> None:
    arch = spec("learned")  # 33 rows of 24, in parts of 17
    with group(2, rank):
        sharding = Sharding(tensor_parallel=2)
        mesh = mesh_of(sharding)
        twin, mine = build_sharded(arch, DECODE, sharding, mesh)
        assert twin.lm_head is not None
        assert twin.lm_head.weight is twin.embed.weight
        account, _ = count(Session(twin, mine, Execution(attention="unfused")), mesh, sharding)
    assert account.ledger.at("embed", "params") == 17 * 24
    assert account.ledger.at("lm_head", "params") == 0

    first, last = accounts_on_meta(arch, DECODE, Sharding(pipeline_parallel=2))
    assert first.ledger.at("embed", "params") == last.ledger.at("lm_head", "params") == 33 * 24
    assert {path.split(".")[0] for path in last.ledger.paths() if last.ledger.at(path, "params")} == {
        "layers",
        "final_norm",
        "lm_head",
    }


def test_a_rank_has_its_own_part_of_the_unsharded_weights() -> None:
    arch, sharding = spec("two-norms"), Sharding(tensor_parallel=2)
    whole = dict(build(arch, dtypes=FP32, device="cpu", seed=1).named_parameters())
    with group(2, rank=1):
        twin, _ = build_sharded(arch, PREFILL, sharding, mesh_of(sharding), device="cpu", seed=1)
        of = dict(twin.named_parameters())
    up, down = "layers.1.ffn.up.weight", "layers.1.ffn.down.weight"
    assert torch.equal(of[up], whole[up][24:])
    assert torch.equal(of[down], whole[down][:, 24:])
    assert torch.equal(of["layers.1.ffn_norm.weight"], whole["layers.1.ffn_norm.weight"])


def test_a_ring_has_no_unfused_form() -> None:
    sharding = Sharding(context_parallel=2)
    with group(2):
        twin, mine = build_sharded(spec("learned"), LONG, sharding, mesh_of(sharding))
        with pytest.raises(NoUnfusedRing, match=r"layers.0.attn.core: .* run it fused"):
            Session(twin, mine, Execution(attention="unfused"))


def test_a_rank_of_a_ring_has_one_chunk_of_either_half() -> None:
    assert own_chunks(0, 2, 16) == (range(4), range(12, 16))
    assert own_chunks(1, 2, 16) == (range(4, 8), range(8, 12))
    # Position p sees p + 1 keys: 1 + .. + 4 and 13 + .. + 16 are 68, as many as 5 + .. + 12.
    seen = [RingSight(chunks=own_chunks(rank, 2, 16), keys=16).seen(torch.device("cpu")) for rank in (0, 1)]
    assert [int(each.count_nonzero()) for each in seen] == [68, 68]


@pytest.mark.parametrize(
    "sharding", [Sharding(tensor_parallel=2, expert_parallel=2), Sharding(data_parallel=2, expert_parallel=2)], ids=str
)
def test_tables_that_are_too_large_are_counted_by_their_loads(
    monkeypatch: pytest.MonkeyPatch, sharding: Sharding
) -> None:
    """A decode of two tokens, all of whose experts are the first rank's."""
    tables = list[int]()

    def asked(routing: Routing, tokens: int, top_k: int, n_experts: int) -> Tensor:
        tables.append(tokens)
        return table(routing, tokens, top_k, n_experts)

    monkeypatch.setattr(sharded_routes, "table", asked)
    [before] = accounts_on_meta(spec("experts"), DECODE, sharding)
    assert tables
    monkeypatch.setattr(sharded_routes, "MOST_ON_META", 1)
    tables.clear()
    [after] = accounts_on_meta(spec("experts"), DECODE, sharding)
    assert not tables
    assert set(after.ledger) == set(before.ledger)
    assert set(after.collectives) == set(before.collectives)
