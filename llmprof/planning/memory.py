"""The memory of the fullest device of a deployment, term by term (docs/planning.md).

Terms of the model are exact: weights and caches are those of `count`, and of `count --tensor-parallel` where a replica
has several devices. Terms of drivers, libraries and engines are assumptions, labelled as such.
"""

from __future__ import annotations

from llmprof.planning.deployment import Deployment, PlannedEngine
from llmprof.planning.footprint import footprint
from llmprof.planning.terms import MemoryBar
from llmprof.spec.arch import ArchSpec

__all__ = ["Deployment", "PlannedEngine", "memory_bar"]


def memory_bar(
    arch: ArchSpec,
    deployment: Deployment,
    *,
    sequences: int,
    tokens: int,
    chunk_tokens: int,
    source_tokens: int | None = None,
) -> MemoryBar:
    """The bar of the fullest device while each of `sequences` of a replica keeps `tokens`; the first of several.

    A pass computes at most `chunk_tokens` tokens. `source_tokens` are those of an encoder-decoder's source; where it is
    None as many as the target's, or all positions of an encoder of sound.

    Raises InputError for numbers below 1, for what the model cannot take or cannot be spread so, for what vLLM has not
    (`engine="vllm"`), and for a device without memory of its own where the deployment says none.
    """
    made = footprint(arch, deployment, chunk_tokens, source_tokens)
    made.check(sequences, tokens)
    left = made.free_of_each(sequences, tokens)
    return made.bar(left.index(min(left)), sequences, tokens)
