"""The largest batch, the longest context and the concurrency: exact of the bar, quick, and as vLLM printed them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmprof import catalog
from llmprof.device import find
from llmprof.errors import InputError
from llmprof.planning import footprint as footprints
from llmprof.planning import passes
from llmprof.planning.assumptions import VllmVersion
from llmprof.planning.footprint import footprint
from llmprof.planning.inverse import ANY, default_sequences, largest_batch, largest_context, maximum_concurrency
from llmprof.planning.memory import Deployment, memory_bar
from llmprof.planning.overheads import Overheads
from llmprof.planning.steps import Steps, largest
from llmprof.predict.api import Prediction, predict
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec, GatedDeltaNet, Gqa, NoHead
from tests.unit.engine_archs import decoder, layer

GIB = 2**30
NOTHING = Overheads(
    context_bytes=0, module_bytes=0, workspace_bytes=0, graph_bytes=0, communication_bytes=0, kept_free_bytes=0
)


def named(name: str) -> ArchSpec:
    (arch,) = catalog.resolve([name], variant=None, all_variants=False)
    return arch


def on(device: str, **deployment: object) -> Deployment:
    return Deployment(device=find(device), **deployment)  # type: ignore[arg-type]


# --- exact --------------------------------------------------------------------------------------

DEPLOYMENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-3.1-8b", "h100-sxm", {}),
    ("llama-3.1-8b", "l4", dict(engine="architecture")),
    ("llama-3.1-70b", "h200", dict(sharding=Sharding(tensor_parallel=2, pipeline_parallel=2))),
    ("gemma-3-27b", "h200", {}),
    ("deepseek-v2-lite", "h200", {}),
    ("mamba-2.8b", "l4", {}),
    ("mamba-2.8b", "l4", dict(engine="architecture")),
    ("qwen3-next-80b-a3b", "b200", {}),
    ("t5-base", "t4", dict(memory_bytes=2 * GIB, overheads=NOTHING)),
    ("chatglm-6b", "h200", dict(engine="architecture")),
    ("gpt2", "t4", {}),
]


@pytest.mark.parametrize(("name", "device", "deployment"), DEPLOYMENTS)
def test_the_answer_fits_and_one_more_does_not(name: str, device: str, deployment: dict[str, Any]) -> None:
    arch, made = named(name), on(device, **deployment)
    ask = dict(chunk_tokens=512)
    batch = largest_batch(arch, made, tokens=777, **ask)
    assert batch > 0
    assert memory_bar(arch, made, sequences=batch, tokens=777, **ask).fits
    assert not memory_bar(arch, made, sequences=batch + 1, tokens=777, **ask).fits
    context = largest_context(arch, made, sequences=batch, **ask)
    assert context >= 777
    if context not in (ANY, arch.max_context):
        assert memory_bar(arch, made, sequences=batch, tokens=context, **ask).fits
        assert not memory_bar(arch, made, sequences=batch, tokens=context + 1, **ask).fits


def test_by_hand() -> None:
    """A layer of 2 heads of 8 in bf16 keeps 64 bytes a token: pages of 1,024 bytes, of which one is never given out."""
    arch = replace(decoder(layer(Gqa(n_heads=4, n_kv_heads=2, head_dim=8))), head=NoHead())
    empty = memory_bar(arch, on("h200", overheads=NOTHING, memory_bytes=1), sequences=1, tokens=33, chunk_tokens=8)
    held = empty.used_bytes - 3 * 1024
    assert empty.bytes_of("page never given out") == 1024
    for spare, fits in ((2 * 3 * 1024, 2), (2 * 3 * 1024 - 1, 1), (3 * 1024, 1), (3 * 1024 - 1, 0)):
        made = on("h200", overheads=NOTHING, memory_bytes=held + spare)
        # The chunk of 8 tokens is the largest pass of one sequence as of two, and nothing is sampled.
        assert largest_batch(arch, made, tokens=33, chunk_tokens=8) == fits
    made = on("h200", overheads=NOTHING, memory_bytes=held + 5 * 1024)
    assert largest_context(arch, made, sequences=1, chunk_tokens=8) == 80


def test_nothing_fits() -> None:
    arch, made = named("llama-3.1-70b"), on("l4")
    assert largest_batch(arch, made, tokens=1, chunk_tokens=64) == 0
    assert largest_context(arch, made, sequences=1, chunk_tokens=64) == 0
    assert maximum_concurrency(arch, made, tokens=1, chunk_tokens=64) == 0
    bar = memory_bar(arch, made, sequences=1, tokens=1, chunk_tokens=64)
    assert not bar.fits
    assert bar.free_bytes < 0


def test_a_context_ends_where_the_model_does() -> None:
    arch, made = named("llama-3.1-8b"), on("b200")
    assert largest_context(arch, made, sequences=1, chunk_tokens=2048) == arch.max_context == 131_072
    assert largest_context(named("bert-base"), made, sequences=9, chunk_tokens=2048) == 512


def test_what_nothing_fills() -> None:
    bert, mamba, made = named("bert-base"), named("mamba-2.8b"), on("l4")
    assert largest_batch(bert, made, tokens=100, chunk_tokens=2048) == ANY
    assert maximum_concurrency(bert, made, tokens=100, chunk_tokens=2048) == ANY
    assert largest_context(mamba, made, sequences=3, chunk_tokens=2048) == ANY
    assert 0 < largest_batch(mamba, made, tokens=10**9, chunk_tokens=2048) < ANY


def test_numbers_below_one_are_refused() -> None:
    arch, made = named("llama-3.2-1b"), on("l4")
    asks: list[Callable[[], object]] = [
        lambda: largest_batch(arch, made, tokens=0, chunk_tokens=64),
        lambda: largest_context(arch, made, sequences=-1, chunk_tokens=64),
        lambda: maximum_concurrency(arch, made, tokens=0, chunk_tokens=64),
        lambda: maximum_concurrency(arch, made, tokens=9, chunk_tokens=64, sequences=0),
        lambda: largest_batch(arch, made, tokens=9, chunk_tokens=0),
    ]
    for ask in asks:
        with pytest.raises(InputError, match="it must be at least 1"):
            ask()


# --- quick --------------------------------------------------------------------------------------


def test_a_search_predicts_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halving asks some ten times; what is equal at both ends, or never decides, is not predicted between."""
    calls = list[object]()

    def counted(*given: Any) -> Prediction:
        calls.append(given)
        return predict(*given)

    monkeypatch.setattr(passes, "predict", counted)
    monkeypatch.setattr(footprints, "_models", {})
    arch = named("llama-3.1-8b")
    largest_batch(arch, on("h100-sxm"), tokens=4096, chunk_tokens=2048)
    assert len(calls) <= 5
    largest_context(arch, on("h100-sxm"), sequences=8, chunk_tokens=2048)
    assert len(calls) <= 12
    calls.clear()
    for device in ("h100-sxm", "h200", "b200", "l40s"):
        memory_bar(arch, on(device), sequences=8, tokens=4096, chunk_tokens=2048)
    assert len(calls) <= 2, "passes are the same on every device"


