"""Prediction equals measurement, tolerance 0: every spec and variant of the catalogue, on meta.

Every one on the slice that holds each of its distinct kinds of layer, prefill and decode, in settings that pair each batch, dtype
and attention with each other: one of each structure in all of them in both phases, and what differs from it in sizes in half of
them in each phase, so that phase, dtype and attention meet in pairs too. With LLMPROF_EVERY=1 all are in all. At full depth one of each structure among those that are shallow: what more layers add is only how
often a layer is counted, and what another size of the same kinds adds is on its slice.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.routing import Routing
from llmprof.spec.arch import ArchSpec, Moe
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.twin.core import NoFusedKernel
from llmprof.workload import Dtypes, Execution, Phase
from tests.confirming import BF16, FP32, WITHOUT_FUSED_KERNEL, catalogued, disagreements, phases, rows, workload
from tests.importing import EVERYTHING
from tests.structures import one_of_each

ARCHS = catalogued()

SETTINGS: tuple[tuple[int, Dtypes, str], ...] = (
    (1, BF16, "fused"),
    (3, FP32, "fused"),
    (3, BF16, "unfused"),
    (1, FP32, "unfused"),
)
"""Batch, dtypes and attention: any two of their values meet in one of them."""

ROUTINGS = (Routing(), Routing("concentrated"), Routing(), Routing("random", 1))
"""Which experts tokens go to, by setting."""

HALVES = ((0, 3), (1, 2))
"""Settings of the one phase and of the other: each half has both dtypes and both attentions, and one batch."""

REPRESENTATIVES = frozenset(arch.label for arch in one_of_each(ARCHS))
"""One of each structure, which are tried in every setting in both phases."""

DEEPEST, DEEPEST_UNLIKE = 28, 32
"""How many layers are confirmed at full depth: of a model whose layers are all alike, and of one with several kinds."""

by_label = pytest.mark.parametrize("arch", ARCHS, ids=lambda a: a.label)


def has_experts(arch: ArchSpec) -> bool:
    return any(isinstance(layer.ffn, Moe) for stack in arch.stacks for layer in stack.layers)


def has_unlike_layers(arch: ArchSpec) -> bool:
    return any(len(set(stack.layers)) > 1 for stack in arch.stacks)


def is_shallow(arch: ArchSpec) -> bool:
    """Whether the base of a file is confirmed at full depth; a variant has the depth of its base."""
    if arch.variant is not None:
        return False
    if has_unlike_layers(arch):
        return arch.n_layers <= DEEPEST_UNLIKE
    return arch.n_layers <= DEEPEST and not has_experts(arch)


def passes(arch: ArchSpec) -> list[tuple[Phase, int]]:
    """Phases and settings that `arch` is tried in; which half is whose changes from one label to the next."""
    if EVERYTHING or arch.label in REPRESENTATIVES or len(phases(arch)) == 1:
        return [(phase, setting) for phase in phases(arch) for setting in range(len(SETTINGS))]
    swapped = sum(arch.label.encode()) % 2
    return [(phase, setting) for i, phase in enumerate(phases(arch)) for setting in HALVES[i ^ swapped]]


def test_the_catalogue_is_there() -> None:
    assert len(ARCHS) >= 460
    assert {arch.structure for arch in ARCHS} == {"causal-decoder", "prefix-decoder", "encoder-decoder", "encoder"}


def test_full_depth_has_every_structure_experts_and_unlike_layers() -> None:
    shallow = one_of_each(arch for arch in ARCHS if is_shallow(arch))
    assert len(shallow) >= 40
    assert {arch.structure for arch in shallow} == {arch.structure for arch in ARCHS}
    assert sum(has_unlike_layers(arch) for arch in shallow) >= 10
    assert any(has_experts(arch) for arch in shallow)


@pytest.mark.slow
@pytest.mark.parametrize("arch", one_of_each(arch for arch in ARCHS if is_shallow(arch)), ids=lambda a: a.label)
def test_full_depth(arch: ArchSpec) -> None:
    for phase, attention in zip(phases(arch), ("unfused", "fused"), strict=False):
        if arch.label in WITHOUT_FUSED_KERNEL:
            attention = "unfused"
        found = rows(arch, workload(arch, phase, batch=2), Execution(attention=attention))  # type: ignore[arg-type]
        assert disagreements(found) == []
        assert len(found) > 10 * arch.n_layers


@by_label
def test_every_setting_on_the_slice_with_every_kind_of_layer(arch: ArchSpec) -> None:
    small = slice_arch(arch, smallest_slice(arch)).arch
    assert {layer for stack in small.stacks for layer in stack.layers} == {
        layer for stack in arch.stacks for layer in stack.layers
    }
    for phase, i in passes(arch):
        (batch, dtypes, attention), routing = SETTINGS[i], ROUTINGS[i]
        work = workload(small, phase, batch=batch, dtypes=dtypes)
        # Alternately the latents themselves and what is made of them, and further tokens and none.
        further = small.mtp is not None and i % 2 == 0
        work = replace(work, latent="absorbed" if i % 2 == 0 else "expanded", mtp=further)
        if has_experts(arch):
            work = replace(work, routing=routing)
        try:
            found = rows(small, work, Execution(attention=attention))  # type: ignore[arg-type]
        except NoFusedKernel:
            assert attention == "fused"
            assert arch.label in WITHOUT_FUSED_KERNEL
            continue
        assert disagreements(found) == [], work


def test_the_halves_pair_what_they_leave_out_with_each_other() -> None:
    """Phase, dtype and attention meet in pairs in what a size of a known structure is tried in, whichever half is whose."""
    for halves in (HALVES, HALVES[::-1]):
        tried = [(phase, *SETTINGS[setting][1:]) for phase, half in enumerate(halves) for setting in half]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert len({(each[one], each[other]) for each in tried}) == 4
    halved = [arch for arch in ARCHS if len(phases(arch)) == 2 and arch.label not in REPRESENTATIVES]
    assert {sum(arch.label.encode()) % 2 for arch in halved} == {0, 1}
