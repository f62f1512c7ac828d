"""The studies of printed figures in the order in which they are told."""

from __future__ import annotations

from collections.abc import Iterable

from llmprof.claims.papers import (
    caches,
    chinchilla,
    conventions,
    decode,
    figure2,
    megatron_activations,
    megatron_utilisation,
    palm,
    zero,
)
from llmprof.claims.papers.figure import Result, Study

STUDIES: tuple[Study, ...] = (
    figure2.STUDY,
    decode.MULTI_QUERY,
    decode.GROUPED,
    caches.STUDY,
    conventions.STUDY,
    zero.STUDY,
    megatron_activations.STUDY,
    megatron_utilisation.STUDY,
    palm.STUDY,
    chinchilla.STUDY,
)


def results(studies: Iterable[Study] = STUDIES) -> list[Result]:
    """These studies, computed."""
    return [Result(study=study, outcome=study.compute()) for study in studies]
