"""Every kind of attention in every regime that it has: prediction equals the twin, peak live bytes included.

Random architectures (`test_prediction_equals_twin.py`) seldom reach the corners: one head, one token, a ragged last block, a chunk
as long as the prompt, as many landmarks or clusters as tokens, a compressed key that is completed or not.

Every regime runs in two of the four executions, fused on the one device and unfused on the other, and with another number of heads in
the other two. With LLMPROF_EVERY=1 all run in all.
"""

from __future__ import annotations

import itertools

import pytest

from llmprof.spec.arch import (
    ArchSpec,
    Attention,
    Clustered,
    Gaussian,
    Gqa,
    Linear,
    Mask,
    NoPosition,
    Nystrom,
    Performer,
    Rope,
)
from llmprof.twin.core import NoFusedKernel
from llmprof.workload import Dtypes, Execution, Workload
from tests.confirming import FP32, disagreements, rows
from tests.families import kinds, runs
from tests.importing import EVERYTHING
from tests.predict_samples import arch, decode, layer, prefill, stack

EXECUTIONS = [
    pytest.param(Execution(attention="unfused"), "meta", id="unfused-meta"),
    pytest.param(Execution(attention="fused"), "meta", id="fused-meta"),
    pytest.param(Execution(attention="unfused", kernels="cpu"), "cpu", id="unfused-cpu"),
    pytest.param(Execution(attention="fused", kernels="cpu"), "cpu", id="fused-cpu"),
]
STRUCTURE: dict[Mask, str] = {"causal": "causal-decoder", "prefix": "prefix-decoder", "bidirectional": "encoder"}
MIXED = Dtypes(weights="fp32", activations="bf16", kv_cache="fp16")

CORNERS: list[Attention] = [
    *kinds(n_heads=1),
    *kinds(n_heads=2),
    Linear(n_heads=2, head_dim=8, chunk=64),
    Performer(n_heads=2, head_dim=8, chunk=1, n_features=3),
    Nystrom(n_heads=2, head_dim=8, n_landmarks=6, iterations=1),
    Nystrom(n_heads=2, head_dim=8, n_landmarks=12, iterations=3),
    Clustered(n_heads=2, head_dim=8, n_clusters=12, n_bits=1, iterations=1),
]


def model(attention: Attention, mask: Mask, *, position: NoPosition | Rope | Gaussian | None = None) -> ArchSpec:
    made = stack([layer(attention, position=position)], mask=mask)
    return arch(made, d=10, v=11, structure=STRUCTURE[mask])  # type: ignore[arg-type]


def works(spec: ArchSpec) -> list[Workload]:
    """Prompts of corner lengths, chunks of prompts after a past, and decode steps, as far as the kind can run them."""
    made = []
    settings = itertools.cycle([(2, MIXED), (1, Dtypes()), (2, FP32)])
    for context in (1, 2, 4, 6, 7, 12, 13):
        prefix = context // 2 if spec.structure == "prefix-decoder" else 0
        asked = [(context, "prefill")]
        if spec.structure != "encoder":
            asked += [(1, "decode"), *((new, "prefill") for new in (context - 3, context - 6) if new > 1)]
        for new_tokens, phase in asked:
            batch, dtypes = next(settings)
            if phase == "decode":
                made.append(decode(context, batch=batch, dtypes=dtypes, prefix=prefix))
            else:
                made.append(prefill(new_tokens, context=context, batch=batch, dtypes=dtypes, prefix=prefix))
    return [work for work in made if runs(spec, work)]


def share(of: list[Workload], attention: Attention, execution: Execution, device: str) -> list[Workload]:
    """The passes that are run: every other one, if there are several; which of the two, heads, way and device decide."""
    if EVERYTHING or len(of) < 4:
        return of
    heads: int = getattr(attention, "n_heads", 1)
    return of[(heads + (execution.attention == "fused") + (device == "cpu")) % 2 :: 2]


@pytest.mark.parametrize(("execution", "device"), EXECUTIONS)
@pytest.mark.parametrize("attention", CORNERS, ids=lambda a: f"{a.kind}-{a.n_heads}")
def test_every_regime_of_a_kind(attention: Attention, execution: Execution, device: str) -> None:
    confirmed = 0
    for mask in attention.masks:
        spec = model(attention, mask, position=Rope(theta=10000.0))
        for work in share(works(spec), attention, execution, device):
            found = rows(spec, work, execution, device=device)
            assert disagreements(found) == [], work
            confirmed += len(found)
    assert confirmed > 60


@pytest.mark.parametrize(("execution", "device"), EXECUTIONS)
@pytest.mark.parametrize("mask", ["causal", "prefix", "bidirectional"])
def test_every_regime_of_a_gaussian_prior(mask: Mask, execution: Execution, device: str) -> None:
    spec = model(Gqa(n_heads=2, n_kv_heads=1, head_dim=8), mask, position=Gaussian())
    for work in works(spec):
        try:
            found = rows(spec, work, execution, device=device)
        except NoFusedKernel:
            pytest.fail("the efficient kernel takes any bias")
        assert disagreements(found) == [], work
