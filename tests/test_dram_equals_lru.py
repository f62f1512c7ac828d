"""What reaches memory, predicted from reuse distances, equals a cache that is simulated while the twin runs.

Leaf by leaf, below caches of very different sizes: none at all, one that holds a row, one that holds a layer's
activations, that of a device, one without bounds.
"""

from __future__ import annotations

import pytest

from llmprof import catalog
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.twin.core import NoFusedKernel
from llmprof.workload import Execution
from tests.confirming import phases, workload
from tests.importing import EVERYTHING
from tests.memory_levels import levels

CAPACITIES = (0, 1_000, 20_000, 1_000_000, 50_000_000, 10**15, None)

SPECS = {
    "gpt2": "decoder, learned positions, tied",
    "llama-2-70b": "groups, SwiGLU",
    "mistral-7b-v0.1": "window",
    "falcon-7b": "parallel layers, one KV head",
    "bloom-560m": "ALiBi",
    "glm-130b": "prefix",
    "bert-base-uncased": "encoder with a pooler",
    "t5-small": "encoder and decoder, relative bias",
    "whisper-tiny": "encoder and decoder, sound",
    "olmoe-1b-7b": "experts",
    "deepseek-v2-lite": "latent attention, experts",
    "mamba2-130m": "state space",
    "rwkv-4-169m": "token by token",
    "recurrentgemma-2b": "hybrid",
    "lfm2-350m": "hybrid, short convolutions",
}
"""One per structure, and what it has."""

REST = sorted({name for entry in catalog.entries() for name in [entry.name]} - SPECS.keys()) if EVERYTHING else []


@pytest.mark.parametrize("name", [*SPECS, *REST])
def test_what_reaches_memory(name: str) -> None:
    (arch,) = catalog.resolve([name])
    small = slice_arch(arch, smallest_slice(arch)).arch
    for phase in phases(small):
        for attention in ("fused", "unfused"):
            work = workload(small, phase, batch=2 if phase == "prefill" else 1)
            try:
                found = levels(small, work, Execution(attention=attention), CAPACITIES)
            except NoFusedKernel:
                continue
            assert found.differences() == []
            simulated = found.simulated
            assert simulated[None] == simulated[10**15], "a cache that nothing leaves is a boundless one"
            assert {path: size for path, size in simulated[0].items() if size} == {
                path: size for path, size in found.op_level.items() if size
            }, "without a cache every access reaches memory"
            totals = [sum(simulated[capacity].values()) for capacity in (None, 50_000_000, 1_000_000)]
            assert totals == sorted(totals)
            assert totals[-1] <= sum(found.op_level.values())


@pytest.mark.parametrize("name", ["llama-3-8b", "gemma-2-2b"])
def test_what_reaches_memory_of_transformers_own_attention(name: str) -> None:
    (arch,) = catalog.resolve([name])
    small = slice_arch(arch, smallest_slice(arch)).arch
    for phase in phases(small):
        found = levels(
            small, workload(small, phase, batch=2), Execution(attention="unfused", reference="hf-eager"), CAPACITIES
        )
        assert found.differences() == []
