"""Slices hold every distinct kind of layer, and stand for the full depth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.spec.arch import ArchSpec
from llmprof.spec.slice import slice_arch, smallest_slice


def hybrid() -> ArchSpec:
    """Six layers of two kinds, wide and narrow, in the pattern n n w n n w."""
    (base,) = catalog.resolve(["llama-7b"])
    (stack,) = base.stacks
    narrow = stack.layers[0]
    wide = replace(narrow, ffn=replace(narrow.ffn, d_ff=2 * narrow.ffn.d_ff))
    return replace(base, stacks=(replace(stack, layers=(narrow, narrow, wide) * 2),))


def test_a_slice_holds_each_kind_and_fills_up_in_order() -> None:
    arch = hybrid()
    assert smallest_slice(arch) == 2
    kept = slice_arch(arch, 3)
    assert kept.arch.stacks[0].layers == arch.stacks[0].layers[:3]
    assert kept.stands_for == {"": (0, 0, 2, 0, 0, 2)}


def test_the_smallest_slice_skips_repeats() -> None:
    arch = hybrid()
    kept = slice_arch(arch, 2)
    assert kept.arch.stacks[0].layers == (arch.stacks[0].layers[0], arch.stacks[0].layers[2])
    assert kept.representative("layers.5.ffn.up") == "layers.1.ffn.up"
    assert kept.representative("layers.4") == "layers.0"
    assert kept.representative("final_norm") == "final_norm"


def test_too_small_a_slice_says_what_would_do() -> None:
    with pytest.raises(InputError, match="use --layers 2"):
        slice_arch(hybrid(), 1)


def test_a_slice_deeper_than_the_model_is_the_model() -> None:
    arch = hybrid()
    assert slice_arch(arch, 99).arch == arch


def test_both_stacks_of_an_encoder_decoder_are_cut() -> None:
    (arch,) = catalog.resolve(["t5-small"])
    kept = slice_arch(arch, 1)
    assert [len(stack.layers) for stack in kept.arch.stacks] == [1, 1]
    assert kept.representative("decoder.layers.5.cross_attn.core") == "decoder.layers.0.cross_attn.core"
    assert kept.representative("encoder.layers.3.ffn") == "encoder.layers.0.ffn"
