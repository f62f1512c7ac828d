"""The largest batch, the longest context, the concurrency that a deployment has room for.

Every answer is exact of the bar (`memory_bar`): it fits, and one more does not. That holds because no term ever needs
less where anything grows, so that guesses from both sides find the place.
"""

from __future__ import annotations

from llmprof.lengths import LARGEST
from llmprof.planning.deployment import Deployment
from llmprof.planning.footprint import Footprint, footprint
from llmprof.planning.steps import largest
from llmprof.spec.arch import ArchSpec

ANY = LARGEST
"""The answer where nothing grows with what is asked for: any number fits, and this is the largest that is taken."""

MANY_GIB, FEW_SEQUENCES, MANY_SEQUENCES = 70, 256, 1024
"""vLLM's own max_num_seqs: 1024 from 70 GiB on, but not on an A100, else 256 (vllm 0.19.0 and 0.33.0,
vllm/engine/arg_utils.py, `get_batch_defaults`, read 2026-11-30)."""


def largest_batch(
    arch: ArchSpec, deployment: Deployment, *, tokens: int, chunk_tokens: int, source_tokens: int | None = None
) -> int:
    """The most sequences per replica that fit, each with `tokens`; 0 where not even one does.

    `ANY` where sequences keep nothing between passes, as those of an encoder do. Raises InputError as `memory_bar`
    does.
    """
    made = footprint(arch, deployment, chunk_tokens, source_tokens)
    made.check(1, tokens)
    most = _most_kept(made, tokens)
    made.passes.bound(max(1, most), tokens)
    return largest(lambda sequences: made.free(sequences, tokens), most)


def largest_context(
    arch: ArchSpec, deployment: Deployment, *, sequences: int, chunk_tokens: int, source_tokens: int | None = None
) -> int:
    """The most tokens of each of `sequences` that fit; 0 where not even one does.

    At most the model's `max_context`, where it states one, and its rows of positions; `ANY` where it has neither and
    keeps nothing that grows. Raises InputError as `memory_bar` does.
    """
    made = footprint(arch, deployment, chunk_tokens, source_tokens)
    most = min((ANY, *made.passes.limits(), *(() if arch.max_context is None else (arch.max_context,))))
    made.check(sequences, most)
    made.passes.bound(sequences, most)
    return largest(lambda tokens: made.free(sequences, tokens), most)


def maximum_concurrency(
    arch: ArchSpec,
    deployment: Deployment,
    *,
    tokens: int,
    chunk_tokens: int,
    source_tokens: int | None = None,
    sequences: int | None = None,
) -> float:
    """How many requests of `tokens` the cache has room for, as vLLM prints it: "Maximum concurrency for N tokens".

    vLLM divides the pages of its pool by those that a request needs at most while its prompt is computed
    (vllm/v1/core/kv_cache_utils.py, `get_max_concurrency_for_kv_cache_config`); the pool is what is left where passes
    are as large as `sequences` make them (its max_num_seqs; its own default where None). Without an engine it is the
    pool divided by what a sequence keeps. 0 where the pool has no page, `ANY` where requests keep nothing.

    Raises InputError as `memory_bar` does.
    """
    made = footprint(arch, deployment, chunk_tokens, source_tokens)
    at_once = default_sequences(deployment) if sequences is None else sequences
    made.check(at_once, tokens)
    if made.serves:
        found = made.concurrent(at_once, tokens)
        return float(ANY) if found is None else found
    pool = made.pool(at_once, tokens)
    shares = [left / each for left, each in zip(pool, made.kept(tokens), strict=True) if each]
    return max(0.0, min(shares)) if shares else float(ANY)


def default_sequences(deployment: Deployment) -> int:
    """vLLM's own max_num_seqs on the device of `deployment`."""
    many = deployment.capacity_bytes >= MANY_GIB * 2**30 and "a100" not in deployment.device.name
    return MANY_SEQUENCES if many else FEW_SEQUENCES


def _most_kept(made: Footprint, tokens: int) -> int:
    """Sequences of which the caches alone would fill the fullest device; `ANY` where they keep nothing."""
    pool = made.pool(1, tokens)
    found = [left // each for left, each in zip(pool, made.kept(tokens), strict=True) if each]
    return min((ANY, *found))
