"""One rank's part of a twin that is spread over tensor-parallel ranks, experts and pipeline stages.

docs/reference-sharding.md says what is split and where ranks talk; `sharded_plan` makes torch do it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Placement, Replicate, Shard
from torch.distributed.tensor.parallel import parallelize_module

from llmprof.sharding import Sharding, check_sharding
from llmprof.spec import arch
from llmprof.twin.attention import SelfAttention
from llmprof.twin.block import Layer
from llmprof.twin.build import build
from llmprof.twin.embeddings import TokenEmbedding
from llmprof.twin.experts import Mixture
from llmprof.twin.model import Twin
from llmprof.twin.sharded_experts import keep_own_experts, let_tokens_come
from llmprof.twin.sharded_parts import OwnRows
from llmprof.twin.sharded_plan import Plan, layer_plan
from llmprof.twin.sharded_ring import RingCore, own_chunks
from llmprof.twin.sharded_stage import Neighbours, cut
from llmprof.twin.sharded_styles import Head, OwnPositions
from llmprof.twin.sharded_weights import fill, widened
from llmprof.workload import Workload

MESH_DIMENSIONS = ("data", "pipeline", "context", "tensor")
"""Of the mesh of ranks: neighbours in the last one are neighbours in rank."""


def build_sharded(
    spec: arch.ArchSpec,
    workload: Workload,
    sharding: Sharding,
    mesh: DeviceMesh,
    *,
    device: str | torch.device = "meta",
    seed: int = 0,
) -> tuple[Twin, Workload]:
    """The twin of this process's rank of `mesh`, and the workload of its replica.

    `mesh` has the dimensions `MESH_DIMENSIONS`. On a real device its weights are parts of those that
    `build(spec, .., seed=seed)` has. InputError: `check_sharding`.
    """
    check_sharding(spec, workload, sharding)
    wide = widened(spec, sharding.tensor_parallel)
    twin = build(wide, dtypes=workload.dtypes, device=device, seed=seed)
    if twin.material.device.type != "meta":
        fill(twin, build(spec, dtypes=workload.dtypes, device=device, seed=seed))
    tokens = workload.new_tokens // sharding.context_parallel
    mine = replace(workload, batch=workload.batch // sharding.data_parallel)
    if sharding.context_parallel > 1:
        mine = replace(mine, new_tokens=tokens, context=tokens)
        _join_ring(twin, mesh["context"], workload.new_tokens)
    rows = tokens // (sharding.tensor_parallel if sharding.splits_rows else 1)
    stage, stages = mesh.get_local_rank("pipeline"), sharding.pipeline_parallel
    if stages > 1:
        peers = mesh["pipeline"].mesh.tolist()
        neighbours = Neighbours(
            before=peers[stage - 1] if stage else None, after=peers[stage + 1] if stage + 1 < stages else None
        )
        ends = list(accumulate(sharding.stage_depths(spec.n_layers)))
        cut(
            twin,
            first=ends[stage - 1] if stage else 0,
            last=ends[stage],
            neighbours=neighbours,
            shape=(mine.batch, rows, spec.d_model),
        )
    _share_experts(twin, sharding, mesh)
    if sharding.tensor_parallel > 1:
        hidden: Placement = Shard(1) if sharding.splits_rows else Replicate()
        _spread(twin, spec, mesh["tensor"], hidden, sends_tokens=sharding.sends_tokens)
    return twin, mine


def _join_ring(twin: Twin, mesh: DeviceMesh, tokens: int) -> None:
    """Let `twin` have the tokens of this rank of `mesh`, and its cores meet those of the others."""
    twin.place = own_chunks(mesh.get_local_rank(), mesh.size(), tokens)
    for layer in twin.stacks[-1].layers:
        if layer.attn is not None:
            assert isinstance(layer.attn, SelfAttention), layer.attn
            layer.attn.core = RingCore(layer.attn.core, mesh)


def _share_experts(twin: Twin, sharding: Sharding, mesh: DeviceMesh) -> None:
    """Leave every mixture the experts, and their columns, that this rank has."""
    if sharding.tensor_parallel == 1 and not sharding.sends_tokens:
        return
    mixtures = [layer.ffn for layer in twin.stacks[-1].layers if isinstance(layer.ffn, Mixture)]
    for mixture in mixtures:
        if sharding.sends_tokens:
            let_tokens_come(
                mixture, mesh["data", "tensor"], twin.arch.d_model, twin.material, by_rows=sharding.splits_rows
            )
        else:
            keep_own_experts(mixture, mesh["tensor"], blocks=sharding.expert_parallel)


def _spread(twin: Twin, spec: arch.ArchSpec, mesh: DeviceMesh, hidden: Placement, *, sends_tokens: bool) -> None:
    """Spread the modules of `twin` over the ranks of `mesh`; `hidden` is the placement of the hidden state."""
    (stack,) = twin.stacks
    tied = isinstance(twin.embed, TokenEmbedding) and spec.tied_embeddings
    if isinstance(twin.embed, TokenEmbedding):
        twin.embed = OwnRows(twin.embed, mesh, hidden)  # type: ignore[assignment]
    plan: Plan = {}
    if stack.pos_embed is not None and hidden != Replicate():
        plan["pos_embed"] = OwnPositions()
    for name, layer in twin.get_submodule("layers").named_children():
        assert isinstance(layer, Layer)
        plan |= layer_plan(f"layers.{name}", layer, mesh, hidden, sends_tokens=sends_tokens)
    if twin.lm_head is not None:
        plan["lm_head"] = Head(spec.vocab_size, takes=hidden)
    parallelize_module(twin, mesh, plan)
    if twin.lm_head is not None and tied:
        twin.lm_head.weight = twin.embed.weight
