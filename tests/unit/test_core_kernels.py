"""`count --by kernel`: which tiled kernels a core has on a device, with the figures of a walk through their tiles."""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.device import find
from llmprof.measure.tiles import fa1, fa1_backward, fa2, fa2_backward, fa3, once, split_kv
from llmprof.measure.tiles.problem import Mask, Problem, Tile
from llmprof.predict.core_kernels import CoreKernels, core_kernels
from llmprof.predict.levels import levels
from llmprof.predict.record import both
from llmprof.spec.arch import Alibi, Gqa, T5Bias
from llmprof.workload import Dtypes, Workload
from tests.cli.conftest import Cli, cli
from tests.predict_samples import UNFUSED, arch, decode, layer, prefill, stack
from tests.tile_variants import differences

__all__ = ["cli"]

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
PLAIN = Gqa(n_heads=4, n_kv_heads=2, head_dim=64)
M = 116_736
"""Values of 2 bytes in the 228 KiB of an SM of an H200."""


def kernels(work: Workload, attention: Gqa = PLAIN, device: str = "h200", **options: Any) -> CoreKernels:
    layers = [layer(attention, position=options.pop("position", None))]
    spec = arch(stack(layers, mask=options.pop("mask", "causal")), d=8, v=16, **options)
    (found,) = core_kernels(spec, work, UNFUSED, find(device), 16)
    return found


def problem(queries: int, keys: int, *, heads: int = 4, kind: Any = "full") -> Problem:
    mask = Mask(kind=kind)
    sizes = {"batch": 2, "kv_heads": 2, "head_dim": 64, "value_dim": 64, "element_bytes": 2}
    return Problem(queries=queries, keys=keys, heads=heads, mask=mask, **sizes)


def test_a_prompt_s_kernels_are_a_walk_through_their_tiles() -> None:
    """Tiles of docs/reference-tiles.md, section 3, head dim 64 on sm90; 250 keys are one split tile: one split."""
    case = problem(250, 250, kind="causal")
    forward, backward = once.forward_bytes(case), once.backward_bytes(case)
    alone = split_kv.decode(case, Tile(64, 128, 4), 1, 16).attending
    expected = [
        ("FlashAttention-2 forward sm90, 128x128 (d=64)", {"attention": fa2.forward(case, Tile(128, 128, 4)).counts}),
        ("FlashAttention-2 split-KV forward, one split, sm90, 64x128 (d=64), pages of 16", {"attention": alone}),
        # Two heads fill 3 tiles of 192 by 87%, one fills 2 by 65%: more than a tenth less.
        (
            "FlashAttention-3 forward sm90, 192x128 (d=64), without PackGQA",
            {"attention": fa3.forward(case, Tile(192, 128)).counts},
        ),
        (f"FlashAttention-1 algorithm 1, 64x250 (M={M})", {"attention": fa1.forward(case, M).counts}),
        ("FlashAttention-2 backward sm90, 128x128 (d=64)", fa2_backward.backward(case, Tile(128, 128, 8)).kernels),
        (f"FlashAttention-1 algorithm 4, 64x250 (M={M})", fa1_backward.backward(case, M).kernels),
    ]
    found = kernels(prefill(250, batch=2)).kernels
    assert [(kernel.name, kernel.chosen) for kernel in found] == [(name, not i) for i, (name, _) in enumerate(expected)]
    for kernel, (name, counts) in zip(found, expected, strict=True):
        tensors = (backward if "backward" in name or "4," in name else forward) + ("pages" in name) * 4 * 2 * 16
        assert list(differences(kernel.traffic, counts, tensors)) == [], name


def test_a_step_s_kernels_are_a_walk_through_their_tiles() -> None:
    """Two heads of each KV head share a tile's rows. Of 8 split tiles 4 CTAs make 8 splits: 32 of 264 halves of SMs."""
    case, packed = problem(1, 2000), problem(2, 2000, heads=2)
    split, paged = (split_kv.decode(case, Tile(64, 256, 4), 8, page) for page in (None, 16))
    third = fa3.forward(case, Tile(192, 192), scores_in_shared=True).counts
    name = "FlashAttention-2 split-KV forward sm90, 64x256 (d=64) in 8 splits"
    expected = [
        (name, {"attention": split.attending, "combine": split.combining}),
        ("FlashAttention-2 forward sm90, 128x128 (d=64)", {"attention": fa2.forward(packed, Tile(128, 128, 4)).counts}),
        (f"{name}, pages of 16", {"attention": paged.attending, "combine": paged.combining}),
        ("FlashAttention-3 forward sm90, 192x192 (d=64), without PackGQA", {"attention": third}),
        (f"FlashAttention-1 algorithm 1, 1x456 (M={M})", {"attention": fa1.forward(case, M).counts}),
    ]
    found = kernels(decode(2000, batch=2)).kernels
    assert [(kernel.name, kernel.chosen) for kernel in found] == [(name, not i) for i, (name, _) in enumerate(expected)]
    for kernel, (name, counts) in zip(found, expected, strict=True):
        tensors = once.forward_bytes(case) + ("pages" in name) * 4 * 2 * 125
        assert list(differences(kernel.traffic, counts, tensors)) == [], name


