"""Both halves on one question, and what they say of each other."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from llmprof import catalog, confirm
from llmprof.ledger import Row, Verdict
from llmprof.predict.api import predict
from llmprof.spec.arch import (
    ArchSpec,
    Attention,
    Clustered,
    GatedDeltaNet,
    Linear,
    Mamba2,
    Nystrom,
    Performer,
    Sparse,
)
from llmprof.workload import Dtypes, Execution, Phase, Workload

BF16 = Dtypes()
FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")

WITHOUT_FUSED_KERNEL = {"gemma-2-2b", "gemma-2-9b", "gemma-2-27b", "open-llama-3b", "attention-options:softcap"}
"""Specs that no fused kernel of torch can compute, for their softcap or for heads that are not a multiple of eight wide;
their fused rows are UNMEASURED."""


@lru_cache(maxsize=1)
def catalogued() -> tuple[ArchSpec, ...]:
    """Every spec of the catalogue and every variant, read once for all who are parametrised by them."""
    return tuple(arch for entry in catalog.entries() for arch in entry.load().archs())


def workload(arch: ArchSpec, phase: Phase, *, batch: int = 1, tokens: int = 16, dtypes: Dtypes = BF16) -> Workload:
    """A workload of `phase` for any structure: about `tokens` of prompt, or one token after as many less one.

    Where attention or a mixer works on blocks, chunks, clusters or segments there are several of them, the last one ragged
    where it may be.
    """
    layers = [layer for stack in arch.stacks for layer in stack.layers]
    tokens = max(tokens, *(_tokens_for(part) for layer in layers for part in (layer.attention, layer.mixer) if part))
    prefix = arch.structure == "prefix-decoder"
    return Workload(
        phase=phase,
        batch=batch,
        new_tokens=tokens if phase == "prefill" else 1,
        context=tokens,
        source_tokens=tokens - 3 if arch.structure == "encoder-decoder" else 0,
        prefix_tokens=(tokens // 2) if prefix else 0,
        logits="none" if arch.head.kind == "none" else "all",
        dtypes=dtypes,
    )


def _tokens_for(attention: Attention) -> int:
    match attention:
        case Sparse(block=block):
            return 9 * block + block // 2
        case Mamba2(chunk=chunk) | GatedDeltaNet(chunk=chunk):
            return chunk + chunk // 2
        case Linear(chunk=chunk) | Performer(chunk=chunk):
            return 2 * chunk + 1
        case Clustered(n_clusters=clusters):
            return clusters + 3
        case Nystrom(n_landmarks=landmarks):
            return 3 * landmarks
        case _:
            return 1


def phases(arch: ArchSpec) -> tuple[Phase, ...]:
    """The phases that a structure has."""
    return ("prefill",) if arch.structure == "encoder" else ("prefill", "decode")


def rows(arch: ArchSpec, work: Workload, execution: Execution, *, device: str = "meta", seed: int = 0) -> list[Row]:
    """Every row of one pass. NoFusedKernel passes through."""
    from llmprof.measure.run import measure
    from llmprof.twin.build import build

    twin = build(arch, dtypes=work.dtypes, device=device, seed=seed, mtp=work.mtp)
    measured = measure(twin, work, execution)
    predicted = predict(arch, work, execution)
    return confirm.join(
        predicted.ledger,
        measured.ledger,
        attention=execution.attention,
        phase=work.phase,
        witness="dispatch trace",
        unmeasured=measured.unmeasured,
    )


def disagreements(found: Iterable[Row]) -> list[str]:
    """The rows that do not agree, as readable lines."""
    return [
        f"{row.path or '(whole)'} {row.quantity} {row.attention} {row.phase}: predicted {row.predicted}, "
        f"measured {row.measured}: {row.verdict.value} {row.note}"
        for row in found
        if row.verdict is not Verdict.AGREES
    ]
