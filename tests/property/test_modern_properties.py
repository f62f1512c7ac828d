"""What experts, latent attention, mixers and engines promise: how their figures move with context, batch and heads."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.engines import hf, vllm
from llmprof.engines.api import ENGINES, Engine, engine_cache
from llmprof.errors import InputError
from llmprof.predict.api import Prediction, predict
from llmprof.predict.record import count_record
from llmprof.routing import Routing
from llmprof.spec.arch import ArchSpec, Glu, Gqa, Indexer, Mla, Mlp, Moe, RmsNorm, Rope
from llmprof.workload import Dtypes, Execution, Workload
from tests.modern import NAMES, modern
from tests.predict_samples import arch, decode, layer, prefill, stack

FUSED, UNFUSED = Execution(attention="fused"), Execution(attention="unfused")


@cache
def released(name: str) -> ArchSpec:
    (found,) = catalog.resolve([name])
    return found


def at(spec: ArchSpec, context: int, *, batch: int = 1, whole: bool = False, dtypes: Dtypes | None = None) -> Workload:
    """A decode step at a context, or a `whole` prompt of so many tokens."""
    source = 5 if spec.encoder is not None else 0
    if whole or context == 1:
        return prefill(context, batch=batch, source=source, dtypes=dtypes)
    return decode(context, batch=batch, source=source, dtypes=dtypes)


def kept(spec: ArchSpec, work: Workload) -> tuple[int, int]:
    """Bytes of what tokens add to, and of states."""
    found = predict(spec, work, FUSED)
    return found.kv_cache_bytes, found.recurrent_state_bytes


# --- states -----------------------------------------------------------------------------------

PURE = [name for name in NAMES if name.startswith(("mamba", "gated-deltanet", "rg-lru", "short-conv", "rwkv"))]
BESIDE = ["hybrid", "mixer-beside", "mixer-beside-deltanet", "channel-mix"]
RELEASED_STATES = [
    "mamba-2.8b",
    "rwkv-4-169m",
    "recurrentgemma-2b",
    "falcon-h1-0.5b",
    "qwen3-next-80b-a3b",
    "jamba-v0.1",
]


def test_states_are_looked_for_in_every_mixer() -> None:
    assert len(PURE) >= 14
    assert {name for name in NAMES if kept(modern(name), at(modern(name), 2, whole=True))[1]} == {*PURE, *BESIDE}


@pytest.mark.parametrize("name", [*PURE, *BESIDE])
@settings(max_examples=15)
@given(contexts=st.sets(st.integers(1, 5000), min_size=2, max_size=3), batch=st.integers(1, 4))
def test_a_state_depends_on_neither_context_nor_past(name: str, contexts: set[int], batch: int) -> None:
    spec = modern(name)
    one = kept(spec, at(spec, 1))[1]
    assert one > 0
    works = [at(spec, context, batch=batch) for context in contexts]
    works.append(at(spec, min(contexts) % 40 + 1, batch=batch, whole=True))
    assert {kept(spec, work)[1] for work in works} == {batch * one}
    if name in PURE:
        assert {kept(spec, work)[0] for work in works} == {0}


@pytest.mark.parametrize("name", RELEASED_STATES)
@settings(max_examples=6)
@given(context=st.integers(2, 2**20))
def test_the_state_of_a_released_model_is_that_of_one_token(name: str, context: int) -> None:
    spec = released(name)
    least = Dtypes(weights="bf16", activations="bf16", kv_cache="fp16")
    assert kept(spec, at(spec, context))[1] == kept(spec, at(spec, 1, dtypes=least))[1] > 0


# --- experts ----------------------------------------------------------------------------------


def of_one_expert(spec: Moe, d: int, nbytes: int) -> int:
    """Bytes of the weights of one expert: two or three matrices of D x F, and maybe a bias for each."""
    matrices = 3 if isinstance(spec.expert, Glu) else 2
    biases = (matrices - 1) * spec.expert.d_ff + d if spec.expert.bias else 0
    return nbytes * (matrices * d * spec.expert.d_ff + biases)


def steps(spec: ArchSpec, batch: int, routing: str = "balanced", *, dtypes: Dtypes | None = None) -> Prediction:
    work = replace(decode(2, batch=batch, dtypes=dtypes), routing=Routing(routing))  # type: ignore[arg-type]
    return predict(spec, work, UNFUSED)


def check_traffic(spec: ArchSpec, batches: list[int], *, nbytes: int = 2, dtypes: Dtypes | None = None) -> None:
    """Decode traffic rises with the batch, from that of the active weights to that of all weights."""
    mixtures = [each.ffn for each in spec.main.layers if isinstance(each.ffn, Moe)]
    record = count_record(spec, decode(2, dtypes=dtypes))
    last = 0
    for batch in sorted(batches):
        moved = steps(spec, batch, dtypes=dtypes).cost.hbm_bytes
        active = steps(spec, batch, "concentrated", dtypes=dtypes).cost.hbm_bytes
        # What a batch reads beyond the experts of one token are whole experts, up to the last.
        more = [(min(moe.n_experts, batch * moe.top_k) - moe.top_k, moe) for moe in mixtures]
        all_of_them = sum((moe.n_experts - moe.top_k) * of_one_expert(moe, spec.d_model, nbytes) for moe in mixtures)
        assert moved - active == sum(n * of_one_expert(moe, spec.d_model, nbytes) for n, moe in more)
        assert active <= moved <= active + all_of_them
        assert (moved == active) == (batch == 1 or not all_of_them)
        assert (moved == active + all_of_them) == all(batch * moe.top_k >= moe.n_experts for moe in mixtures)
        # Every weight of that many parameters is read; of a table that is not the head's, only some rows are.
        rest = 0 if spec.tied_embeddings else spec.vocab_size * spec.d_model
        assert active >= nbytes * (record["params_active"] - rest)
        assert active + all_of_them >= nbytes * (record["params_total"] - rest)
        assert last < moved <= batch * steps(spec, 1, dtypes=dtypes).cost.hbm_bytes
        last = moved
        expected = count_record(spec, decode(2, batch=batch, dtypes=dtypes))["hbm_bytes_expected_unfused"]
        # A token takes k experts, whoever chooses; several tokens share some by chance.
        assert active * (1 - 1e-12) <= expected <= moved * (1 + 1e-12)


@st.composite
def mixtures(draw: st.DrawFn) -> ArchSpec:
    """One or two layers of a mixture."""
    n_experts = draw(st.integers(1, 9))
    glu = draw(st.booleans())
    sizes = {"d_ff": draw(st.sampled_from([5, 12])), "bias": draw(st.booleans())}
    made = Moe(
        n_experts=n_experts,
        top_k=draw(st.integers(1, n_experts)),
        expert=Glu(kind="swiglu", **sizes) if glu else Mlp(kind="relu2", **sizes),  # type: ignore[arg-type]
        shared=draw(st.none() | st.just(Mlp(kind="gelu", d_ff=7))),
        scores=draw(st.sampled_from(["softmax", "sigmoid", "softmax-chosen"])),
        router_bias=draw(st.booleans()),
        weigh=draw(st.sampled_from(["output", "input"])),
    )
    block = layer(Gqa(n_heads=2, n_kv_heads=1, head_dim=8), made)
    return arch(stack([block] * draw(st.integers(1, 2))), d=10, v=11, tied=draw(st.booleans()))


@settings(max_examples=60)
@given(spec=mixtures(), batches=st.sets(st.integers(1, 20), min_size=2, max_size=4), wide=st.booleans())
def test_decode_reads_from_the_active_to_all_weights(spec: ArchSpec, batches: set[int], wide: bool) -> None:
    dtypes = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32") if wide else Dtypes()
    check_traffic(spec, [1, *batches - {1}], nbytes=4 if wide else 2, dtypes=dtypes)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3", "gpt-oss-20b"])
def test_decode_of_a_released_mixture_reads_from_the_active_to_all_weights(name: str) -> None:
    check_traffic(released(name), [1, 2, 3, 8, 31, 32, 128])


# --- latent attention ---------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_a_latent_cache_depends_on_neither_heads_nor_their_widths(data: st.DataObject) -> None:
    draw = data.draw
    rank, rotated, layers = draw(st.integers(1, 40)), 2 * draw(st.integers(1, 8)), draw(st.integers(1, 3))
    index = draw(st.none() | st.integers(16, 24))
    indexer = None if index is None else Indexer(n_heads=draw(st.integers(1, 4)), head_dim=index, top_k=3)
    batch, context = draw(st.integers(1, 3)), draw(st.integers(1, 5000))
    for _ in range(2):
        spec = Mla(
            n_heads=draw(st.integers(1, 64)),
            q_rank=draw(st.integers(1, 9)) if indexer is not None else draw(st.none() | st.integers(1, 9)),
            kv_rank=rank,
            nope_dim=draw(st.integers(1, 20)),
            rope_dim=rotated,
            value_dim=draw(st.integers(1, 20)),
            norm=RmsNorm(),
            indexer=indexer,
        )
        block = layer(spec, position=Rope(theta=10000.0))
        model = arch(stack([block] * layers), d=10, v=11)
        own = 2 * batch * context * layers * (rank + rotated + (index or 0))
        assert kept(model, at(model, context, batch=batch)) == (own, 0)


# --- engines ------------------------------------------------------------------------------------

DECODERS = [name for name in NAMES if modern(name).structure != "encoder"]
NOT_COVERED: dict[Engine, set[str]] = {
    "hf": set(),
    "vllm": {"mla-indexer", "rg-lru", "rg-lru-one-block", "rwkv-4", "rwkv-4-mlp", "channel-mix"},
    "llama.cpp": {
        *("mla-indexer", "rg-lru", "rg-lru-one-block", "rwkv-4", "rwkv-4-mlp", "channel-mix"),
        *("audio", "reordered-cross", "t5-per-layer"),
    },
}
"""What an engine does not keep at all."""


def full_rows(spec: ArchSpec, work: Workload) -> int:
    """Bytes of one token in each layer whose window or chunk is full."""
    rows = 0
    for each in (block.attention for block in spec.main.layers):
        if isinstance(each, Gqa) and not each.shared_kv:
            reach = each.window or each.chunk
            if reach is not None and work.context >= reach > 1:
                rows += 2 * each.n_kv_heads * each.head_dim * 2
    return work.batch * rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=12)
@given(
    contexts=st.sets(st.integers(1, 3000) | st.integers(1, 40), min_size=2, max_size=4),
    batch=st.integers(1, 3),
    page=st.sampled_from([1, 4, 16]),
)
def test_an_engine_keeps_no_less_than_the_architecture_but_by_its_rule(
    name: str, engine: Engine, contexts: set[int], batch: int, page: int
) -> None:
    spec = modern(name)
    chunked = any(isinstance(each.attention, Gqa) and each.attention.chunk for each in spec.main.layers)
    room = 64 if name in ("audio", "stored-sinusoid") else 3000  # the rows of a table of positions
    for context in sorted({min(context, room) for context in contexts}):
        work = at(spec, context, batch=batch)
        setting = vllm.VllmSetting(page_tokens=page)
        if name in NOT_COVERED[engine]:
            with pytest.raises(InputError, match=r"vllm|vLLM|llama\.cpp"):
                engine_cache(spec, work, engine, setting)
            return
        found = engine_cache(spec, work, engine, setting)
        own, state = kept(spec, work)
        assert (found.own_kv_bytes, found.own_state_bytes) == (own, state)
        less = {each.reason: each.nbytes for each in found.kv_differences if each.nbytes < 0}
        if engine == "hf":
            # A full window holds one token less; the next one completes it. Nothing else differs.
            assert found.kv_cache_bytes == own - full_rows(spec, work)
            assert set(less) <= {hf.WINDOW}
        elif engine == "vllm" and chunked:
            assert set(less) <= {vllm.PAGES}  # a chunk that is over is given back at once
        else:
            assert not less
            assert found.kv_cache_bytes >= own