@pytest.mark.parametrize("work", [prefill(4096), prefill(300, batch=3), decode(9000), decode(700, batch=200)])
@pytest.mark.parametrize("device", ["h200", "a100-sxm-80gb", "l4"])
def test_the_kernel_that_is_chosen_is_the_one_of_the_levels(work: Workload, device: str) -> None:
    (chosen,) = (kernel for kernel in kernels(work, device=device).kernels if kernel.chosen)
    fused, _ = both(arch(stack([layer(PLAIN)]), d=8, v=16), work, UNFUSED)
    ledger, traffic = levels(fused, find(device)), chosen.traffic
    assert traffic.smem_reads is not None
    assert traffic.smem_writes is not None
    assert ledger.at("layers.0.attn.core", "l2_to_sm_bytes") == traffic.l2_to_sm
    assert ledger.at("layers.0.attn.core", "smem_bytes") == traffic.smem_reads + traffic.smem_writes
    assert ledger.at("layers.0.attn.core", "matmul_flops_executed") == traffic.executed_flops


FA1, FA2, FA3 = "FlashAttention-1", "FlashAttention-2", "FlashAttention-3"


@pytest.mark.parametrize(
    ("found", "mask", "names", "chosen"),
    [
        (kernels(prefill(64), Gqa(n_heads=2, n_kv_heads=2, head_dim=64, window=9)), "window 9", {FA1, FA2, FA3}, False),
        (kernels(prefill(64), device="a30"), "causal 0", {FA1, FA2}, True),
        (kernels(prefill(64), Gqa(n_heads=2, n_kv_heads=2, head_dim=100)), "causal 0", {FA1}, False),
        (kernels(prefill(64, dtypes=FP32)), "causal 0", {FA1}, False),
        (kernels(decode(64, dtypes=Dtypes(kv_cache="fp8"))), None, set(), False),
        (kernels(decode(64), position=Alibi()), "full 0", {FA1, FA2, FA3}, False),
        (kernels(prefill(64), position=T5Bias(n_buckets=8, max_distance=16)), None, set(), False),
        (
            kernels(prefill(64, prefix=40), mask="prefix", structure="prefix-decoder"),
            "prefix 40",
            {FA1, FA2, FA3},
            False,
        ),
    ],
)
def test_who_runs_what(found: CoreKernels, mask: str | None, names: set[str], chosen: bool) -> None:
    """No window and no slopes in torch's SDPA, no kernel for 100 values or fp32 or an fp8 cache, no 3 on Ampere."""
    shape = found.shape
    assert (None if shape is None else f"{shape.mask.kind} {shape.mask.extent}") == mask
    assert {kernel.name.partition(" ")[0] for kernel in found.kernels} == names
    assert any(kernel.chosen for kernel in found.kernels) == chosen
    hypothetical = [kernel.name for kernel in found.kernels if "had it a prefix mask" in kernel.name]
    assert bool(hypothetical) == (mask == "prefix 40")


def test_backward_is_that_of_a_whole_text() -> None:
    for work, there in ((prefill(64), True), (prefill(3, context=64), False), (decode(64), False)):
        assert any("backward" in kernel.name for kernel in kernels(work).kernels) == there


def test_the_page_and_its_record(cli: Cli) -> None:
    words = ("count", "gpt2", "--phase", "decode", "--context", "64", "--device-spec", "h200", "--by", "kernel")
    page = cli(*words, "--kv-engine", "vllm", "--page-tokens", "32")
    assert page.code == 0
    assert "gpt2, decode, layers.{0-11}.attn.core on h200: batch 1, T 1, S 64, 12 heads" in page.out
    assert "pages of 32 *" in page.out
    record = cli(*words, "--format", "json").json["results"][0]
    assert "breakdown" not in record
    first = record["kernels"][0]
    assert (first["path"], first["count"], first["chosen"]) == ("layers.{0-11}.attn.core", 12, True)
    assert first["load_bytes"] + first["store_bytes"] > first["compulsory_bytes"] - 12 * 4
    assert "brute-force walk" in record["unconfirmed"]["kernels"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--by", "kernel"), "--by kernel is of a device"),
        (("--by", "kernel", "--device-spec", "mi300x"), "architecture gfx942 in the file of mi300x; expected a GPU of"),
        (("--by", "kernel", "--device-spec", "t4"), "found architecture sm75"),
        (("--by", "kernel", "--device-spec", "h200", "--phase", "train"), "--device-spec has no effect on a training"),
        (("--by", "kernels"), "expected module, op, layer or kernel"),
    ],
)
def test_what_has_no_kernels_is_refused(cli: Cli, words: tuple[str, ...], why: str) -> None:
    done = cli("count", "gpt2", "--context", "64", *words)
    assert (done.code, done.out) == (2, "")
    assert why in done.err
