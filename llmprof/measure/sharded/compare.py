"""Whether ranks compute what one device computes: outputs and caches of a part beside those of the unsharded twin.

Both run in fp32 from the same weights, tokens and past.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from llmprof.measure.sharded.own_part import OwnPart
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec, Moe
from llmprof.twin.build import build
from llmprof.twin.passes import Output
from llmprof.twin.routes import table as routes
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
    cut = OwnPart(arch=arch, mesh=mesh, of_all=sharding.sends_tokens)
    if not cut.of_all:
        whole_pass = replace(whole_pass, batch=own_pass.batch)
        seed += mesh.get_local_rank("data")
    if sharding.context_parallel > 1:
        if workload.logits == "last":  # each rank has those of its own last row
            whole_pass = replace(whole_pass, logits="all")
        if not _same_routes(arch, whole_pass, own_pass, cut):
            reason = (
                "the experts of a rank's tokens are chosen by a table of its own, which is no part of the whole one"
            )
            unlike = (Difference(what="logits", largest=None, scale=None, reason=reason),)
            return dict.fromkeys(executions, unlike)
    found = {}
    for name, execution in executions.items():
        expected = Session(whole, whole_pass, execution, seed=seed)
        session = Session(part, own_pass, execution, seed=seed)
        for key, mine in session.inputs.items():
            mine.copy_(cut.rows(expected.inputs[key], dim=1))
        for path, cache in session.caches.items():
            cache.copy_(cut.kept(path, expected.caches[path]))
        out, all_out = session.run(), expected.run()
        found[name] = (
            *(
                _difference(path, cache, cut.kept(path, expected.caches[path]))
                for path, cache in session.caches.items()
            ),
            *_outputs(out, all_out, sharding, mesh, cut),
        )
    return found


def _outputs(out: Output, expected: Output, sharding: Sharding, mesh: DeviceMesh, cut: OwnPart) -> Iterator[Difference]:
    """The logits, or the hidden state where there are none; of the last stage alone."""
    if mesh.get_local_rank("pipeline") + 1 < sharding.pipeline_parallel:
        return
    if out.logits is not None:
        assert expected.logits is not None
        logits = cut.rows(expected.logits, dim=1)
        if expected.logits.shape[1] != logits.shape[1] and out.logits.shape[1] == 1:
            logits = logits[:, -1:]
        yield _difference("logits", out.logits, logits)
        return
    assert out.hidden is not None
    assert expected.hidden is not None
    hidden = cut.rows(expected.hidden, dim=1)
    if sharding.splits_rows:
        hidden = hidden.chunk(sharding.tensor_parallel, dim=1)[mesh.get_local_rank("tensor")]
    yield _difference("hidden state", out.hidden, hidden)


def _same_routes(arch: ArchSpec, whole: Workload, own: Workload, cut: OwnPart) -> bool:
    """Whether every rank's tokens have the experts that they have in the whole pass: each has a table of its own.

    The same is said on every rank.
    """
    for layer in arch.main.layers:
        if isinstance(layer.ffn, Moe):
            each = (layer.ffn.top_k, layer.ffn.n_experts)
            table = routes(whole.routing, whole.batch * whole.new_tokens, *each)
            by_token = table.view(whole.batch, whole.new_tokens, -1)
            mine = routes(own.routing, own.batch * own.new_tokens, *each)
            for index in range(cut.mesh["context"].size()):
                if not torch.equal(cut.rows(by_token, dim=1, index=index).flatten(0, 1), mine):
                    return False
    return True


def _difference(what: str, found: Tensor, expected: Tensor) -> Difference:
    if found.shape != expected.shape:
        shapes = f"its shape is {tuple(found.shape)}, and {tuple(expected.shape)} was expected"
        return Difference(what=what, largest=float("inf"), scale=0.0, reason=shapes)
    scale = float(expected.abs().max())
    if not torch.isfinite(torch.tensor(scale)):
        return Difference(what=what, largest=None, scale=None, reason="the unsharded values are not finite")
    largest = (found.double() - expected.double()).abs().max()
    return Difference(what=what, largest=float(largest.nan_to_num(nan=torch.inf)), scale=scale)
