"""Across generated decoders and degrees, every rank of the sharded twin is what was predicted, tolerance 0.

LLMPROF_EVERY=1 tries twenty times as many.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.errors import InputError
from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.routing import BALANCED, Routing
from llmprof.sharding import Sharding, check_sharding, expert_parallel_degrees, tensor_parallel_degrees
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes, Workload
from tests.importing import EVERYTHING
from tests.spreading import passes
from tests.test_sharding import agree, predicted

DTYPES = (Dtypes(), Dtypes(weights="fp8"), Dtypes(weights="int8"), Dtypes(weights="int4", group_size=2))


def spread(data: st.DataObject, arch: ArchSpec, workload: Workload) -> Sharding:
    """One way to spread a pass of two sequences."""
    replicas = data.draw(st.sampled_from([1, 2]))
    tensor = data.draw(st.sampled_from(tensor_parallel_degrees(arch, dtypes=workload.dtypes)))
    rows = data.draw(st.booleans()) and workload.new_tokens % tensor == 0
    degrees = expert_parallel_degrees(arch, tensor_parallel=tensor, data_parallel=replicas)
    # What is sent is some of a rank's rows, which all ranks of a replica have where they do not share them.
    stay = any(layer.block == "parallel" or getattr(layer.ffn, "latent", None) for layer in arch.main.layers)
    experts = [x for x in degrees if tensor % x == 0 or ((tensor == 1 or rows) and not stay)]
    stages = data.draw(st.sampled_from([p for p in (1, 2, 3) if p <= arch.n_layers]))
    cuts = data.draw(st.permutations(range(1, arch.n_layers)))[: stages - 1]
    ends = [0, *sorted(cuts), arch.n_layers]
    made = Sharding(
        tensor_parallel=tensor,
        sequence_parallel=rows,
        pipeline_parallel=stages,
        pipeline_layers=tuple(b - a for a, b in pairwise(ends)) if data.draw(st.booleans()) else (),
        data_parallel=replicas,
        expert_parallel=data.draw(st.sampled_from(experts)),
    )
    rings = [replace(made, context_parallel=c) for c in (2, 3, 4)]
    return data.draw(st.sampled_from([ring for ring in rings if fits(arch, workload, ring)] or [made]))


def fits(arch: ArchSpec, workload: Workload, sharding: Sharding) -> bool:
    """Whether a pass can be spread so."""
    try:
        check_sharding(arch, workload, sharding)
    except InputError:
        return False
    return True


@settings(max_examples=10 * (20 if EVERYTHING else 1))
@given(passes(), st.sampled_from(DTYPES), st.data())
def test_every_rank_of_any_dense_decoder(made: tuple[ArchSpec, Workload], dtypes: Dtypes, data: st.DataObject) -> None:
    arch, workload = made[0], replace(made[1], dtypes=dtypes)
    sharding = spread(data, arch, workload)
    agree(predicted(arch, workload, sharding), accounts_on_meta(arch, workload, sharding))


@settings(max_examples=14 * (20 if EVERYTHING else 1))
@given(passes(sparse=True), st.sampled_from([BALANCED, Routing("concentrated")]), st.sampled_from(DTYPES), st.data())
def test_every_rank_of_any_decoder_with_experts_or_latents(
    made: tuple[ArchSpec, Workload], routing: Routing, dtypes: Dtypes, data: st.DataObject
) -> None:
    arch, workload = made[0], replace(made[1], dtypes=dtypes, routing=routing)
    sharding = spread(data, arch, workload)
    agree(predicted(arch, workload, sharding), accounts_on_meta(arch, workload, sharding))
