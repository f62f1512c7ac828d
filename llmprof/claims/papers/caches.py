"""Bytes of KV cache per token, as DeepSeek compares them."""

from __future__ import annotations

from llmprof.claims.papers.figure import EXACT, Figure, Outcome, Study
from llmprof.claims.specs import shipped
from llmprof.predict.api import predict
from llmprof.workload import Execution, Workload

PRINTED = {"deepseek-v3": 70.272, "qwen2.5-72b": 327.68, "llama-3.1-405b": 516.096}
"""KB of 1,000 bytes per token, 16 bit."""

CONTEXT = 1024


def compute() -> Outcome:
    """The table's column: what one further token adds to all caches."""
    figures = tuple(
        Figure(of=name, printed=printed, ours=_per_token(name) / 1000, unit="kB", tolerance=EXACT)
        for name, printed in PRINTED.items()
    )
    return Outcome(figures=figures)


def _per_token(name: str) -> int:
    fewer, more = (
        predict(
            shipped(name),
            Workload(phase="decode", batch=1, new_tokens=1, context=context),
            Execution(attention="fused"),
        ).kv_cache_bytes
        for context in (CONTEXT, CONTEXT + 1)
    )
    return more - fewer


STUDY = Study(
    key="kv-cache-per-token",
    title="DeepSeek-V3, hardware paper, table 1: KV cache per token",
    subject="traffic",
    sources=("deepseek-hardware",),
    assumptions=("16 bit; latent attention keeps its latent row and the rotated key, once for all heads",),
    compute=compute,
)