def test_steps_are_not_asked_between_equal_ends() -> None:
    asked = list[int]()

    def compute(x: int) -> tuple[int, ...]:
        asked.append(x)
        return (x // 100,)

    steps = Steps(compute)
    assert [steps(x) for x in (100, 199, 150, 101, 250, 200, 220)] == [(1,), (1,), (1,), (1,), (2,), (2,), (2,)]
    assert asked == [100, 199, 250, 200]


@pytest.mark.parametrize("left", [lambda x: -x, lambda x: -((x + 6) // 7), lambda x: -(x**3), lambda x: -(x > 0)])
def test_a_number_is_found_wherever_it_is(left: Callable[[int], int]) -> None:
    """Of what falls evenly, in steps, ever faster and at one place alone."""
    for most in (1, 2, 5000, 10**15):
        for answer in (0, 1, 2, 3, 4095, 4096, 4097, 10_411, most - 1, most):
            if answer <= most:
                asked = list[int]()

                def found(x: int, answer: int = answer, asked: list[int] = asked) -> int:
                    asked.append(x)
                    return left(x - answer) if x > answer else answer - x

                assert largest(found, most) == answer
                assert len(asked) <= 80 + 2
    assert largest(lambda x: 1, 0) == 0


def test_what_falls_evenly_is_found_in_few_guesses() -> None:
    for answer in (1, 2, 3, 100, 171, 1000, 3333, 4094):
        asked = list[int]()

        def left(x: int, answer: int = answer, asked: list[int] = asked) -> int:
            asked.append(x)
            return 64 * (answer - x) + 63

        assert largest(left, 4095) == answer
        assert len(asked) <= 4


def test_what_is_left_on_each_stage_is_what_its_bar_says() -> None:
    for name, device, deployment in DEPLOYMENTS:
        arch = named(name)
        made = footprint(arch, on(device, **deployment), 512, None)
        for sequences, tokens in ((1, 1), (3, 300), (200, 17)):
            bars = [made.bar(stage, sequences, tokens).free_bytes for stage in range(made.stages)]
            assert made.free_of_each(sequences, tokens) == tuple(bars)
            assert made.free(sequences, tokens) == min(bars)


# --- as vLLM printed ----------------------------------------------------------------------------


def concurrency(arch: ArchSpec, pool: int, *, tokens: int, chunk: int, version: VllmVersion = "0.19.0") -> float:
    """Of a device whose pool has `pool` bytes, whatever else lies on it."""
    probe = on("h200", overheads=NOTHING, vllm_version=version, memory_bytes=10**13)
    (left,) = footprint(arch, probe, chunk, None).pool(256, tokens)
    made = replace(probe, memory_bytes=10**13 - left + pool)
    return maximum_concurrency(arch, made, tokens=tokens, chunk_tokens=chunk, sequences=256)


@pytest.mark.parametrize(
    ("name", "pool", "tokens", "printed"),
    [
        # vLLM 0.19.0: 5.29 GiB are 43,296 tokens, 2,706 pages of 16 of 131,072 bytes.
        ("llama-3.1-8b", 2706 * 16 * 131_072, 43_296, 1.00),
        # https://github.com/xming521/WeClone/issues/101: 7.73 GiB, 9,048 blocks.
        ("qwen2.5-7b", 9048 * 16 * 57_344, 3072, 47.12),
        # ai-quick-actions/troubleshooting-tips.md of oci-data-science-ai-samples: 4.60 GiB, 2,356 blocks.
        ("llama-3.1-8b", 2356 * 16 * 131_072, 131_072, 0.29),
        # https://github.com/vllm-project/vllm/pull/17122: 158,656 tokens on an L40S.
        ("llama-3.1-8b", 158_656 * 131_072, 32_768, 4.84),
        # vLLM 0.13.0: 25.39 GiB, 416,007 pages for 4 layers; each of six groups of windows takes a page more.
        ("gemma-3-1b", 416_007 * 4 * 16_384, 2048, 461.21),
    ],
)
def test_maximum_concurrency_that_vllm_printed(name: str, pool: int, tokens: int, printed: float) -> None:
    assert round(concurrency(named(name), pool, tokens=tokens, chunk=2048), 2) == printed


def test_windows_keep_the_tokens_of_all_passes_in_flight() -> None:
    """gemma-3-1b: a full group, and six of windows of 512. 8,192 tokens are 512 pages; windows keep 511 + 1,024 tokens
    in 0.19.0, 96 pages and one more, and 511 + 2 * 1,024 in 0.33.0, which prepares the next pass: 160 and one."""
    arch, pool = named("gemma-3-1b"), 10_000 * 4 * 16_384
    assert concurrency(arch, pool, tokens=8192, chunk=1024) == 10_000 / (512 + 6 * 97)
    assert concurrency(arch, pool, tokens=8192, chunk=1024, version="0.33.0") == 10_000 / (512 + 6 * 161)


def test_a_pool_without_its_last_page() -> None:
    pool = 2706 * 16 * 131_072
    arch = named("llama-3.1-8b")
    assert concurrency(arch, pool - 1, tokens=16, chunk=2048) == 2705
    assert concurrency(arch, pool, tokens=17, chunk=2048) == 1353


def test_a_state_is_one_page_of_each_group() -> None:
    """Qwen3-Next on two devices, vLLM 0.10.2: 44.59 GiB are 973,760 tokens, 1,790 blocks of 544 for each of 4 groups."""
    arch = decoder(
        *(
            [layer(GatedDeltaNet(n_heads=32, n_key_heads=16, key_dim=128, value_dim=128, chunk=64, d_conv=4))] * 3
            + [layer(Gqa(n_heads=16, n_kv_heads=2, head_dim=256))]
        )
        * 2,
        d_model=2048,
    )
    # A page of 544 tokens: keys and values of 2 heads of 256 in bf16. Two layers to a group, four groups.
    block = 2 * 544 * 2 * 2 * 256 * 2
    pages = -(-16 * (32 * 128 * 128 * 2 + (2 * 16 * 128 + 32 * 128) * 3 * 2) // (16 * 2 * 2 * 256 * 2))
    tokens = -(-pages // 16) * 16
    assert concurrency(arch, 1000 * block * tokens // 544, tokens=2 * tokens, chunk=2048) == 1000 / (2 + 3)


def test_sequences_of_vllm_itself() -> None:
    for device, sequences in (("h100-sxm", 1024), ("a100-sxm-80gb", 256), ("l40s", 256), ("mi300x", 1024)):
        assert default_sequences(on(device)) == sequences
