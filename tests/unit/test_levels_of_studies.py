"""Bytes by level of every kind of attention and mixer that the studies have: each has figures, and they are in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof import catalog
from llmprof.device import find
from llmprof.predict.api import predict
from llmprof.predict.levels import levels_of
from llmprof.spec.arch import ArchSpec
from tests.predict_samples import FUSED, UNFUSED, decode, prefill

TOKENS = 128
"""A multiple of what the variants cut their tokens into."""

STUDIES = ("attention-families", "attention-families-encoder", "attention-modern", "attention-options", "structures")


def small(spec: ArchSpec) -> ArchSpec:
    """Its first two layers: a stack of equal ones has nothing that two of them have not."""
    return replace(spec, stacks=tuple(replace(stack, layers=stack.layers[:2]) for stack in spec.stacks))


def variants() -> list[ArchSpec]:
    return [small(spec) for name in STUDIES for spec in catalog.find(name).archs()]


@pytest.mark.parametrize("spec", variants(), ids=lambda spec: spec.label)
def test_levels_are_in_order(spec: ArchSpec) -> None:
    source = TOKENS if spec.structure == "encoder-decoder" else 0
    passes = [prefill(TOKENS, batch=2, source=source)]
    if spec.structure != "encoder":
        passes.append(decode(TOKENS, batch=2, source=source))
    for work in passes:
        for execution in (FUSED, UNFUSED):
            prediction = predict(spec, work, execution)
            for device in (find("h200"), find("t4")):
                found = levels_of(prediction, device)
                assert found.compulsory.total() <= found.dram.total() <= prediction.cost.hbm_bytes
                assert set(found.untiled).isdisjoint(found.cores)
                # A product's tiles load their operands again, a fused attention has no random state to write.
                outside = {
                    path: moved for path, moved in found.dram.items() if path not in {*found.untiled, *found.cores}
                }
                assert all(found.l2_to_sm[path] >= moved for path, moved in outside.items() if path != "embed"), outside
