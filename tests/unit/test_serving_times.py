"""How the times of ops become that of a pass: sums, intervals, labels, the host, limits, and what never happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.errors import InputError
from llmprof.latency.compose import Chunk, Layout, Pass
from llmprof.latency.compose_bounds import DeviceKernels, limit_of
from llmprof.latency.constants import DeviceModel
from llmprof.latency.estimate import Basis, Estimate
from llmprof.latency.op import Collective, DecodeAttention, Gemm, Launch, Op
from tests.unit.serving_samples import BOTH, PROMPT, STEP, Fixed, composer, ops


def test_a_pass_of_nothing_is_none() -> None:
    with pytest.raises(InputError, match="at least one token"):
        composer("llama-3.1-8b").time(Pass())


def test_times_add_up_with_their_intervals_and_shares() -> None:
    # 129 products of 1 s and 32 attentions of 2 s: 193 s, between a half and three times that.
    found = composer("llama-3.1-8b", kernels=Fixed(Gemm=1.0, DecodeAttention=2.0)).time(STEP)
    assert (found.seconds, found.low, found.high, found.basis) == (193, 96.5, 579, "calibrated")
    assert found.floor == 193 / 2
    assert {part.name: part.seconds for part in found.parts if part.seconds} == {
        "matrices": 128,
        "attention": 64,
        "head": 1,
    }
    assert found.binding == ("memory bandwidth", 1.0)


def test_the_host_shows_where_it_is_slower_than_the_kernels() -> None:
    # A step is replayed: one start, 10 s, is added. A prompt is launched kernel by kernel: the slower one counts.
    step = composer("llama-3.1-8b", kernels=Fixed(Gemm=1.0, launch=10.0)).time(STEP)
    assert step.seconds == 129 + 10
    kernels = sum(ops("llama-3.1-8b", PROMPT).values())
    quick = composer("llama-3.1-8b", kernels=Fixed(Gemm=1.0, launch=0.01)).time(PROMPT)
    assert quick.seconds == 129
    slow = composer("llama-3.1-8b", kernels=Fixed(Gemm=1.0, launch=10.0)).time(PROMPT)
    assert slow.seconds == pytest.approx(10 * kernels)
    assert slow.binding[0] == "host"
    eager = composer("llama-3.1-8b", kernels=Fixed(Gemm=1.0, launch=10.0), graphs=False).time(STEP)
    assert eager.seconds == pytest.approx(10 * sum(ops("llama-3.1-8b", STEP).values()))


def test_the_basis_is_the_weakest_that_matters() -> None:
    class Mixed(Fixed):
        def time(self, op: Op) -> Estimate:
            found = super().time(op)
            basis: Basis = "family" if isinstance(op, DecodeAttention) else "calibrated"
            return Estimate(seconds=found.seconds, low=found.low, high=found.high, basis=basis)

    # 32 attentions of t beside 129 s: a quarter of the time is reached at t = 129 / (3 x 32), 1.34.
    for seconds, basis in ((1.34, "calibrated"), (1.35, "family")):
        kernels = Mixed(Gemm=1.0, DecodeAttention=seconds)
        assert composer("llama-3.1-8b", kernels=kernels).time(STEP).basis == basis


@pytest.mark.parametrize(
    ("op", "seconds", "floors", "limit"),
    [
        (Gemm(m=1, n=8, k=8), 2.0, (1.0, 0.5), "compute"),
        (Gemm(m=1, n=8, k=8), 2.0, (0.5, 1.0), "memory bandwidth"),
        (Gemm(m=1, n=8, k=8), 4.1, (0.5, 1.0), "fixed cost of kernels"),
        (Collective(bytes=1 << 20, devices=2), 1.0, (0.0, 0.0), "interconnect"),
        (Collective(bytes=1 << 19, devices=2), 1.0, (0.0, 0.0), "fixed cost of kernels"),
        (Launch(kernels=1), 1.0, (0.0, 0.0), "host"),
    ],
)
def test_what_limits_an_op(op: Op, seconds: float, floors: tuple[float, float], limit: str) -> None:
    assert limit_of(op, seconds, floors) == limit


H100 = DeviceModel.of("h100-sxm")
passes = st.builds(
    Pass,
    decode_sequences=st.integers(1, 256),
    decode_context=st.integers(1, 20000),
    chunks=st.sampled_from([(), (Chunk(tokens=64),), (Chunk(tokens=700, prefix=900),)]),
)


@settings(max_examples=25, deadline=None)
@given(asked=passes, more=st.integers(1, 100))
def test_more_is_never_quicker_and_nothing_beats_light(asked: Pass, more: int) -> None:
    llama = composer("llama-3.1-8b", kernels=DeviceKernels(H100), engine="vllm")
    base = llama.time(asked)
    assert base.low <= base.seconds <= base.high
    assert base.seconds >= base.floor * (1 - 1e-9)
    longer = Pass(
        decode_sequences=asked.decode_sequences, decode_context=asked.decode_context + more, chunks=asked.chunks
    )
    wider = Pass(
        decode_sequences=asked.decode_sequences + more, decode_context=asked.decode_context, chunks=asked.chunks
    )
    assert llama.time(longer).seconds >= base.seconds * (1 - 1e-9)
    assert llama.time(wider).seconds >= base.seconds * (1 - 1e-9)


@pytest.mark.parametrize("figure", ["bandwidth", "bf16", "link"])
@pytest.mark.parametrize("asked", [STEP, PROMPT, BOTH])
def test_a_faster_device_is_never_slower(figure: str, asked: Pass) -> None:
    def seconds(factor: float) -> float:
        figures = replace(H100.figures, **{figure: factor * (getattr(H100.figures, figure) or 4e11)})
        kernels = DeviceKernels(H100.with_figures(figures))
        return composer("llama-3.1-8b", Layout(tensor=4, group=4), kernels=kernels).time(asked).seconds

    times = [seconds(factor) for factor in (1, 1.5, 3)]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gemma-2-9b", "deepseek-v2-lite", "qwen3-30b-a3b"])
@pytest.mark.parametrize("graphs", [True, False])
def test_the_ends_of_a_pass_are_those_of_its_parts_to_the_last_bit(name: str, graphs: bool) -> None:
    """Asked of one composer in any order, so that what it keeps of one pass serves the next; equal chunks are one op."""
    chunks = (Chunk(tokens=64), Chunk(tokens=32, prefix=64, sequences=2), Chunk(tokens=64))
    kept = composer(name, Layout(tensor=2, group=2), kernels=DeviceKernels(H100), engine="vllm", graphs=graphs)
    for decoding, context in ((0, 0), (8, 900), (8, 1000), (136, 900), (9, 900)):
        for beside in ((), chunks[:1], chunks, chunks[1:], (Chunk(tokens=64, sequences=2),)):
            asked = Pass(decode_sequences=decoding, decode_context=context, chunks=beside)
            if asked.tokens:
                whole = composer(name, kept.layout, kernels=DeviceKernels(H100), engine="vllm", graphs=graphs).time(
                    asked
                )
                assert kept.ends(asked) == (whole.seconds, whole.low, whole.high)
    with pytest.raises(InputError, match="at least one token"):
        kept.ends(Pass())
