"""What a time rests on, how wide its interval is, and what holds of every time: never below light, never less for more."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import device
from llmprof.errors import InputError
from llmprof.latency import light
from llmprof.latency.constants import DeviceModel
from llmprof.latency.estimate import SHORT, estimate
from llmprof.latency.op import (
    Collective,
    DecodeAttention,
    Dtype,
    Elementwise,
    Gemm,
    Launch,
    MlaDecode,
    MlaPrefill,
    Moe,
    Op,
    PrefillAttention,
)
from tests.unit.latency_samples import GEMM, ROUND, kernel

FITTED = ("a100-sxm-80gb", "b200", "h100-sxm-80gb", "h200", "l40s")
PRODUCT = Gemm(m=16, n=4096, k=4096)
STEP = DecodeAttention(batch=8, context=2048, heads=32, kv_heads=8, head_dim=128, engine="vllm")
PROMPT = PrefillAttention(batch=2, new_tokens=1024, heads=32, kv_heads=8, head_dim=128, engine="vllm")
MIXTURE = Moe(tokens=64, experts=128, experts_per_token=8, d_model=2048, d_ff=768, engine="vllm")
LATENT = MlaDecode(batch=8, context=4096, heads=16, engine="vllm")


# --- what a time rests on ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("op", [PRODUCT, STEP, PROMPT, MIXTURE])
def test_a_fitted_kernel_is_calibrated(name: str, op: Op) -> None:
    found = estimate(op, DeviceModel.of(name))
    assert (found.basis, found.label) == ("calibrated", "calibrated")
    assert found.low < found.seconds < found.high


@pytest.mark.parametrize(
    ("name", "op", "label", "said"),
    [
        ("gb200", PRODUCT, "uncalibrated (family)", "constants of b200 (the same target)"),
        ("h100-pcie", STEP, "uncalibrated (family)", "constants of h100-sxm-80gb, h200 (the same target)"),
        ("a100-pcie-80gb", PROMPT, "uncalibrated (family)", "constants of a100-sxm-80gb (the same target)"),
        ("a10", PRODUCT, "uncalibrated (family)", "constants of a100-sxm-80gb 43%, "),
        ("rtx-5090", PRODUCT, "uncalibrated (family)", "no bf16 peak"),
        ("gb200", STEP, "uncalibrated (family)", "no number of processors: from b200's"),
        ("l40s", Collective(bytes=1024, devices=2), "uncalibrated (family)", "(by likeness)"),
        ("mi300x", PRODUCT, "uncalibrated (datasheet)", "roofline"),
        ("mi300x", Collective(bytes=1024, devices=2), "uncalibrated (datasheet)", "links"),
        (
            "h100-sxm-80gb",
            Collective(kind="alltoall", bytes=1024, devices=2),
            "uncalibrated (family)",
            "of the all-reduce",
        ),
        ("h200", replace(PRODUCT, dtype="int4"), "uncalibrated (family)", "constants of bf16 for int4"),
        ("h200", replace(STEP, engine="trtllm"), "uncalibrated (family)", "vllm's kernel for trtllm's"),
        ("a100-sxm-80gb", replace(STEP, kv_dtype="fp8"), "uncalibrated (family)", "constants of bf16 for fp8"),
        ("h200", Elementwise(bytes=1 << 20), "uncalibrated (family)", "bf16 products"),
    ],
)
def test_what_was_not_fitted_says_whose_constants_it_has(name: str, op: Op, label: str, said: str) -> None:
    found = estimate(op, DeviceModel.of(name))
    assert found.label == label
    assert said in found.note
    assert found.low <= found.seconds / 2
    assert found.high >= found.seconds * 2


def test_every_engine_has_the_same_bf16_product() -> None:
    model = DeviceModel.of("h200")
    halves: tuple[Dtype, ...] = ("bf16", "fp16")
    asked = [replace(PRODUCT, engine=engine, dtype=dtype) for engine in (None, "vllm", "sglang") for dtype in halves]
    times = [estimate(op, model) for op in asked]
    assert {(each.seconds, each.basis) for each in times} == {(estimate(PRODUCT, model).seconds, "calibrated")}


def test_a_product_without_the_kernel_that_rounds_is_none_that_was_timed() -> None:
    whole = Gemm(m=16, n=4096, k=4096, dtype="fp8", engine="trtllm")
    found = estimate(replace(whole, rounded=True), DeviceModel.of("h200"))
    assert found.seconds < estimate(whole, DeviceModel.of("h200")).seconds - 4.6e-6  # t_q and its bytes
    assert (found.basis, found.note) == ("family", "without the kernel that rounds its input")


def test_engines_have_their_own_fp8_products() -> None:
    model = DeviceModel.of("h100-sxm-80gb")
    op = replace(PRODUCT, dtype="fp8")
    vllm, trtllm = (estimate(replace(op, engine=engine), model) for engine in ("vllm", "trtllm"))
    assert vllm.seconds != trtllm.seconds
    assert (vllm.basis, trtllm.basis) == ("calibrated", "calibrated")
    assert estimate(op, model).seconds == vllm.seconds


def test_a_device_without_a_peak_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"epyc-9654: the catalogue has no peak.*llmprof calibrate"):
        DeviceModel.of("epyc-9654")
    for name in ("tpu-v5e", "h100-pcie-80gb"):  # whose constants are of an H100 with other links
        with pytest.raises(InputError, match=f"{name}: the catalogue has no interconnect"):
            estimate(Collective(bytes=1024, devices=2), DeviceModel.of(name))


def test_measured_constants_come_before_those_of_the_file() -> None:
    model = DeviceModel.of("h200").with_kernels((kernel("gemm", GEMM, form="searched"),), ROUND)
    found = estimate(Gemm(m=128, n=128, k=1024), model)
    assert found.seconds == pytest.approx(3.654208e-6)
    assert found.low == pytest.approx(3.654208e-6 * 0.8)
    assert found.high == pytest.approx(3.654208e-6 * 1.25)
    long = estimate(Gemm(m=128, n=4096, k=16384), model)
    assert long.seconds > SHORT
    assert long.high == pytest.approx(long.seconds * 1.1)
    assert estimate(STEP, model).basis == "calibrated"  # of the file still


def test_one_device_sends_nothing_and_a_replayed_graph_launches_once() -> None:
    model = DeviceModel.of("h200")
    assert estimate(Collective(bytes=1 << 20, devices=1), model).seconds == 0
    eager, graph = (estimate(Launch(kernels=100, graph=graph), model) for graph in (False, True))
    assert eager.seconds > 10 * graph.seconds
    assert eager.label == "uncalibrated (datasheet)"


def test_a_short_prompt_of_latent_attention_takes_no_longer_than_a_longer_one() -> None:
    model = DeviceModel.of("h100-sxm-80gb")
    op = MlaPrefill(batch=4, new_tokens=512, heads=16, engine="vllm")
    short, long = (estimate(replace(op, new_tokens=n), model).seconds for n in (512, 513))
    assert short <= long
    assert short <= estimate(replace(op, latent=True), model).seconds


def test_fitted_figures_are_near_those_of_the_catalogue() -> None:
    # A fraction of one figure must not be applied to quite another: they were fitted with what the catalogue says.
    for name in FITTED:
        found = device.find(name)
        assert found.latency is not None
        said = {
            "bf16": "peak_flops.bf16",
            "fp8": "peak_flops.fp8",
            "memory_bandwidth": "memory_bandwidth",
            "units": "units",
        }
        for key, figure in said.items():
            if getattr(found.latency, key) is not None:
                assert getattr(found.latency, key) == pytest.approx(found.figures[figure].value, rel=0.002), (name, key)


def test_a_repeated_kernel_need_not_read_again_what_fits_the_cache() -> None:
    """8 MB of weights of 96 MB are read before they are met again; 100 MB of keys leave 4 MB and their queries to read."""
    timed = Gemm(m=1, n=2048, k=2048, weight_copies=6)
    l40s = DeviceModel.of("l40s")
    assert light.floor(timed, l40s.figures) == 2 * 2048 * 2048 / l40s.figures.bf16  # its FLOPs alone
    assert estimate(timed, l40s).seconds < light.floor(replace(timed, weight_copies=inf), l40s.figures)
    step = DecodeAttention(batch=1, context=25_000, heads=8, kv_heads=8, head_dim=128, warm=True)
    cold = 2.0 * 2 * 25_000 * 8 * 128 + 4 * 8 * 128  # K and V of two bytes, a query and an output
    assert light.floor(step, l40s.figures) == pytest.approx((cold - 96e6) / 864e9)
    assert light.floor(replace(step, warm=False), l40s.figures) == pytest.approx(cold / 864e9)


# --- what holds of every time -----------------------------------------------------------------------

sizes = st.integers(1, 4096)
devices = st.sampled_from([*FITTED, "gb200", "h20", "a30", "rtx-4090", "mi300x"])
cache = st.sampled_from(["bf16", "fp8"])
heads = st.sampled_from([(32, 8), (8, 1), (16, 16), (96, 8)])

products = st.builds(
    Gemm,
    m=sizes,
    n=st.sampled_from([32, 512, 4096, 28672]),
    k=st.sampled_from([64, 512, 8192]),
    dtype=st.sampled_from(["bf16", "fp16", "fp8", "fp8_block", "int8", "int4", "fp4"]),
    weight_copies=st.sampled_from([1, 6, float("inf")]),
    engine=st.sampled_from([None, "vllm", "trtllm"]),
)
steps = st.builds(
    lambda pair, **rest: DecodeAttention(heads=pair[0], kv_heads=pair[1], **rest),
    heads,
    batch=st.integers(1, 512),
    context=st.integers(1, 70000),
    head_dim=st.sampled_from([64, 128, 192, 256]),
    kv_dtype=cache,
    window=st.sampled_from([0, 0, 1024]),
    warm=st.booleans(),
)
prompts = st.builds(
    lambda pair, **rest: PrefillAttention(heads=pair[0], kv_heads=pair[1], **rest),
    heads,
    batch=st.integers(1, 64),
    new_tokens=st.integers(1, 9000),
    prefix=st.sampled_from([0, 0, 100, 4096]),
    head_dim=st.sampled_from([64, 128, 256]),
    kv_dtype=cache,
    window=st.sampled_from([0, 0, 1024]),
)
mixtures = st.builds(
    Moe,
    tokens=sizes,
    experts=st.sampled_from([16, 128]),
    experts_per_token=st.sampled_from([1, 4, 8]),
    d_model=st.sampled_from([2048, 7168]),
    d_ff=st.sampled_from([768, 2048]),
    tp=st.sampled_from([1, 32]),
    ep=st.sampled_from([1, 8]),
    dtype=st.sampled_from(["bf16", "fp8_block", "int4"]),
    routing=st.sampled_from(["balanced", "power_law"]),
    skew=st.sampled_from([1.01, 1.2]),
    gated=st.booleans(),
    warm=st.booleans(),
)
latents = st.builds(
    MlaDecode, batch=st.integers(1, 512), context=st.integers(1, 70000), heads=st.sampled_from([8, 128]), kv_dtype=cache
)
latent_prompts = st.builds(
    MlaPrefill,
    batch=st.integers(1, 32),
    new_tokens=st.integers(1, 2000),
    heads=st.sampled_from([8, 128]),
    kv_dtype=cache,
)
ops = products | steps | prompts | mixtures | latents | latent_prompts

TOKENS = {
    Gemm: ("m",),
    DecodeAttention: ("batch", "context"),
    PrefillAttention: ("batch", "new_tokens", "prefix"),
    Moe: ("tokens",),
    MlaDecode: ("batch", "context"),
    MlaPrefill: ("batch", "new_tokens"),
}
ROUNDING = 1 + 1e-9


@settings(max_examples=150, deadline=None)
@given(op=ops, name=devices)
def test_no_time_is_below_the_speed_of_light(op: Op, name: str) -> None:
    model = DeviceModel.of(name)
    found = estimate(op, model)
    assert found.seconds * ROUNDING >= light.floor(op, model.figures)
    assert 0 < found.low <= found.seconds <= found.high
    if found.basis != "calibrated":
        assert found.low <= found.seconds / 2 <= found.seconds * 2 <= found.high


@settings(max_examples=150, deadline=None)
@given(op=ops, name=devices, data=st.data())
def test_more_tokens_never_take_less(op: Op, name: str, data: st.DataObject) -> None:
    model = DeviceModel.of(name)
    key = data.draw(st.sampled_from(TOKENS[type(op)]))
    grown: Any = {key: getattr(op, key) + data.draw(st.integers(1, 300))}
    assert estimate(op, model).seconds <= estimate(replace(op, **grown), model).seconds * ROUNDING


@settings(max_examples=100, deadline=None)
@given(
    op=ops, name=st.sampled_from(FITTED), figure=st.sampled_from(["bandwidth", "bf16", "fp8"]), factor=st.floats(1, 4)
)
def test_more_bandwidth_and_more_flops_never_take_longer(op: Op, name: str, figure: str, factor: float) -> None:
    model = DeviceModel.of(name)
    before = getattr(model.figures, figure)
    if before is None:
        return
    faster: Any = {figure: before * factor}
    better = model.with_figures(replace(model.figures, **faster))
    assert estimate(op, better).seconds <= estimate(op, model).seconds * ROUNDING
