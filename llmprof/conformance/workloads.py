"""On which passes an architecture is verified: a prompt, and one step after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmprof.spec.arch import ArchSpec, Gqa, LayerSpec, Mamba2
from llmprof.workload import Workload

PROMPT = 128
SOURCE = 96
"""Tokens of a prompt and of a source where nothing asks for others: unlike, so that the two are not confused."""

FRONT_POSITIONS = 1500
"""Positions that an encoder of sound makes of its 30 seconds: ``max_source_positions`` of transformers 5.23.0,
models/whisper/configuration_whisper.py; the class takes no others."""

BEYOND = 5
"""How many tokens the prompt is longer than the longest window or chunk of attention."""


def workloads(arch: ArchSpec, config: Mapping[str, Any] | None = None) -> tuple[Workload, ...]:
    """A prompt of batch 1 and, unless it is an encoder, the step after it.

    The prompt is longer than every window, and ends within a chunk of a state space, but no longer than the model can
    take with the step.
    """
    tokens = max([PROMPT, *(length for layer in arch.main.layers for length in _shown_by(layer))])
    if arch.max_context is not None:
        tokens = max(1, min(tokens, arch.max_context - 1))
    source = 0
    if arch.encoder is not None:
        source = (
            SOURCE if arch.encoder.front is None else int((config or {}).get("max_source_positions", FRONT_POSITIONS))
        )
    logits: Any = "none" if arch.head.kind == "none" else "all"
    prefix = arch.structure == "prefix-decoder"
    prompt = Workload(
        phase="prefill",
        batch=1,
        new_tokens=tokens,
        context=tokens,
        source_tokens=source,
        prefix_tokens=tokens if prefix else 0,
        logits=logits,
    )
    if arch.structure == "encoder":
        return (prompt,)
    step = Workload(
        phase="decode",
        batch=1,
        new_tokens=1,
        context=tokens + 1,
        source_tokens=source,
        prefix_tokens=tokens if prefix else 0,
        logits=logits,
    )
    return prompt, step


def _shown_by(layer: LayerSpec) -> Iterator[int]:
    """How long a prompt must be for a layer's window or chunk to show."""
    if isinstance(layer.attention, Gqa):
        reach = layer.attention.window or layer.attention.chunk
        if reach is not None:
            yield reach + BEYOND
    for mixer in (layer.attention, layer.mixer):
        if isinstance(mixer, Mamba2):
            yield mixer.chunk + mixer.chunk // 2
