"""Properties of a sharded pass: more ranks never hold more each, together they hold the model, and accounts add up."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.claims.specs import changed
from llmprof.ledger import Quantity
from llmprof.predict.api import predict
from llmprof.predict.sharding.api import sharded
from llmprof.sharding import expert_parallel_degrees, tensor_parallel_degrees
from llmprof.spec.arch import ArchSpec, Moe
from llmprof.workload import Dtypes, Execution, Workload
from tests.spreading import passes
from tests.unit.divided import prefill

HELD: tuple[Quantity, ...] = ("params", "weight_bytes", "kv_cache_bytes", "recurrent_state_bytes")
PACKED = (Dtypes(), Dtypes(weights="fp8"), Dtypes(weights="int8"), Dtypes(weights="int4", group_size=2))
RUN: tuple[Quantity, ...] = ("peak_live_bytes", "hbm_bytes", "matmul_flops", "matmul_flops_causal")


@given(passes() | passes(sparse=True))
def test_more_ranks_never_hold_more_each_and_together_hold_the_model(made: tuple[ArchSpec, Workload]) -> None:
    arch, workload = made
    whole = predict(arch, workload, Execution(attention="fused"))
    least: dict[str, int] = {}
    for n in tensor_parallel_degrees(arch):
        rank = sharded(arch, workload, tensor_parallel=n).fullest
        for name in HELD:
            held = getattr(rank, name)
            assert held <= least.get(name, held)
            least[name] = held
            assert n * held >= whole.ledger.total(name)
        for p in range(1, arch.n_layers + 1):
            stages = sharded(arch, workload, tensor_parallel=n, pipeline_parallel=p)
            copies = n * ceil(arch.vocab_size / n) * arch.d_model if p > 1 and arch.tied_embeddings else 0
            assert n * sum(each.params for each in stages.ranks) == n * rank.params + copies
            assert sum(each.kv_cache_bytes for each in stages.ranks) == rank.kv_cache_bytes


@settings(max_examples=50)
@given(passes(sparse=True), st.sampled_from(PACKED), st.sampled_from([1, 2]))
def test_more_ranks_that_share_experts_never_store_more_each(
    made: tuple[ArchSpec, Workload], dtypes: Dtypes, replicas: int
) -> None:
    """Neither of weights nor, where all rows are sent at once, of rows: the busiest rank has a share of both."""
    arch, workload = made[0], replace(made[1], dtypes=dtypes)
    for n in tensor_parallel_degrees(arch, dtypes=dtypes):
        degrees = expert_parallel_degrees(arch, tensor_parallel=n, data_parallel=replicas)
        shared = [x for x in degrees if n % x == 0]
        ranks = [
            sharded(arch, workload, tensor_parallel=n, data_parallel=replicas, expert_parallel=x).fullest
            for x in shared
        ]
        # Of experts, whole or in parts, each rank has as much; but of a part it has the whole bias behind it.
        biased = any(isinstance(layer.ffn, Moe) and layer.ffn.expert.bias for layer in arch.main.layers)
        params = [rank.params for rank in ranks]
        assert sorted(params, reverse=True) == params
        assert biased or len(set(params)) == 1
        assert sorted((rank.weight_bytes for rank in ranks), reverse=True) == [rank.weight_bytes for rank in ranks]


@settings(max_examples=50)
@given(passes() | passes(sparse=True))
def test_one_rank_holds_and_runs_what_the_reference_execution_says(made: tuple[ArchSpec, Workload]) -> None:
    arch, workload = made
    (account,) = sharded(arch, workload).stages
    whole = predict(arch, workload, Execution(attention="fused")).ledger
    found = {(entry.path, entry.quantity): entry.value for entry in account.ledger}
    assert found == {(entry.path, entry.quantity): entry.value for entry in whole}


@settings(max_examples=50)
@given(passes() | passes(sparse=True), st.sampled_from([2, 3, 4, 6]), st.booleans())
def test_totals_are_those_of_the_accounts(made: tuple[ArchSpec, Workload], p: int, sequence: bool) -> None:
    arch, workload = made
    arch = replace(arch, stacks=(replace(arch.main, layers=arch.main.layers * p),))
    n = tensor_parallel_degrees(arch)[-1]
    sequence = sequence and workload.new_tokens % n == 0
    one = sharded(arch, workload, tensor_parallel=n, sequence_parallel=sequence, pipeline_parallel=p)
    for rank, account in zip(one.ranks, one.stages, strict=True):
        assert rank.stage == account.stage
        for name in (*HELD, *RUN):
            assert getattr(rank, name) == account.ledger.total(name), name
        assert rank.collective_calls == sum(call.count for call in account.collectives)
        assert rank.collective_bytes == sum(call.bytes for call in account.collectives)
        assert rank.collective_wire_bytes == sum(call.wire_bytes for call in account.collectives)


@settings(max_examples=25)
@given(passes())
def test_scattered_sums_send_as_many_bytes_as_whole_ones(made: tuple[ArchSpec, Workload]) -> None:
    arch, _ = made
    serial = changed(arch, lambda layer: replace(layer, block="serial"))
    for n in tensor_parallel_degrees(serial):
        if 24 % n:
            continue
        sent = []
        for sequence in (False, True):
            account = sharded(serial, prefill(24), tensor_parallel=n, sequence_parallel=sequence).stages[0]
            sent.append(sum(call.wire_bytes for call in account.collectives if call.path.startswith("layers.")))
        assert sent[0] == sent[1]
