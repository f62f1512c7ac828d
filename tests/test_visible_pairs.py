"""The causal FLOP count has a witness: the masks that the twin applies, counted pair by pair.

The prediction counts visible (query, key) pairs in closed form; no FLOP counter sees them, because a kernel computes the whole
square or is not to be looked into. The twin makes its masks as tensors. Both must let the same number of pairs through, in every
spec and variant of the catalogue and in random architectures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.predict import compressed, latent_core, masks, sparse
from llmprof.spec.arch import (
    ArchSpec,
    Attention,
    Compressed,
    Gqa,
    Indexer,
    Learned,
    Mask,
    Mla,
    Nystrom,
    RmsNorm,
    Rope,
    Sliding,
    Sparse,
    Structure,
)
from llmprof.twin.visibility import sight_of
from llmprof.workload import Phase, Workload
from tests.confirming import workload
from tests.families import kinds, runs
from tests.modern import NAMES as MODERN
from tests.modern import modern
from tests.predict_samples import arch, layer, stack
from tests.strategies import archs, workloads
from tests.visible_pairs import asked, check, chosen, counted, seen_by

HEAD = Gqa(n_heads=1, n_kv_heads=1, head_dim=8)
LATENT = Mla(n_heads=2, kv_rank=8, nope_dim=8, rope_dim=8, value_dim=8, norm=RmsNorm())
INDEXED = replace(LATENT, q_rank=8, indexer=Indexer(n_heads=2, head_dim=8, top_k=3))
STRUCTURES: dict[Mask, Structure] = {
    "causal": "causal-decoder",
    "prefix": "prefix-decoder",
    "bidirectional": "encoder",
}
NAMES = [entry.name for entry in catalog.entries()]


# --- the catalogue ----------------------------------------------------------------------------


def _reach(attention: Attention) -> int:
    """How many keys a row sees at most: a context above it is cut. 0 where nothing bounds them."""
    match attention:
        case Gqa(window=window, chunk=chunk):
            return window or chunk or 0
        case Mla(indexer=Indexer(top_k=top_k)):
            return top_k
        case _:
            return 0


def passes(spec: ArchSpec) -> Iterator[Workload]:
    """Prefill, chunked prefill and decode with no, a short and a whole prefix: those that `spec` can run."""
    room = min(
        (each.embedded_position.rows for each in spec.stacks if isinstance(each.embedded_position, Learned)),
        default=10**9,
    )
    least = workload(spec, "prefill").new_tokens
    attentions = [each.attention for home in spec.stacks for each in home.layers]
    reach = max((_reach(each) for each in attentions), default=0)
    block = max((each.block for each in attentions if isinstance(each, Sparse)), default=1)
    n = min(room, max(least, reach * 3 // 2))
    past = n // 2 // block * block  # sparse attention goes on from the start of a block
    lengths: list[tuple[Phase, int, int]] = [("prefill", n, n), ("prefill", n - past, n), ("decode", 1, n)]
    prefixes = (0, n // 3, n) if spec.structure == "prefix-decoder" else (0,)
    for phase, fresh, context in lengths:
        for prefix in prefixes:
            yield from asked(spec, phase, fresh, context, source=least + 3, prefix=prefix)


@pytest.mark.parametrize("name", NAMES)
def test_the_causal_count_of_every_spec_is_that_of_the_masks_that_are_applied(name: str) -> None:
    for spec in catalog.find(name).archs():
        made = list(passes(spec))
        assert {work.phase for work in made} >= {"prefill"}
        assert spec.structure == "encoder" or "decode" in {work.phase for work in made}
        for work in made:
            check(spec, work)


# --- random architectures ---------------------------------------------------------------------


@settings(max_examples=150)
@given(question=archs().flatmap(lambda spec: st.tuples(st.just(spec), workloads(spec))))
def test_the_causal_count_of_any_architecture_is_that_of_the_masks_that_are_applied(
    question: tuple[ArchSpec, Workload],
) -> None:
    check(*question)


SMALL = [(attention, mask) for attention in kinds() for mask in attention.masks]


@pytest.mark.parametrize(
    ("attention", "mask"), SMALL, ids=lambda value: value if isinstance(value, str) else value.kind
)
def test_every_kind_at_every_small_length(attention: Attention, mask: Mask) -> None:
    spec = arch(stack([layer(attention)], mask=mask), d=8, v=10, structure=STRUCTURES[mask])
    checked = 0
    for context in range(1, 14):
        for fresh in {1, context, *range(context % 3, context, 3)} - {0}:
            work = Workload(
                phase="prefill",
                batch=1,
                new_tokens=fresh,
                context=context,
                prefix_tokens=context // 2 if mask == "prefix" else 0,
            )
            if runs(spec, work):
                check(spec, work)
                checked += 1
    # Segments of equal length: landmarks divide the context.
    assert checked >= (13 // attention.n_landmarks if isinstance(attention, Nystrom) else 6)


@pytest.mark.parametrize("name", MODERN)
def test_every_modern_architecture_at_every_small_length(name: str) -> None:
    spec = modern(name)
    checked = 0
    for context in range(1, 14):
        for fresh in {1, context, *range(context % 3, context, 3)} - {0}:
            decodes = fresh == 1 < context and spec.structure != "encoder"
            prefix = context // 2 if spec.structure == "prefix-decoder" else 0
            for work in asked(spec, "decode" if decodes else "prefill", fresh, context, source=5, prefix=prefix):
                check(spec, work)
                checked += 1
    assert checked >= 13


# --- the check can fail -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "attention", "mask"),
    [
        (masks, "visible_pairs", HEAD, "causal"),
        (masks, "visible_pairs", replace(HEAD, window=3), "causal"),
        (masks, "_both_ways", replace(HEAD, window=4), "bidirectional"),
        (masks, "_chunked", replace(HEAD, chunk=4), "causal"),
        (masks, "visible_pairs", LATENT, "causal"),
        (masks, "visible_pairs", INDEXED, "causal"),
        (latent_core, "visible_pairs", INDEXED, "causal"),
        (compressed, "visible_pairs", Compressed(n_heads=1, head_dim=8, factor=2, method="mean"), "causal"),
        (sparse, "blocks", Sparse(n_heads=1, head_dim=8, block=2, pattern=Sliding(window=2)), "causal"),
    ],
    ids=lambda value: getattr(value, "kind", value if isinstance(value, str) else ""),
)
def test_a_wrong_closed_form_would_be_seen(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, attention: Attention, mask: Mask
) -> None:
    right = getattr(module, name)

    def wrong(*sizes: Any, **cut: Any) -> Any:
        found = right(*sizes, **cut)
        return found + 1 if isinstance(found, int) else replace(found, visible=found.visible + 1)

    sample = layer(attention, position=Rope(theta=10000.0))
    spec = arch(stack([sample], mask=mask), d=8, v=10, structure=STRUCTURES[mask])
    work = Workload(phase="prefill", batch=1, new_tokens=9, context=9)
    check(spec, work)
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError):
        check(spec, work)


def test_the_twin_is_asked_for_the_very_mask() -> None:
    # Causal with a window of 3 over 5 tokens: 1 + 2 + 3 + 3 + 3 pairs of 5 x 5.
    windowed = replace(HEAD, window=3)
    assert counted(windowed, "causal", 5, 5, 0) == (12, 25)
    assert sight_of(windowed, "causal", rows=5, context=5, prefix=0).keys == 5
    # 3 to either side of 5 tokens are not all: 4 + 5 + 5 + 5 + 4. 1 to either side: 2 + 3 + 3 + 3 + 2.
    assert counted(replace(HEAD, window=6), "bidirectional", 5, 5, 0) == (23, 25)
    assert counted(windowed, "bidirectional", 5, 5, 0) == (13, 25)
    # Chunks of 3 over 7 tokens: 1 + 2 + 3 + 1 + 2 + 3 + 1. Of the last 2 of 5, that see 1 + 2 of their own chunk's 2 keys.
    assert counted(replace(HEAD, chunk=3), "causal", 7, 7, 0) == (13, 49)
    assert counted(replace(HEAD, chunk=3), "causal", 2, 5, 0) == (3, 4)


def test_the_chosen_keys_are_counted_by_hand() -> None:
    # 5 tokens see 1 .. 5 keys, of which 1 + 2 + 3 + 3 + 3 are left; the kernel takes all of 5 x 5.
    assert chosen(3, seen_by(LATENT, "causal", 5, 5, 0)) == (12, 25)
    # A single token reads the 3 that were chosen for it, and nothing else.
    assert chosen(3, seen_by(LATENT, "causal", 1, 9, 0)) == (3, 3)
