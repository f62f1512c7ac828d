"""Whether ranks compute what one device computes: outputs and caches of a part beside those of the unsharded twin.

Both run in fp32 from the same weights, tokens and past. Axis legend: B batch, T tokens, K KV heads, S context, h
head_dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.twin.build import build
from llmprof.twin.passes import Output
from llmprof.twin.session import Session
from llmprof.twin.sharded import build_sharded
from llmprof.workload import Dtypes, Execution, Workload

COMPARED = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
"""A bf16 pass would hide a wrong sum of a few parts in a thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far this rank's tensor `what` lies from the unsharded one's part of it.

    `largest` is the largest absolute difference, `scale` the largest absolute value of the unsharded part. Both are
    None where the unsharded tensor is not finite, or `reason` says what else prevents a comparison.
    """

    what: str
    largest: float | None
    scale: float | None
    reason: str = ""


def differences(
    arch: ArchSpec,
    workload: Workload,
    sharding: Sharding,
    mesh: DeviceMesh,
    *,
    executions: dict[str, Execution],
    device: torch.device,
    seed: int,
) -> dict[str, tuple[Difference, ...]]:
    """Of every execution by its name: the caches and the output that this rank has. NoFusedKernel: `Session`.

    A replica is compared with the unsharded model on its own sequences; where tokens go to experts of other replicas,
    with its part of what that makes of all sequences.
    """
    whole_pass = replace(workload, dtypes=COMPARED)
    part, own_pass = build_sharded(arch, whole_pass, sharding, mesh, device=device, seed=seed)
    whole = build(arch, dtypes=COMPARED, device=device, seed=seed)
    replica = mesh.get_local_rank("data")
    found = {}
    for name, execution in executions.items():
        if sharding.sends_tokens:
            expected, cut = Session(whole, whole_pass, execution, seed=seed), _Cut(mesh=mesh, of_all=True)
        else:
            expected, cut = Session(whole, own_pass, execution, seed=seed + replica), _Cut(mesh=mesh, of_all=False)
        session = Session(part, own_pass, execution, seed=seed)
        for key, mine in session.inputs.items():
            mine.copy_(cut.replica(expected.inputs[key]))
        for path, cache in session.caches.items():
            cache.copy_(cut.cache(path, expected.caches[path]))
        out, all_out = session.run(), expected.run()
        found[name] = (
            *(
                _difference(path, cache, cut.cache(path, expected.caches[path]))
                for path, cache in session.caches.items()
            ),
            *_outputs(out, all_out, sharding, mesh, cut),
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """The parts of unsharded tensors that a rank has; `of_all`: they are of all replicas, not of its own alone."""

    mesh: DeviceMesh
    of_all: bool

    def replica(self, x: Tensor) -> Tensor:
        """The sequences of this rank's replica."""
        return x.chunk(self.mesh["data"].size())[self.mesh.get_local_rank("data")] if self.of_all else x

    def cache(self, path: str, whole: Tensor) -> Tensor:
        """Of keys or values `[B, K, S, h]` the heads of this rank, repeated where they are replicated; else all."""
        mine = self.replica(whole)
        if path.rpartition(".")[2] not in ("k", "v"):
            return mine
        n, rank = self.mesh["tensor"].size(), self.mesh.get_local_rank("tensor")
        return mine.repeat_interleave(max(n // mine.shape[1], 1), dim=1).chunk(n, dim=1)[rank]


def _outputs(out: Output, expected: Output, sharding: Sharding, mesh: DeviceMesh, cut: _Cut) -> Iterator[Difference]:
    """The logits, or the hidden state where there are none; of the last stage alone."""
    if mesh.get_local_rank("pipeline") + 1 < sharding.pipeline_parallel:
        return
    if out.logits is not None:
        assert expected.logits is not None
        yield _difference("logits", out.logits, cut.replica(expected.logits))
        return
    assert out.hidden is not None
    assert expected.hidden is not None
    hidden = cut.replica(expected.hidden)
    if sharding.splits_rows:
        hidden = hidden.chunk(sharding.tensor_parallel, dim=1)[mesh.get_local_rank("tensor")]
    yield _difference("hidden state", out.hidden, hidden)


def _difference(what: str, found: Tensor, expected: Tensor) -> Difference:
    if found.shape != expected.shape:
        shapes = f"its shape is {tuple(found.shape)}, and {tuple(expected.shape)} was expected"
        return Difference(what=what, largest=float("inf"), scale=0.0, reason=shapes)
    scale = float(expected.abs().max())
    if not torch.isfinite(torch.tensor(scale)):
        return Difference(what=what, largest=None, scale=None, reason="the unsharded values are not finite")
    largest = (found.double() - expected.double()).abs().max()
    return Difference(what=what, largest=float(largest.nan_to_num(nan=torch.inf)), scale=scale)
