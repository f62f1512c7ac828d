"""Served ops on a real GPU: graphs are captured and replayed, times obey physics, and constants can be fitted to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from llmprof.latency.light import floor
from llmprof.latency.served_profile import figures_of as as_figures
from llmprof.measure.calibration.served import ServedPoint, points
from llmprof.measure.calibration.served_clock import GraphTimer, graph_seconds, kernel_names, spread
from llmprof.measure.device import resolve_device
from llmprof.profiling.served_calibration import calibrate_served, catalogued, figures_of
from llmprof.profiling.served_local import FP8_FROM, calibrate_local

pytestmark = pytest.mark.gpu

BF16 = torch.bfloat16


def chosen(fits: Callable[[ServedPoint], bool], *, fp8: bool = False) -> list[ServedPoint]:
    return [point for point in points(BF16, fp8=fp8) if fits(point)]


def test_every_kind_of_kernel_is_captured_and_timed() -> None:
    device = resolve_device("cuda")
    fp8 = torch.cuda.get_device_capability(device) >= FP8_FROM
    timer = GraphTimer(device)
    for kernel in dict.fromkeys(point.kernel for point in points(BF16, fp8=fp8)):
        point = spread(chosen(lambda each, name=kernel: each.kernel == name and each.flops < 10**11, fp8=fp8))[0]  # type: ignore[misc]
        assert 0 < timer(point) < 0.1, kernel


def test_attention_is_the_flash_kernel() -> None:
    device = resolve_device("cuda")
    for kind in ("decode", "prefill"):
        point = chosen(lambda each, kind=kind: each.kind == kind and 10**6 < each.flops < 10**10)[0]  # type: ignore[misc]
        names = kernel_names(point, device)
        assert not names or any("flash" in name.lower() for name in names), names


def test_large_products_and_caches_take_no_less_than_light_and_longer_than_small_ones() -> None:
    device = resolve_device("cuda")
    known = catalogued(device)
    if isinstance(known, str):
        pytest.skip(known)
    figures = figures_of(known, torch.cuda.get_device_properties(device))
    assert not isinstance(figures, str)
    timer = GraphTimer(device)
    for kind, least in (("gemm", 10**12), ("decode", 10**10)):
        large = min(chosen(lambda each: each.kind == kind and each.flops > least), key=lambda each: each.flops)  # noqa: B023
        small = min(chosen(lambda each: each.kind == kind), key=lambda each: each.moved_bytes)  # noqa: B023
        taken = timer(large)
        # A datasheet's peak may be that of a lower clock than the boost: a tenth of room.
        assert taken > 0.9 * floor(large.op, as_figures(figures))
        assert taken > 3 * timer(small)


def test_starts_cost_microseconds() -> None:
    host, within = graph_seconds(resolve_device("cuda"), replays=5)
    assert 1e-7 < host < 1e-3
    assert 1e-7 < within < 1e-4


def test_constants_are_fitted_to_real_times() -> None:
    pytest.importorskip("scipy")
    device = resolve_device("cuda")
    known = catalogued(device)
    if isinstance(known, str):
        pytest.skip(known)
    figures = figures_of(known, torch.cuda.get_device_properties(device))
    assert not isinstance(figures, str)
    products = spread(chosen(lambda point: point.kind == "gemm"))[:40]
    found = calibrate_served(known, figures, products, GraphTimer(device), seconds=20)
    assert found.served is not None, found.notes
    (kernel,) = found.served.kernels
    assert kernel.timed == 40
    assert kernel.median_error < 0.2


def test_what_cannot_be_calibrated_says_why() -> None:
    found = calibrate_local(resolve_device("cuda"), ["fp32"], seconds=1)
    assert found.served is None
    assert len(found.notes) == 1
