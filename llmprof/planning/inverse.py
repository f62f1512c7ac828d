"""The largest batch, the longest context, the concurrency that a deployment has room for."""

from __future__ import annotations

from llmprof.planning.memory import Deployment
from llmprof.spec.arch import ArchSpec


def largest_batch(arch: ArchSpec, deployment: Deployment, *, tokens: int, chunk_tokens: int) -> int:
    """The most sequences per replica that fit; 0 where not even one does."""
    raise NotImplementedError


def largest_context(arch: ArchSpec, deployment: Deployment, *, sequences: int, chunk_tokens: int) -> int:
    """The most tokens of each of `sequences` that fit; 0 where not even one does. At most the model's max_context."""
    raise NotImplementedError


def maximum_concurrency(arch: ArchSpec, deployment: Deployment, *, tokens: int, chunk_tokens: int) -> float:
    """How many requests of `tokens` the cache has room for, as vLLM prints it."""
    raise NotImplementedError
