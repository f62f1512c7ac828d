"""On which passes an architecture is verified: a prompt, and one step after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmprof.spec.arch import ArchSpec, GatedDeltaNet, Gqa, LayerSpec, Learned, Mamba2, Mla, Sinusoidal, Stack
from llmprof.workload import Workload

PROMPT = 128
SOURCE = 96
"""Tokens of a prompt and of a source where nothing asks for others: unlike, so that the two are not confused."""

FRONT_POSITIONS = 1500
"""Positions that an encoder of sound makes of its 30 seconds: ``max_source_positions`` of transformers 5.23.0,
models/whisper/configuration_whisper.py; the class takes no others."""

BEYOND = 5
"""How many tokens the prompt is longer than the longest window or chunk of attention."""


def workloads(
    arch: ArchSpec, config: Mapping[str, Any] | None = None, *, least: int = PROMPT, batch: int = 1
) -> tuple[Workload, ...]:
    """A prompt and, unless it is an encoder, the step after it.

    The prompt has at least `least` tokens, is longer than every window and than what an indexer chooses, and ends
    within a chunk of a recurrence; but it is no longer than the model can take with the step.
    """
    tokens = max([least, *(length for layer in arch.main.layers for length in _shown_by(layer))])
    if arch.max_context is not None:
        tokens = max(1, min(tokens, arch.max_context - 1))
    source = 0 if arch.encoder is None else _source(arch.encoder, config or {})
    logits: Any = "none" if arch.head.kind == "none" else "all"
    prefix = arch.structure == "prefix-decoder"
    prompt = Workload(
        phase="prefill",
        batch=batch,
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
        batch=batch,
        new_tokens=1,
        context=tokens + 1,
        source_tokens=source,
        prefix_tokens=tokens if prefix else 0,
        logits=logits,
    )
    return prompt, step


def _source(encoder: Stack, config: Mapping[str, Any]) -> int:
    """How long the source is: what a class of sound makes, else no more than the encoder has positions for."""
    if encoder.front is not None:
        positions = config.get("max_source_positions")
        return positions if isinstance(positions, int) else FRONT_POSITIONS
    position = encoder.embedded_position
    rows = position.rows if isinstance(position, Learned) else None
    rows = position.stored_rows if isinstance(position, Sinusoidal) else rows
    return SOURCE if rows is None else min(SOURCE, rows)


def _shown_by(layer: LayerSpec) -> Iterator[int]:
    """How long a prompt must be for what bounds a layer to show."""
    attention = layer.attention
    if isinstance(attention, Gqa):
        reach = attention.window or attention.chunk
        if reach is not None:
            yield reach + BEYOND
    if isinstance(attention, Mla) and attention.indexer is not None:
        yield attention.indexer.top_k + BEYOND
    for mixer in (attention, layer.mixer):
        if isinstance(mixer, Mamba2 | GatedDeltaNet):
            yield mixer.chunk + mixer.chunk // 2
