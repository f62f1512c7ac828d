"""More never needs less: contexts, sequences, devices; and what a search answers is what it would find one by one."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.device import find
from llmprof.engines.pages import Kind, Pages
from llmprof.planning.assumptions import VllmVersion
from llmprof.planning.caches import _on_the_way
from llmprof.planning.deployment import Deployment, PlannedEngine
from llmprof.planning.footprint import footprint
from llmprof.planning.inverse import largest_batch, largest_context, maximum_concurrency
from llmprof.planning.memory import memory_bar
from llmprof.planning.overheads import Overheads
from llmprof.planning.sampler import sampling_bytes
from llmprof.planning.steps import largest
from llmprof.sharding import Sharding, tensor_parallel_degrees
from llmprof.spec.arch import ArchSpec, Gqa
from tests.unit.engine_archs import decoder, layer

WITH_ALL = (
    "llama-3.2-1b",
    "gemma-3-1b",
    "deepseek-v2-lite",
    "olmoe-1b-7b",
    "mamba-130m",
    "t5-small",
    "bert-base",
    "chatglm-6b",
    "gpt2",
    "bloom-560m",
)
"""A model of each kind that keeps or computes differently."""

COMMUNICATION_ALIKE = Overheads(communication_bytes=2**28)
"""A second device brings buffers, which a model without other bytes cannot make up for."""

engines = st.sampled_from(("vllm", "architecture"))
chunks = st.sampled_from((1, 64, 100, 513, 2048))


@cache
def named(name: str) -> ArchSpec:
    (arch,) = catalog.resolve([name], variant=None, all_variants=False)
    return arch


def on(engine: PlannedEngine, *, memory_bytes: int = 2**36, sharding: Sharding | None = None) -> Deployment:
    return Deployment(
        device=find("h200"),
        engine=engine,
        memory_bytes=memory_bytes,
        sharding=sharding or Sharding(),
        overheads=COMMUNICATION_ALIKE,
    )


@settings(max_examples=60)
@given(st.sampled_from(WITH_ALL), engines, chunks, st.data())
def test_more_never_needs_less(name: str, engine: PlannedEngine, chunk: int, data: st.DataObject) -> None:
    arch, deployment = named(name), on(engine)
    most = min(arch.max_context or 3000, 3000)
    tokens, sequences = data.draw(st.integers(1, most)), data.draw(st.integers(1, 600))
    more_tokens, more_sequences = data.draw(st.integers(tokens, most)), data.draw(st.integers(sequences, 1200))

    def used(sequences: int, tokens: int) -> int:
        return memory_bar(arch, deployment, sequences=sequences, tokens=tokens, chunk_tokens=chunk).used_bytes

    assert used(sequences, tokens) <= used(sequences, more_tokens) <= used(more_sequences, more_tokens)
    assert used(sequences, tokens) <= used(more_sequences, tokens)


@settings(max_examples=40)
@given(st.sampled_from(WITH_ALL), engines, chunks, st.integers(2**30, 2**37), st.data())
def test_answers_are_exact(
    name: str, engine: PlannedEngine, chunk: int, memory_bytes: int, data: st.DataObject
) -> None:
    arch, deployment = named(name), on(engine, memory_bytes=memory_bytes)
    tokens = data.draw(st.integers(1, min(arch.max_context or 3000, 3000)))

    def fits(sequences: int, tokens: int) -> bool:
        return memory_bar(arch, deployment, sequences=sequences, tokens=tokens, chunk_tokens=chunk).fits

    batch = largest_batch(arch, deployment, tokens=tokens, chunk_tokens=chunk)
    if batch < 10**9:
        assert batch == 0 or fits(batch, tokens)
        assert not fits(batch + 1, tokens)
    context = largest_context(arch, deployment, sequences=3, chunk_tokens=chunk)
    assert context == 0 or fits(3, context)
    if context < (arch.max_context or 10**15) and context < 10**9:
        assert not fits(3, context + 1)


@settings(max_examples=30)
@given(
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 4),
    st.sampled_from((None, 3, 40)),
    engines,
    st.integers(1, 200),
    st.data(),
)
def test_more_devices_never_hold_less(
    kv_exponent: int,
    exponent: int,
    layers: int,
    window: int | None,
    engine: PlannedEngine,
    tokens: int,
    data: st.DataObject,
) -> None:
    """Weights of a rank never grow with the devices, and the largest batch never shrinks."""
    heads = 2 ** max(exponent, kv_exponent)
    local = Gqa(n_heads=heads, n_kv_heads=2**kv_exponent, head_dim=8, window=window)
    arch = decoder(*[layer(local)] * (4 * layers))
    degrees = [n for n in tensor_parallel_degrees(arch) if n & (n - 1) == 0]
    few = data.draw(st.sampled_from(degrees))
    many = data.draw(st.sampled_from([n for n in degrees if n >= few]))
    stages = data.draw(st.sampled_from((1, 2, 3, 4)))
    before = on(engine, memory_bytes=2**29, sharding=Sharding(tensor_parallel=few))
    after = on(engine, memory_bytes=2**29, sharding=Sharding(tensor_parallel=many, pipeline_parallel=stages))
    weights = [max(footprint(arch, each, 64, None).model.weights(1)) for each in (before, after)]
    assert weights[0] >= weights[1]
    batches = [largest_batch(arch, each, tokens=tokens, chunk_tokens=64) for each in (before, after)]
    assert batches[0] <= batches[1]
    replicas = on(engine, memory_bytes=2**29, sharding=Sharding(tensor_parallel=few, data_parallel=3))
    assert 3 * largest_batch(arch, replicas, tokens=tokens, chunk_tokens=64) >= batches[0]


@settings(max_examples=30)
@given(st.sampled_from(("llama-3.2-1b", "deepseek-v2-lite", "gpt2")), st.integers(1, 60), st.integers(2**33, 2**37))
def test_bytes_are_those_of_a_token_times_tokens_on_every_page(name: str, pages: int, memory_bytes: int) -> None:
    """Of full attention; and the concurrency is the pool's tokens divided by a request's."""
    arch, deployment = named(name), on("vllm", memory_bytes=memory_bytes)
    made = footprint(arch, deployment, 64, None)
    (one,), (whole,) = made.caches.own(1), made.kept(16 * pages)
    assert whole == 16 * pages * one
    (pool,) = made.pool(256, 16 * pages)
    found = maximum_concurrency(arch, deployment, tokens=16 * pages, chunk_tokens=64, sequences=256)
    assert found == max(0, pool // (16 * one)) / pages


@settings(max_examples=60)
@given(st.sampled_from(("full", "window", "chunk")), st.integers(1, 40), st.integers(1, 17), st.integers(1, 150))
def test_pages_on_the_way_are_those_of_the_worst_pass(kind: Kind, reach: int, page: int, tokens: int) -> None:
    pages = Pages(kind=kind, reach=reach, shape=(), page_tokens=page, page_bytes=1)
    assert _on_the_way(pages, tokens, 0) == max(pages.count(length, 0) for length in range(1, tokens + 1))


@given(
    st.integers(1, 3000),
    st.integers(0, 50),
    st.sampled_from((2, 4)),
    st.sampled_from(("0.11.0", "0.19.0", "0.33.0")),
    st.sampled_from((None, 1, 40, 132)),
)
def test_more_rows_never_take_less(rows: int, more: int, size: int, version: VllmVersion, units: int | None) -> None:
    assert sampling_bytes(rows, 7, size, version, units) <= sampling_bytes(rows + more, 7, size, version, units)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_halving_finds_what_counting_would(answer: int, most: int) -> None:
    assert largest(lambda x: answer - x, most) == min(answer, most)
