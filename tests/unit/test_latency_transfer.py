"""Constants of one device on another: which are taken, and what stands in for figures that nobody stated."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log, prod, sqrt

import pytest

from llmprof import device
from llmprof.device_figures import Device
from llmprof.latency.carrying import carried, likeness, slowed
from llmprof.latency.common import input_bytes, peak
from llmprof.latency.constants import DeviceModel, Found
from llmprof.latency.estimate import estimate, kernel_seconds
from llmprof.latency.op import DecodeAttention, Elementwise, Gemm, Moe, PrefillAttention
from tests.unit.latency_samples import ROUND, kernel


def constants(name: str | Device, op: str, dtype: str, engine: str | None = None) -> Found:
    found = DeviceModel.of(name).constants(op, dtype, engine)
    assert found is not None
    return found


def test_of_another_target_constants_go_with_clocks_rates_and_bandwidth() -> None:
    """Twice the clock, half of what is multiplied in one, a quarter of the bandwidth."""
    ours = replace(ROUND, clock=2 * ROUND.clock, bandwidth=ROUND.bandwidth / 4)  # as many FLOPs per second
    given = {"t0": 8.0, "t_s": 4.0, "tau": 3.0, "b_sm": 10.0, "t_row": 0.5, "e_c": 0.7}
    moved = {"t0": 4.0, "t_s": 2.0, "tau": 3.0, "b_sm": 10 * sqrt(0.5), "t_row": 2.0, "e_c": 0.7}
    product, step, prompt = carried(tuple(kernel(op, given) for op in ("gemm", "decode", "prefill")), ROUND, ours)
    assert product.constants == pytest.approx(moved)
    for waits in (step, prompt):  # for memory: as long, in twice the clocks
        assert waits.constants == pytest.approx({**moved, "tau": 6.0})
    found = constants("rtx-5090", "gemm", "bf16")
    a100 = constants("a100-sxm-80gb", "gemm", "bf16").bounds[0].kernel.constants
    assert found.bounds[0].figures.clock == 2407e6
    assert found.bounds[0].kernel.constants["t0"] == pytest.approx(a100["t0"] * 1410 / 2407)
    assert constants("a100-pcie-80gb", "gemm", "bf16").bounds[0].kernel.constants == a100  # the same target: as it is


def test_of_the_same_target_what_is_not_multiplied_takes_as_many_clocks() -> None:
    """At a quarter of the rate a kernel at 4/5 of the peak loses a quarter of its fifth: 1 / (1 + 1/16)."""
    given = (kernel("prefill", {"e_c": 0.8, "k_d": 48.0, "tau": 3.0}),)
    (quarter,) = slowed(given, ROUND, replace(ROUND, bf16=ROUND.bf16 / 4))
    assert quarter.constants == pytest.approx({"e_c": 16 / 17, "k_d": 12.0, "tau": 3.0})
    for faster in (1, 2):
        assert slowed(given, ROUND, replace(ROUND, bf16=ROUND.bf16 * faster)) == given
    h20 = constants("h20", "gemm", "bf16").bounds[0]  # 148 TFLOP/s on 78 processors at the clock of H100
    rate = (148 / 78) / (989 / 132)
    e_c = constants("h100-sxm-80gb", "gemm", "bf16").bounds[0].kernel.constants["e_c"]
    assert h20.kernel.constants["e_c"] == pytest.approx(1 / (1 + (1 / e_c - 1) * rate))


def test_devices_count_by_how_like_they_are() -> None:
    """One over the squared distance of log figures: 0.01 where none differs, 1 more of other instructions."""
    figures = replace(ROUND, bf16=ROUND.bf16 * 2)  # log(2) in what a processor multiplies in a clock
    assert likeness(ROUND, ROUND, True) == pytest.approx(100)
    assert likeness(figures, ROUND, True) == pytest.approx(1 / (log(2) ** 2 + 0.01))
    assert likeness(figures, ROUND, False) == pytest.approx(1 / (log(2) ** 2 + 1.01))
    smaller = replace(ROUND, **{name: getattr(ROUND, name) / 4 for name in ("bf16", "bandwidth", "units", "cache")})
    assert likeness(smaller, ROUND, True) == pytest.approx(100)  # a quarter of a chip is as like it
    found = constants("a10", "gemm", "bf16")
    assert sum(found.weights) == pytest.approx(1)
    assert len(found.bounds) == len(found.weights) == 5
    by_name = dict(re.findall(r"([a-z0-9-]+) (\d+)%", found.note))
    assert int(by_name["a100-sxm-80gb"]) > int(by_name["l40s"]) > int(by_name["h100-sxm-80gb"])
    assert constants("b300", "gemm", "bf16").note.startswith(
        "constants of b200 (by likeness)"
    )  # none is nearly as like
    time = estimate(Gemm(m=64, n=4096, k=4096), DeviceModel.of("a10")).seconds
    times = [kernel_seconds(Gemm(m=64, n=4096, k=4096), bound) for bound in found.bounds]
    assert time == pytest.approx(prod(each**w for each, w in zip(times, found.weights, strict=True)))


def test_what_moves_memory_is_as_fast_as_the_products_of_devices_like_it() -> None:
    found = constants("rtx-5090", "gemm", "bf16")
    times = [b.kernel.constants["t0"] * 1e-6 + 1e9 / b.kernel.constants["e_b"] / 1792e9 for b in found.bounds]
    a100, l40s = (time**part for time, part in zip(times, found.weights, strict=True))
    assert estimate(Elementwise(bytes=10**9), DeviceModel.of("rtx-5090")).seconds == pytest.approx(a100 * l40s)


def test_devices_of_one_target_share_their_weight() -> None:
    """H100 and H200 are one chip: each counts half of what it would count alone."""
    found = constants("a10", "gemm", "bf16")
    shares = {"a100-sxm-80gb": 1, "b200": 1, "h100-sxm-80gb": 2, "h200": 2, "l40s": 1}
    parts = [
        likeness(bound.figures, DeviceModel.of(name).figures, name in {"a100-sxm-80gb", "l40s"}) / share
        for (name, share), bound in zip(shares.items(), found.bounds, strict=True)
    ]
    assert found.weights == pytest.approx([part / sum(parts) for part in parts])


def test_an_unknown_figure_is_that_of_a_device_like_it() -> None:
    """The workstation card has 503.8 TFLOP/s of bf16 on as many processors, both other cards of 96 GB 1,792 GB/s."""
    found = constants("rtx-pro-6000-server", "gemm", "bf16")
    for bound in found.bounds:
        assert bound.figures.bf16 == pytest.approx(503.8e12, rel=1e-3)
        assert bound.figures.bandwidth == 1792e9
    for said in ("bf16 peak: that of rtx-pro-6000-workstation", "memory bandwidth: that of rtx-pro-6000-max-q"):
        assert f"no {said}" in found.note
    fewer = constants("rtx-5090", "gemm", "bf16")
    assert fewer.bounds[0].figures.bf16 == pytest.approx(503.8e12 / 188 * 170, rel=1e-3)
    assert "no bf16 peak: that of rtx-pro-6000-workstation per processor" in fewer.note


def test_an_unknown_peak_is_that_of_as_many_processors_and_fp8_twice_that() -> None:
    """188 processors; L40S has 362.1 TFLOP/s of bf16 on 142, A100 312 on 108 and no fp8 at all."""
    card = device.find("rtx-pro-6000-server")
    bare = replace(card, name="unstated", peak_flops={}, memory_bandwidth=None, architecture=None)
    found = constants(bare, "gemm", "bf16")
    peaks = {round(bound.figures.bf16 / 1e9): bound.figures for bound in found.bounds}
    assert round(312e3 / 108 * 188) in peaks
    l40s = peaks[round(362.1e3 / 142 * 188)]
    assert l40s.fp8 == pytest.approx(l40s.bf16 * 733 / 362.1)
    assert "no bf16 peak: that of l40s per processor" in found.note


def test_narrow_products_rest_on_devices_that_have_some() -> None:
    """A100 multiplies no fp8: what a graphics card does with fp4 is told without it, what it does in bf16 is not."""
    card = "rtx-pro-6000-workstation"
    assert constants(card, "gemm", "bf16").note.startswith("constants of a100-sxm-80gb 19%, l40s 81% (by likeness)")
    for dtype in ("fp4", "fp8_block"):
        assert constants(card, "gemm", dtype, "trtllm").note.startswith("constants of l40s")
    assert constants(card, "decode", "fp8", "vllm").note.startswith("constants of a100-sxm-80gb 19%")


def test_what_multiplies_no_fp4_stores_weights_in_it() -> None:
    """Blackwell has 9,000 TFLOP/s of fp4; Hopper multiplies such weights in bf16, with the inputs of bf16."""
    b200, h100 = DeviceModel.of("b200"), DeviceModel.of("h100-sxm-80gb")
    assert (peak("fp4", b200.figures), input_bytes("fp4", b200.figures)) == (9e15, 0.5625)
    assert (peak("fp4", h100.figures), input_bytes("fp4", h100.figures)) == (989e12, 2.0)
    product = Gemm(m=4096, n=4096, k=4096, dtype="fp4")
    assert estimate(product, b200).note == "constants of fp8 for fp4"
    assert estimate(product, h100).note == "constants of bf16 for int4"
    assert estimate(product, h100).seconds >= 2 * 4096**3 / 989e12
    card = constants("rtx-5090", "gemm", "fp4").bounds[0].figures
    assert peak("fp4", card) == pytest.approx(503.8e12 / 188 * 170 * 733 / 362.1 * 2, rel=1e-3)  # twice the fp8


@pytest.mark.parametrize("name", ["b300", "rtx-5090", "rtx-4090", "h20", "a10", "a100-40gb", "h100-sxm-80gb"])
def test_more_of_a_figure_never_takes_longer_whosever_constants_a_device_has(name: str) -> None:
    ops = (
        Gemm(m=1, n=4096, k=4096),
        Gemm(m=300, n=14336, k=4096),
        Gemm(m=8192, n=4096, k=14336),
        DecodeAttention(batch=8, context=3000, heads=32, kv_heads=8, head_dim=128),
        PrefillAttention(batch=2, new_tokens=1500, heads=32, kv_heads=8, head_dim=128),
        Moe(tokens=64, experts=64, experts_per_token=6, d_model=2048, d_ff=1408),
        Elementwise(bytes=10**7),
    )
    found = device.find(name)
    before = [estimate(op, DeviceModel.of(found)).seconds for op in ops]
    for by in (1.02, 1.3, 1.4, 3.0):
        peaks = {key: replace(each, value=int(each.value * by)) for key, each in found.peak_flops.items()}
        changed = [replace(found, peak_flops=peaks)]
        if found.memory_bandwidth is not None:
            more = replace(found.memory_bandwidth, value=int(found.memory_bandwidth.value * by))
            changed.append(replace(found, memory_bandwidth=more))
        for other in changed:
            after = [estimate(op, DeviceModel.of(other)).seconds for op in ops]
            assert all(new <= old * (1 + 1e-9) for new, old in zip(after, before, strict=True)), by
