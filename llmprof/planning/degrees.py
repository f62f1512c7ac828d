"""Which degrees of parallelism are tried: those that fit what they have to, and why others do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llmprof.errors import InputError
from llmprof.sharding import Sharding, check_sharding, tensor_parallel_degrees
from llmprof.spec.arch import ArchSpec, Moe
from llmprof.workload import Workload

EVERY = 8
"""Up to so many replicas every number is tried, beyond them powers of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Degrees that were not tried any further, in words, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """Ways to spread one architecture over at most so many devices, fewest devices first, and those that are none."""

    shardings: tuple[Sharding, ...]
    refused: tuple[Refused, ...]


def degrees(arch: ArchSpec, pass_of: Workload, *, max_gpus: int, node_gpus: int, replicas: int) -> Degrees:
    """Every way to spread `arch` over at most `max_gpus` devices, of at most so many replicas.

    `pass_of` is a pass of one sequence, in the dtypes and the phase that are meant. A tensor is shared within a node
    of `node_gpus`, and so are experts, but for those that tokens are sent to. Context parallelism is not tried.
    """
    refused: dict[str, str] = {}
    accepted = [Sharding()]
    wide: list[Sharding] = []
    if _spreads(arch, pass_of, refused):
        accepted += _one_replica(arch, pass_of, max_gpus, min(max_gpus, node_gpus), refused)
        wide = list(_wide_experts(arch, pass_of, min(max_gpus, replicas), refused))
    shardings = wide + [
        replace(one, data_parallel=count) for one in accepted for count in _counts(min(max_gpus // one.ranks, replicas))
    ]
    shardings.sort(key=lambda s: (s.ranks, s.data_parallel, s.pipeline_parallel, s.expert_parallel))
    return Degrees(
        shardings=tuple(shardings), refused=tuple(Refused(what=what, why=why) for what, why in refused.items())
    )


def words(sharding: Sharding) -> str:
    """``TP 4, PP 2``; ``one`` where nothing is spread."""
    named = (
        ("TP", sharding.tensor_parallel),
        ("PP", sharding.pipeline_parallel),
        ("EP", sharding.expert_parallel),
        ("DP", sharding.data_parallel),
    )
    return " ".join(f"{name}{degree}" for name, degree in named if degree > 1) or "-"


def _spreads(arch: ArchSpec, pass_of: Workload, refused: dict[str, str]) -> bool:
    """Whether one replica of `arch` may be spread at all."""
    try:
        check_sharding(arch, pass_of, Sharding())
    except InputError as error:
        refused["TP, PP and EP of any degree"] = str(error)
        return False
    return True


def _one_replica(
    arch: ArchSpec, pass_of: Workload, most: int, within: int, refused: dict[str, str]
) -> Iterator[Sharding]:
    """Tensor, pipeline and expert degrees that go together, of two devices or more."""
    for p in _powers(most):
        _accepts(arch, pass_of, Sharding(pipeline_parallel=p), refused)
    for n in sorted({*tensor_parallel_degrees(arch), *_powers(within)}):
        if n > within or not _accepts(arch, pass_of, Sharding(tensor_parallel=n), refused):
            continue
        for p in _stages(arch, most // n):
            for x in (1, n) if _has_experts(arch) and n > 1 else (1,):
                made = Sharding(tensor_parallel=n, pipeline_parallel=p, expert_parallel=x)
                if made.ranks > 1 and _accepts(arch, pass_of, made, refused):
                    yield made


def _wide_experts(arch: ArchSpec, pass_of: Workload, most: int, refused: dict[str, str]) -> Iterator[Sharding]:
    """Replicas that attend each for itself, with the experts spread over all of them."""
    if not _has_experts(arch):
        return
    for count in _powers(most):
        made = Sharding(data_parallel=count, expert_parallel=count)
        if count > 1 and _accepts(arch, replace(pass_of, batch=count), made, refused):
            yield made


def _accepts(arch: ArchSpec, pass_of: Workload, sharding: Sharding, refused: dict[str, str]) -> bool:
    """Whether `arch` can be spread so; puts the reason into `refused` where it cannot."""
    if sharding == Sharding():
        return True
    try:
        check_sharding(arch, pass_of, sharding)
    except InputError as error:
        refused.setdefault(words(sharding), str(error))
        return False
    return True


def _has_experts(arch: ArchSpec) -> bool:
    return any(isinstance(layer.ffn, Moe) for layer in arch.main.layers)


def _stages(arch: ArchSpec, most: int) -> Iterator[int]:
    """The numbers of stages that share the layers evenly, and powers of two, as devices come in."""
    powers = {*_powers(most)}
    yield from (p for p in range(1, min(most, arch.n_layers) + 1) if arch.n_layers % p == 0 or p in powers)


def _counts(most: int) -> Iterator[int]:
    yield from range(1, min(most, EVERY) + 1)
    yield from (n for n in _powers(most) if n > EVERY)


def _powers(most: int) -> Iterator[int]:
    n = 1
    while n <= most:
        yield n
        n *= 2
