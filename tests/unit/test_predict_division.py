"""Which axis of a tensor is divided over devices, and what cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.claims.papers.shapes import architecture, gpt
from llmprof.claims.specs import attention, changed, shipped
from llmprof.errors import InputError
from llmprof.predict.division import parameter_axis
from llmprof.predict.tensor import Axes
from llmprof.predict.training.division import activation_axis
from llmprof.predict.training.sharded import Division, check, rank_parameters
from llmprof.spec.arch import LayerNorm
from tests.unit.divided import ROWS, SMALL, trained

# --- parameters -------------------------------------------------------------------------------------


def test_matrices_are_divided_and_the_rest_is_whole() -> None:
    d, f, v, t = 64, 256, 1000, 4
    made = rank_parameters(SMALL, t)
    layer = {path.removeprefix("layers.0."): count for path, count in made.items() if path.startswith("layers.0.")}
    assert {path: count for path, count in layer.items() if count} == {
        "attn_norm": 2 * d,
        **dict.fromkeys(("attn.q_proj", "attn.k_proj", "attn.v_proj"), d * d // t + d // t),  # bias by outputs
        "attn.o_proj": d * d // t + d,  # bias whole
        "ffn_norm": 2 * d,
        "ffn.up": d * f // t + f // t,
        "ffn.down": d * f // t + d,
    }
    assert made["embed"] == v // t * d
    assert made["pos_embed"] == 32 * d
    assert made["final_norm"] == 2 * d
    assert made["lm_head"] == 0, "tied to the token table"


def test_the_vocabulary_is_padded() -> None:
    arch = gpt("odd", "megatron-recompute", layers=1, d_model=64, heads=8, vocab_size=1001, tokens=32)
    assert rank_parameters(arch, 8)["embed"] == 126 * 64  # 8 x 126 = 1,008


@pytest.mark.parametrize(
    ("path", "axes", "axis"),
    [
        ("layers.0.attn.q_proj", {"q": 64, "d": 64}, "q"),
        ("layers.0.attn.k_proj", {"kv": 16, "d": 64}, "kv"),
        ("layers.0.attn.o_proj", {"d": 64, "q": 64}, "q"),
        ("layers.0.attn.o_proj", {"d": 64}, None),
        ("layers.0.attn.q_norm", {"h": 8}, None),
        ("layers.0.attn.q_norm", {"n": 8, "h": 8}, "n"),
        ("layers.0.ffn.gate", {"f": 256, "d": 64}, "f"),
        ("layers.0.ffn.down", {"d": 64, "f": 256}, "f"),
        ("head.dense", {"d_out": 64, "d": 64}, None),
        ("lm_head", {"v": 1000, "d": 64}, "v"),
        ("decoder.rel_bias", {"buckets": 32, "n": 8}, None),
    ],
)
def test_the_axis_of_a_parameter(path: str, axes: Axes, axis: str | None) -> None:
    assert parameter_axis(path, axes) == axis


# --- activations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "axes", "tensor", "with_sequence"),
    [
        ("layers.0.attn_norm", ROWS, None, "t"),
        ("layers.0.attn_norm", {"b": 2, "t": 32}, None, "t"),  # statistics
        ("layers.0.attn.q_proj", ROWS, None, "t"),  # gathered where it is used, kept in parts
        ("layers.0.attn.core", {"b": 2, "k": 8, "g": 1, "t": 32, "s": 32}, "k", "k"),
        ("layers.0.attn.core", {"b": 2, "n": 8, "t": 32}, "n", "n"),
        ("layers.0.attn.core", {}, None, None),  # the state of a random number generator
        ("layers.0.attn.rope", {"t": 32, "r": 8}, None, None),  # between: tokens are whole
        ("layers.0.attn.o_proj", {"b": 2, "t": 32, "q": 64}, "q", "q"),
        ("layers.0.attn_dropout", ROWS, None, "t"),
        ("layers.0.ffn.up", ROWS, None, "t"),
        ("layers.0.ffn.act", {"b": 2, "t": 32, "f": 256}, "f", "f"),
        ("layers.0.ffn.down", {"b": 2, "t": 32, "f": 256}, "f", "f"),
        ("decoder.layers.0.cross_attn.k_proj", {"b": 2, "m": 16, "d": 64}, None, "m"),
        ("layers.0", ROWS, None, "t"),  # a layer that runs again keeps its input
        ("final_norm", ROWS, None, "t"),
        ("lm_head", ROWS, None, "t"),
        ("loss", {"b": 2, "t": 32, "v": 1000}, "v", "v"),
        ("loss", {}, None, None),
    ],
)
def test_the_axis_of_an_activation(path: str, axes: Axes, tensor: str | None, with_sequence: str | None) -> None:
    assert activation_axis(path, axes, sequence=False) == tensor
    assert activation_axis(path, axes, sequence=True) == with_sequence


# --- what cannot be divided -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("division", "said"),
    [
        (
            Division(tensor=3),
            r"--tensor-parallel 3 does not divide n_heads \(8\) and n_kv_heads \(8\) and d_ff \(256\)",
        ),
        (Division(tensor=16), r"does not divide n_heads \(8\) and n_kv_heads \(8\) of small; use one of 1, 2, 4, 8"),
        (Division(tensor=8, sequence=True), r"does not divide new tokens \(12\) of small; use one of 1, 2, 4"),
        (Division(sequence=True), "--sequence-parallel divides tokens among the devices"),
    ],
)
def test_what_does_not_divide_is_named_with_what_works(division: Division, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(SMALL, trained(12), division)


def test_what_divides_is_accepted() -> None:
    for devices in (1, 2, 4, 8):
        check(SMALL, trained(32), Division(tensor=devices, sequence=devices > 1))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mixtral-8x7b", "nothing says how mixtral-8x7b is divided"),
        ("deepseek-v2-lite", "nothing says how deepseek-v2-lite is divided"),
        ("falcon-7b", r"n_heads \(71\) and n_kv_heads \(1\)"),
    ],
)
def test_what_has_no_rule_is_refused(spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(shipped(spec), trained(32), Division(tensor=2))
    check(shipped(spec), trained(32), Division(zero=3, data=2))


def test_a_norm_over_all_heads_is_refused() -> None:
    now = replace(attention(SMALL), qk_norm=LayerNorm(eps=1e-5), qk_norm_over="all-heads")
    arch = changed(SMALL, lambda layer: replace(layer, attention=now))
    with pytest.raises(InputError, match="all heads at once"):
        check(arch, trained(32), Division(tensor=2))


def test_a_loss_of_part_of_the_positions_is_refused_with_sequence_parallelism() -> None:
    with pytest.raises(InputError, match="part of the positions"):
        check(SMALL, trained(32, loss_tokens=8), Division(tensor=2, sequence=True))
    check(SMALL, trained(32, loss_tokens=8), Division(tensor=2))


def test_every_stack_has_to_be_divided() -> None:
    def stack(heads: int) -> dict[str, object]:
        return {
            "count": 1,
            "norm": {"kind": "rmsnorm", "placement": "pre"},
            "attention": {"kind": "gqa", "n_heads": heads, "n_kv_heads": heads, "head_dim": 8},
            "ffn": {"kind": "relu", "d_ff": 64},
        }

    cross = {"kind": "gqa", "n_heads": 6, "n_kv_heads": 6, "head_dim": 8}
    arch = architecture(
        "both",
        "megatron-recompute",
        structure="encoder-decoder",
        vocab_size=100,
        d_model=32,
        max_context=32,
        position={"kind": "none"},
        encoder=stack(4),
        decoder={**stack(8), "cross_attention": cross},
    )
    workload = trained(32, objective="span-corruption", source_tokens=32)
    with pytest.raises(InputError, match=r"divide decoder\.n_heads \(6\) and decoder\.n_kv_heads \(6\).*one of 1, 2$"):
        check(arch, workload, Division(tensor=4))
    with pytest.raises(InputError, match=r"encoder\.n_heads \(4\).*decoder\.n_heads \(8\)"):
        check(arch, workload, Division(tensor=3))
