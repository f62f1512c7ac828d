"""Across generated dense decoders and degrees, every rank of the sharded twin is what was predicted, tolerance 0."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.sharding import Sharding, tensor_parallel_degrees
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload
from tests.spreading import passes
from tests.test_sharding import agree, predicted


@settings(max_examples=25)
@given(passes(), st.data())
def test_every_rank_of_any_dense_decoder(made: tuple[ArchSpec, Workload], data: st.DataObject) -> None:
    arch, workload = made
    tensor = data.draw(st.sampled_from(tensor_parallel_degrees(arch)))
    sharding = Sharding(
        tensor_parallel=tensor,
        sequence_parallel=data.draw(st.booleans()) and workload.new_tokens % tensor == 0,
        pipeline_parallel=data.draw(st.sampled_from([p for p in (1, 2, 3) if arch.n_layers % p == 0])),
        data_parallel=data.draw(st.sampled_from([1, 2])),
    )
    agree(predicted(arch, workload, sharding), accounts_on_meta(arch, workload, sharding))
