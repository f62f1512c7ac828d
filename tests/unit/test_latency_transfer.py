"""Constants of one device on another: which are taken, and what stands in for figures that nobody stated."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest

from llmprof import device
from llmprof.device_figures import Device
from llmprof.latency.common import input_bytes, peak
from llmprof.latency.constants import DeviceModel, Found
from llmprof.latency.estimate import estimate
from llmprof.latency.op import Gemm


def constants(name: str | Device, op: str, dtype: str, engine: str | None = None) -> Found:
    found = DeviceModel.of(name).constants(op, dtype, engine)
    assert found is not None
    return found


def test_of_another_target_operands_are_fed_with_the_root_of_the_rate() -> None:
    """L40S multiplies half of what A100 does in a clock: sqrt(1/2) of the bytes, at its own clock of 2,520 MHz."""
    given = constants("a100-sxm-80gb", "gemm", "bf16")
    other = replace(device.find("l40s"), name="l40s-of-another", latency=None, architecture="sm120")
    found = constants(other, "gemm", "bf16")
    (ours,) = (each for each in found.bounds if each.kernel.constants["e_c"] == given.bounds[0].kernel.constants["e_c"])
    assert ours.figures.clock == 2520e6
    rate = (362e12 / 142 / 2520e6) / (312e12 / 108 / 1410e6)
    assert ours.kernel.constants["b_sm"] == pytest.approx(given.bounds[0].kernel.constants["b_sm"] * sqrt(rate))
    same = constants("a100-pcie-80gb", "gemm", "bf16")
    assert same.bounds[0].kernel.constants == given.bounds[0].kernel.constants


def test_an_unknown_peak_is_that_of_as_many_processors_and_fp8_twice_that() -> None:
    """188 processors; L40S has 362.1 TFLOP/s of bf16 on 142, A100 312 on 108 and no fp8 at all."""
    bare = replace(device.find("rtx-pro-6000-server"), name="unstated", peak_flops={}, memory_bandwidth=None)
    a100, l40s = (bound.figures for bound in constants(bare, "gemm", "bf16").bounds)
    assert a100.bf16 == pytest.approx(312e12 / 108 * 188)
    assert l40s.bf16 == pytest.approx(362.1e12 / 142 * 188)
    assert a100.fp8 == 2 * a100.bf16
    assert l40s.fp8 == pytest.approx(l40s.bf16 * 733 / 362.1)
    assert "no bf16 peak: that of l40s per processor" in constants(bare, "gemm", "bf16").note


def test_narrow_products_rest_on_devices_that_have_some() -> None:
    """A100 multiplies no fp8: what a graphics card does with fp4 is told by L40S alone, what it does in bf16 by both."""
    card = "rtx-pro-6000-workstation"
    assert constants(card, "gemm", "bf16").note.startswith("constants of a100-sxm-80gb, l40s (its family)")
    for dtype in ("fp4", "fp8_block"):
        assert constants(card, "gemm", dtype, "trtllm").note.startswith("constants of l40s (its family)")
    assert constants(card, "decode", "fp8", "vllm").note.startswith("constants of a100-sxm-80gb, l40s")  # neither has


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
    assert peak("fp4", card) == pytest.approx(2 * 733e12 / 142 * 170)  # L40S's fp8 per processor, twice
