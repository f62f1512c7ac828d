"""The two halves agree on every rank, on `meta`, for any number of them. Ranks that really talk: test_sharding_ranks.

Some models are spread in a few of the ways that there are; with LLMPROF_EVERY=1 all are in all.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof import catalog
from llmprof.ledger import Ledger, Quantity
from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.predict.sharding.api import sharded_as
from llmprof.routing import BALANCED, Routing
from llmprof.sharding import Collective, CollectiveKind, Sharding, StageAccount
from llmprof.spec.arch import ArchSpec
from llmprof.workload import QUANTISED, Dtypes, Logits, StorageDtype, Workload
from tests.importing import EVERYTHING
from tests.sharded_specs import AFTER_PAST, DECODE, FP32, LONG, PREFILL, RINGS, SHARED, packed, spec

QUANTITIES: tuple[Quantity, ...] = (
    "params",
    "weight_bytes",
    "kv_cache_bytes",
    "recurrent_state_bytes",
    "matmul_flops",
    "matmul_flops_causal",
    "hbm_bytes",
    "peak_live_bytes",
)
UNFUSED: tuple[Quantity, ...] = QUANTITIES[:6]
"""What does not depend on whether a core is fused: real processes run on CPUs, unfused."""


def predicted(arch: ArchSpec, workload: Workload, sharding: Sharding) -> tuple[StageAccount, ...]:
    """What the formulas say."""
    return sharded_as(arch, workload, sharding).stages


def figures(ledger: Ledger, quantities: tuple[Quantity, ...] = QUANTITIES) -> dict[tuple[str, str], int]:
    """Every figure by path and quantity; nothing and 0 are the same."""
    assert {entry.quantity for entry in ledger} <= set(QUANTITIES)
    found = {(entry.path, entry.quantity): entry.value for entry in ledger if entry.quantity in quantities}
    return {key: value for key, value in found.items() if value}


def calls(account: StageAccount) -> dict[tuple[str, CollectiveKind], Collective]:
    """The collectives by path and kind; a pair stands there once."""
    by_pair = {(call.path, call.kind): call for call in account.collectives}
    assert len(by_pair) == len(account.collectives)
    return by_pair


def agree(
    found: tuple[StageAccount, ...],
    expected: tuple[StageAccount, ...],
    quantities: tuple[Quantity, ...] = QUANTITIES,
) -> None:
    """Equal in all but what one of the two could not see."""
    assert [account.stage for account in found] == [account.stage for account in expected]
    for one, other in zip(found, expected, strict=True):
        unseen = {*one.unmeasured, *other.unmeasured}
        mine, theirs = figures(one.ledger, quantities), figures(other.ledger, quantities)
        assert {key: mine[key] for key in mine.keys() - unseen} == {key: theirs[key] for key in theirs.keys() - unseen}
        assert calls(one) == calls(other)


# --- on meta ----------------------------------------------------------------------------------

LOGITS: tuple[Logits, ...] = ("all", "last", "none")
DEGREES = (
    Sharding(tensor_parallel=2),
    Sharding(tensor_parallel=4, pipeline_parallel=2, sequence_parallel=True),
    Sharding(tensor_parallel=2, pipeline_parallel=2, data_parallel=2),
)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("workload", [AFTER_PAST, DECODE], ids=["prefill", "decode"])
def test_both_halves_agree_on_small_models(name: str, workload: Workload) -> None:
    arch, prefill = spec(name), workload.phase == "prefill"
    for degrees in DEGREES if EVERYTHING else (DEGREES[1] if prefill else DEGREES[2],):
        sharding = replace(degrees, sequence_parallel=degrees.sequence_parallel and prefill)
        agree(predicted(arch, workload, sharding), accounts_on_meta(arch, workload, sharding))


EXPERTS = (
    Sharding(tensor_parallel=2, expert_parallel=2),
    Sharding(tensor_parallel=4, expert_parallel=2, pipeline_parallel=2),
    Sharding(tensor_parallel=2, data_parallel=2, expert_parallel=2),
    Sharding(tensor_parallel=2, sequence_parallel=True, expert_parallel=2),
    Sharding(data_parallel=2, expert_parallel=2, pipeline_parallel=2),
    Sharding(tensor_parallel=2, sequence_parallel=True, data_parallel=2, expert_parallel=4),
)


ROUTINGS = (BALANCED, Routing("concentrated"))


@pytest.mark.parametrize("name", ["experts", "latent"])
@pytest.mark.parametrize("workload", [AFTER_PAST, DECODE], ids=["prefill", "decode"])
def test_both_halves_agree_on_ranks_that_share_experts(name: str, workload: Workload) -> None:
    """Of one model with one routing, and of the other with the other."""
    arch, turn = spec(name), name == "latent"
    for index, degrees in enumerate(EXPERTS):
        split = (1, arch.n_layers - 1) if degrees.pipeline_parallel > 1 else ()
        sharding = replace(degrees, pipeline_layers=split)
        if sharding.sequence_parallel and workload.phase == "decode":
            continue
        for routing in ROUTINGS if EVERYTHING else (ROUTINGS[(index + turn) % 2],):
            now = replace(workload, routing=routing)
            agree(predicted(arch, now, sharding), accounts_on_meta(arch, now, sharding))


@pytest.mark.parametrize(
    ("name", "dtypes"),
    [*((name, FP32) for name in RINGS), *((name, Dtypes()) for name in RINGS if name != "parallel")],
)
def test_both_halves_agree_on_ranks_that_share_tokens(name: str, dtypes: Dtypes) -> None:
    arch, workload = spec(name), replace(LONG, dtypes=dtypes)
    experts = 2 if name == "experts" else 1
    ways = (
        Sharding(context_parallel=2, tensor_parallel=2, expert_parallel=experts),
        Sharding(context_parallel=4, tensor_parallel=2, sequence_parallel=True, pipeline_parallel=2),
        Sharding(context_parallel=4),
        Sharding(context_parallel=2, data_parallel=2),
    )
    for sharding in ways if EVERYTHING or name == "learned" else ways[:2] if dtypes is FP32 else ways[2:3]:
        agree(predicted(arch, workload, sharding), accounts_on_meta(arch, workload, sharding))
    for logits in LOGITS if EVERYTHING or (name == "learned" and dtypes is FP32) else ():
        now = replace(workload, logits=logits)
        ring = Sharding(context_parallel=2)
        agree(predicted(arch, now, ring), accounts_on_meta(arch, now, ring))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mamba2-130m", 2),
        ("nemotron-h-8b", 8),
        ("qwen3-next-80b-a3b", 4),
        ("jamba-v0.1", 8),
        ("recurrentgemma-2b", 4),
        ("lfm2-1.2b", 4),
        ("rwkv-4-169m", 2),
        ("falcon-h1-0.5b", 2),
    ],
)
def test_both_halves_agree_on_stages_of_any_layers(name: str, layers: int) -> None:
    """The first layers of models whose states no ranks can share."""
    [arch] = catalog.resolve([name])
    arch = replace(arch, stacks=(replace(arch.main, layers=arch.main.layers[:layers]),))
    copied = Sharding(data_parallel=2)
    staged = Sharding(pipeline_parallel=2, pipeline_layers=(1, layers - 1))
    for phase, new, sharding in (("prefill", 6, staged), ("decode", 1, copied)):
        workload = Workload(phase=phase, batch=2, new_tokens=new, context=9)  # type: ignore[arg-type]
        for each in (staged, copied) if EVERYTHING else (sharding,):
            agree(predicted(arch, workload, each), accounts_on_meta(arch, workload, each))


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        *((name, form) for name in ("grouped", "experts") for form in QUANTISED),
        *(("latent", form) for form in (QUANTISED if EVERYTHING else ("int4",))),
        *(("sinks", form) for form in (QUANTISED if EVERYTHING else ("fp8",))),
        *(("states", form) for form in (QUANTISED if EVERYTHING else ("int8",))),
    ],
)
def test_both_halves_agree_on_packed_weights(name: str, weights: StorageDtype) -> None:
    workload = packed(PREFILL, weights)
    # A quarter of the 40 inputs of "grouped" is no whole number of groups.
    sharding = Sharding(tensor_parallel=2) if name == "grouped" else Sharding(tensor_parallel=4, expert_parallel=2)
    agree(predicted(spec(name), workload, sharding), accounts_on_meta(spec(name), workload, sharding))


@pytest.mark.parametrize("logits", ["all", "last", "none"])
def test_both_halves_agree_on_what_reaches_the_head(logits: str) -> None:
    workload = replace(PREFILL, logits=logits)  # type: ignore[arg-type]
    for rows in (False, True):
        sharding = Sharding(tensor_parallel=2, sequence_parallel=rows)
        agree(predicted(spec("grouped"), workload, sharding), accounts_on_meta(spec("grouped"), workload, sharding))


@pytest.mark.parametrize("kv_cache", ["bf16", "fp8", "int8", "int4"])
def test_both_halves_agree_on_a_cache_of_any_dtype(kv_cache: str) -> None:
    dtypes = Dtypes(weights="bf16", activations="bf16", kv_cache=kv_cache)  # type: ignore[arg-type]
    workload = replace(PREFILL, dtypes=dtypes)
    for n in (2, 4) if EVERYTHING or kv_cache == "fp8" else (4,):  # two KV heads: as many as ranks, and fewer
        agree(
            predicted(spec("grouped"), workload, Sharding(tensor_parallel=n)),
            accounts_on_meta(spec("grouped"), workload, Sharding(tensor_parallel=n)),
        )


@pytest.mark.parametrize(
    ("name", "sharding"),
    [
        ("llama-2-70b", Sharding(tensor_parallel=8)),
        ("llama-2-70b", Sharding(tensor_parallel=16, sequence_parallel=True, pipeline_parallel=2)),
        ("gpt2", Sharding(tensor_parallel=4)),
        ("gpt-j-6b", Sharding(tensor_parallel=8, sequence_parallel=True)),
        ("gpt-neox-20b", Sharding(tensor_parallel=4, sequence_parallel=True, data_parallel=2)),
        ("gemma-2-9b", Sharding(tensor_parallel=16)),
        ("qwen3-8b", Sharding(tensor_parallel=4, pipeline_parallel=2)),
        ("gpt-oss-20b", Sharding(tensor_parallel=4, expert_parallel=2)),
        ("llama-4-scout-17b-16e", Sharding(tensor_parallel=2, expert_parallel=2, sequence_parallel=True)),
        ("deepseek-v3", Sharding(tensor_parallel=8, pipeline_parallel=2)),
        ("nemotron-h-8b", Sharding(tensor_parallel=8, pipeline_parallel=2, sequence_parallel=True)),
        ("nemotron-3-super-120b-a12b", Sharding(tensor_parallel=4, pipeline_parallel=2, expert_parallel=4)),
        ("qwen3-next-80b-a3b", Sharding(tensor_parallel=2, pipeline_parallel=2, expert_parallel=2)),
        ("deepseek-v2-lite", Sharding(data_parallel=2, expert_parallel=2)),
    ],
)
def test_both_halves_agree_on_models_of_the_catalogue(name: str, sharding: Sharding) -> None:
    """A few layers of each, at its own widths: the others are the same."""
    [arch] = catalog.resolve([name])
    depth = 2 * sharding.pipeline_parallel + (sharding.pipeline_parallel > 1)  # 3 and 2 layers on two stages
    arch = replace(arch, stacks=(replace(arch.main, layers=arch.main.layers[:depth]),))
    workload = Workload(phase="prefill", batch=2, new_tokens=16, context=24)
    agree(predicted(arch, workload, sharding), accounts_on_meta(arch, workload, sharding))


# --- by hand ----------------------------------------------------------------------------------


def test_a_70b_block_on_eight_ranks() -> None:
    """Llama-2-70B (https://arxiv.org/abs/2307.09288): D 8192, 64 heads of 128, 8 KV heads, F 28672."""
    [arch] = catalog.resolve(["llama-2-70b"])
    arch = replace(arch, stacks=(replace(arch.main, layers=arch.main.layers[:1]),))
    workload = Workload(phase="prefill", batch=1, new_tokens=4096, context=4096)
    [account] = accounts_on_meta(arch, workload, Sharding(tensor_parallel=8))
    held = figures(account.ledger.subtree("layers.0"))
    a = 4096 * 8192 * 2
    assert held["layers.0.attn.q_proj", "params"] == 8 * 128 * 8192
    assert held["layers.0.attn.k_proj", "params"] == 1 * 128 * 8192
    assert held["layers.0.attn.o_proj", "params"] == 8 * 128 * 8192
    assert held["layers.0.ffn.gate", "params"] == 28672 // 8 * 8192
    assert held["layers.0.attn_norm", "params"] == 8192
    assert held["layers.0.attn.cache.k", "kv_cache_bytes"] == 1 * 128 * 4096 * 2
    assert set(account.collectives) == {
        Collective(path="embed", kind="all-reduce", count=1, bytes=a, wire_bytes=2 * 7 * a // 8),
        Collective(path="layers.0.attn.o_proj", kind="all-reduce", count=1, bytes=a, wire_bytes=2 * 7 * a // 8),
        Collective(path="layers.0.ffn.down", kind="all-reduce", count=1, bytes=a, wire_bytes=2 * 7 * a // 8),
        Collective(
            path="lm_head",
            kind="all-gather",
            count=1,
            bytes=4096 * 32000 * 2,
            wire_bytes=4096 * 32000 * 2 * 7 // 8,
        ),
    }
