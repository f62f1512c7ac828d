"""Layers that read the keys of others, and layers that predict further tokens, for random architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from llmprof.spec.arch import Gaussian, Gqa, LayerSpec, Mtp, Stack, T5Bias


def with_a_borrower(made: Sequence[LayerSpec]) -> tuple[LayerSpec, ...]:
    """These layers and one behind them that reads the keys and values of the last that can lend some; marked as such."""
    for index in reversed(range(len(made))):
        own = made[index].attention
        if isinstance(own, Gqa) and not isinstance(made[index].position, T5Bias | Gaussian):
            over = "head" if own.qk_norm_over == "all-heads" else own.qk_norm_over
            attention = replace(own, shared_kv=True, qk_norm_over=over, qkv_clip=None)
            borrower = replace(made[index], attention=attention, first_norm=True)
            return (*made[:index], replace(made[index], lends_kv=True), *made[index + 1 :], borrower)
    return tuple(made)


def sharing(layer: LayerSpec) -> bool:
    """Whether a layer has no keys and values of its own."""
    return isinstance(layer.attention, Gqa) and layer.attention.shared_kv


@st.composite
def further(draw: st.DrawFn, stack: Stack, counts: st.SearchStrategy[int]) -> Mtp | None:
    """Layers that predict further tokens, like one of a stack that can stand without it; none more often than not."""
    like = [layer for layer in stack.layers if not isinstance(layer.position, T5Bias) and not sharing(layer)]
    if not like or draw(st.sampled_from([True, True, False])):
        return None
    layer = replace(draw(st.sampled_from(like)), lends_kv=False)
    return Mtp(count=draw(counts), layer=layer, norm=layer.norm)
