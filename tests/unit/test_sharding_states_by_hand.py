"""Mixers with states on ranks, reckoned from docs/reference-sharding.md and docs/reference-mixers.md alone.

Both halves have to come to these figures: the prediction, which makes a smaller model of a rank, and the twin, of whose
tensors each rank has parts. Symbols are those of the pages, and of a rank where they are primed there: `h` heads, `hk`
key heads, `g` groups, `c` channels of the convolution. Layers are like those of Qwen3-Next and of Nemotron-H, but small.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from llmprof.ledger import Quantity
from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.predict.sharding.api import sharded_as
from llmprof.sharding import Collective, Sharding, StageAccount
from llmprof.spec.load import load_text
from llmprof.workload import Dtypes, Workload

MODEL = """
name: hybrid
source: {url: https://example.org}
structure: causal-decoder
d_model: 32
vocab_size: 40
tied_embeddings: true
max_context: 64
position: {kind: none}
layers:
  count: 2
  pattern: [delta, mamba]
  norm: {kind: rmsnorm, placement: pre}
  delta:
    attention: {kind: gated-deltanet, n_heads: 8, n_key_heads: 4, key_dim: 4, value_dim: 6, d_conv: 4, chunk: 4}
    ffn: {kind: moe, n_experts: 4, top_k: 2, expert: {kind: swiglu, d_ff: 8}, shared: {kind: swiglu, d_ff: 16},
          shared_gate: true}
  mamba:
    attention: {kind: mamba-2, n_heads: 8, head_dim: 6, d_state: 5, n_groups: 4, d_conv: 4, norm_groups: 4, chunk: 4,
                conv_bias: true, bias: true}
    ffn: {kind: none}
"""
D, B = 32, 2
DECODE = Workload(phase="decode", batch=B, new_tokens=1, context=9)
PREFILL = Workload(phase="prefill", batch=B, new_tokens=8, context=8)
"""Two chunks of four tokens: none is filled up."""
DELTA, MAMBA = "layers.0.attn", "layers.1.attn"


@cache
def halves(workload: Workload, n: int, *, rows: bool = False) -> tuple[StageAccount, StageAccount]:
    """What is predicted of a rank, and what a rank does."""
    arch = load_text(MODEL, "hybrid.yaml").arch()
    sharding = Sharding(tensor_parallel=n, sequence_parallel=rows)
    (said,), (done,) = sharded_as(arch, workload, sharding).stages, accounts_on_meta(arch, workload, sharding)
    return said, done


def check(workload: Workload, n: int, quantity: Quantity, expected: dict[str, int]) -> None:
    for account in halves(workload, n):
        assert {path: account.ledger.at(path, quantity) for path in expected} == expected


@pytest.mark.parametrize("n", [2, 4])
def test_parameters_and_states(n: int) -> None:
    h, hk, g = 8 // n, 4 // n, 4 // n
    params = {
        f"{DELTA}.in_proj": (2 * hk * 4 + 2 * h * 6) * 32,  # q and k of 4, v and z of 6: 64 or 32 rows
        f"{DELTA}.gates_proj": 2 * h * 32,
        f"{DELTA}.conv": (2 * hk * 4 + h * 6) * 4,
        f"{DELTA}.core": 2 * h,
        f"{DELTA}.norm": 6,
        f"{DELTA}.out_proj": h * 6 * 32,
        "layers.0.ffn.experts": 4 * 3 * 32 * 8 // n,
        "layers.0.ffn.shared.down": 32 * 16 // n,
        "layers.0.ffn.shared_gate": 32,
        "layers.0.ffn.router": 4 * 32,
        # z and xs of 6, b and c of 5, dt, each with its bias
        f"{MAMBA}.in_proj": (2 * h * 6 + 2 * g * 5 + h) * (32 + 1),
        f"{MAMBA}.conv": (h * 6 + 2 * g * 5) * (4 + 1),
        f"{MAMBA}.core": 3 * h,
        f"{MAMBA}.norm": h * 6,
        f"{MAMBA}.out_proj": h * 6 * 32 + 32,
        "embed": 40 // n * 32,
        "final_norm": 32,
    }
    check(DECODE, n, "params", params)
    check(DECODE, n, "weight_bytes", {path: 2 * values for path, values in params.items()})
    assert params[f"{MAMBA}.in_proj"] == {2: 72 * 33, 4: 36 * 33}[n]
    assert params[f"{DELTA}.conv"] == {2: 40 * 4, 4: 20 * 4}[n]
    for workload in (DECODE, PREFILL):
        states = {
            f"{DELTA}.conv.state": B * (2 * hk * 4 + h * 6) * 3 * 2,
            f"{DELTA}.core.state": B * h * 4 * 6 * 4,
            f"{MAMBA}.conv.state": B * (h * 6 + 2 * g * 5) * 3 * 2,
            f"{MAMBA}.core.state": B * h * 6 * 5 * 4,
        }
        check(workload, n, "recurrent_state_bytes", states)
        for account in halves(workload, n):
            assert account.ledger.total("recurrent_state_bytes") == sum(states.values())
            assert account.ledger.total("kv_cache_bytes") == 0


@pytest.mark.parametrize("n", [2, 4])
def test_flops_of_a_token(n: int) -> None:
    h, hk, g = 8 // n, 4 // n, 4 // n
    expected = {
        f"{DELTA}.in_proj": 2 * B * 32 * (128 // n),
        f"{DELTA}.gates_proj": 2 * B * 32 * (16 // n),
        f"{DELTA}.conv": 2 * B * (80 // n) * 4,
        # k S, k' m, q S: three products of 4 x 6 for each head
        f"{DELTA}.core": 3 * 2 * B * h * 4 * 6,
        f"{DELTA}.out_proj": 2 * B * (48 // n) * 32,
        f"{MAMBA}.in_proj": 2 * B * 32 * (144 // n),
        f"{MAMBA}.conv": 2 * B * (88 // n) * 4,
        f"{MAMBA}.core": 2 * B * h * 6 * 5,  # the state and c
        f"{MAMBA}.out_proj": 2 * B * (48 // n) * 32,
        "layers.0.ffn.shared.up": 2 * B * 32 * (16 // n),
        # each of the B tokens sees two experts, of three matrices
        "layers.0.ffn.experts": 2 * B * 2 * 3 * 32 * (8 // n),
    }
    assert (2 * hk * 4 + 2 * h * 6, 2 * h * 6 + 2 * g * 5 + h) == (128 // n, 144 // n)
    check(DECODE, n, "matmul_flops", expected)
    check(DECODE, n, "matmul_flops_causal", expected)


@pytest.mark.parametrize("n", [2, 4])
def test_flops_of_chunks(n: int) -> None:
    h, g = 8 // n, 4 // n
    q, m, a, c, p, s = 4, 2, 4, 6, 6, 5
    pieces = B * m * h
    delta = (
        2 * pieces * q * q * a  # kb k'
        + pieces * q * (q - 1) * c  # U, for each column of v
        + pieces * q * (q - 1) * a  # X, for each column of k
        + 2 * pieces * q * q * a  # q k'
        + 2 * pieces * q * a * c  # X S
        + 2 * pieces * q * a * c  # q S
        + 2 * pieces * q * q * c  # A n
        + 2 * pieces * q * a * c  # k' n
    )
    mamba = (
        2 * B * m * g * q * q * s  # c b', for each group
        + 2 * pieces * q * q * p  # l x
        + 2 * pieces * p * q * s  # x' b
        + 2 * pieces * q * s * p  # c P'
    )
    expected = {
        f"{DELTA}.core": delta,
        f"{DELTA}.conv": 2 * B * (80 // n) * 8 * 4,
        f"{MAMBA}.core": mamba,
        f"{MAMBA}.conv": 2 * B * (88 // n) * 8 * 4,
        f"{MAMBA}.in_proj": 2 * B * 8 * 32 * (144 // n),
    }
    check(PREFILL, n, "matmul_flops", expected)
    # By hand, 16 or 8 pieces: 128 + 72 + 48 + 128 + 3 * 192 + 192 of each; 4 groups' worth of 160, and 192 + 2 * 240.
    assert delta == pieces * 1144
    assert mamba == B * m * g * 160 + pieces * 672


@pytest.mark.parametrize("n", [2, 4])
def test_bytes_of_a_token_in_gated_deltanet(n: int) -> None:
    """fp32: nothing is cast."""
    h, hk, a, c = 8 // n, 4 // n, 4, 6
    ch, wide = 2 * hk * a + h * c, 2 * hk * a + 2 * h * c
    conv = (
        (B * ch * 3 + B * ch) + B * ch * 4  # cat
        + 2 * B * ch * 3  # the last three are kept
        + (B * ch * 4 + ch * 4) + B * ch  # convolution
        + 2 * B * ch  # silu
    )  # fmt: skip
    norm_of_one = (
        2 * B * hk * a  # x x
        + B * hk * a + B * hk  # sum
        + 4 * B * hk  # eps, rsqrt
        + 2 * B * hk * a + B * hk  # x times it
    )  # fmt: skip
    state = B * h * a * c
    core = (
        4 * h  # exp and neg of a_log
        + 2 * B * h  # sigmoid of beta
        + (2 * B * h + h) + 2 * B * h + (2 * B * h + h)  # alpha: bias, softplus, times A
        + 2 * norm_of_one
        + 2 * B * hk * a  # q scaled
        + 2 * (B * hk * a + B * h * a)  # q and k of each head
        + 2 * B * h  # exp of d
        + (2 * state + B * h)  # S d
        + (B * h * a + state + B * h * c)  # k S
        + 3 * B * h * c  # v - m
        + (2 * B * h * c + B * h)  # times beta
        + (2 * state + B * h * a + B * h * c)  # S + k' m
        + (B * h * a + state + B * h * c)  # q S
    )  # fmt: skip
    values, rows = B * h * c, B * h
    norm = (
        2 * values  # pow
        + values + rows  # mean
        + 4 * rows  # eps, rsqrt
        + 2 * values + rows  # times the input
        + 2 * values + c  # times the weight
        + 2 * values  # silu of z
        + 3 * values  # y z
    )  # fmt: skip
    expected = {
        f"{DELTA}.in_proj": B * D + wide * D + B * wide,
        f"{DELTA}.gates_proj": B * D + 2 * h * D + B * 2 * h,
        f"{DELTA}.conv": conv,
        f"{DELTA}.core": core,
        f"{DELTA}.norm": norm,
        f"{DELTA}.out_proj": B * h * c + h * c * D + B * D,
        "layers.0.attn_residual": 3 * B * D,
    }
    fp32 = replace(DECODE, dtypes=Dtypes(weights="fp32", activations="fp32", kv_cache="fp32"))
    check(fp32, n, "hbm_bytes", {path: 4 * values for path, values in expected.items()})


@pytest.mark.parametrize("n", [2, 4])
def test_bytes_of_a_token_in_mamba_2(n: int) -> None:
    """bf16: the core casts what it reads."""
    h, g, p, s = 8 // n, 4 // n, 6, 5
    e, ch = h * p, h * p + 2 * g * s
    wide = e + ch + h
    conv = 2 * (
        (B * ch * 3 + B * ch) + B * ch * 4  # cat
        + 2 * B * ch * 3
        + (B * ch * 4 + ch * 4 + ch) + B * ch  # with a bias
        + 2 * B * ch  # silu
    )  # fmt: skip
    state = 4 * B * e * s
    core = (
        3 * (2 + 4) * h  # a_log, d and dt_bias in fp32
        + 16 * h  # exp and neg
        + (2 + 4) * B * h + 4 * (2 * B * h + h) + 8 * B * h  # dt: cast, bias, softplus
        + (2 + 4) * B * ch  # u in fp32
        + 4 * (2 * B * h + h) + 8 * B * h  # dt A and its exp
        + 4 * (B * h + 2 * B * e)  # dt xs
        + 4 * (B * e + B * g * s) + state  # times b
        + (2 * state + 4 * B * h) + 3 * state  # the state decays, and x is added
        + (8 * B * g * s if g > 1 else 0)  # c, a matrix for each sequence and group: one group needs no copy
        + state + 4 * B * g * s + 4 * B * e  # the state and c
        + 4 * (2 * B * e + h)  # xs d
        + 12 * B * e  # y + s
        + (4 + 2) * B * e
    )  # fmt: skip
    rows = B * g
    norm = (
        2 * 2 * B * e + 2 * 3 * B * e  # silu of z, y z
        + (2 + 4) * B * e  # cast
        + 8 * B * e + (4 * B * e + 4 * rows)  # pow, mean over 12 values
        + 16 * rows + (8 * B * e + 4 * rows)  # eps, rsqrt, times it
        + (4 + 2) * B * e + 2 * (2 * B * e + e)  # cast, times the weight
    )  # fmt: skip
    expected = {
        f"{MAMBA}.in_proj": 2 * (B * D + wide * D + wide + B * wide),
        f"{MAMBA}.conv": conv,
        f"{MAMBA}.core": core,
        f"{MAMBA}.norm": norm,
        # every rank stores and adds an n-th of each of the D values of the bias
        f"{MAMBA}.out_proj": 2 * (B * e + e * D + D + B * D),
    }
    check(DECODE, n, "hbm_bytes", expected)


@pytest.mark.parametrize("n", [2, 4])
def test_calls(n: int) -> None:
    """One sum behind the last matrix of either mixer; a layer without a feed-forward has no other."""
    a = B * 8 * 32 * 2
    logits = B * 8 * 40 * 2  # n divides the vocabulary

    def call(path: str, kind: str, nbytes: int, times: int, count: int = 1) -> Collective:
        sent = times * nbytes * (n - 1) // n
        return Collective(path=path, kind=kind, count=count, bytes=nbytes, wire_bytes=sent)  # type: ignore[arg-type]

    summed = ("embed", f"{DELTA}.out_proj", "layers.0.ffn", f"{MAMBA}.out_proj")
    whole = {*(call(path, "all-reduce", a, 2) for path in summed), call("lm_head", "all-gather", logits, 1)}
    by_rows = {
        *(call(path, "reduce-scatter", a, 1) for path in summed),
        *(call(path, "all-gather", a, 1) for path in (DELTA, "layers.0.ffn", MAMBA)),
        call("lm_head", "all-gather", a + logits, 1, count=2),
    }
    for account in halves(PREFILL, n):
        assert set(account.collectives) == whole
    for account in halves(PREFILL, n, rows=True):
        assert set(account.collectives) == by_rows
