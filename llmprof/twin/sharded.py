"""One rank's part of a twin that is spread over tensor-parallel ranks and pipeline stages.

docs/reference-sharding.md says what is split and where ranks talk; here stands the plan that makes torch do it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Placement, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleOutput,
    parallelize_module,
)

from llmprof.sharding import Sharding, check_sharding
from llmprof.spec import arch
from llmprof.twin.attention import SelfAttention
from llmprof.twin.block import Layer, ParallelLayer
from llmprof.twin.build import build
from llmprof.twin.embeddings import TokenEmbedding
from llmprof.twin.ffn import Glu, Mlp
from llmprof.twin.model import Twin
from llmprof.twin.sharded_stage import Neighbours, cut
from llmprof.twin.sharded_styles import Columns, Head, OwnHeads, Rows, SummedResidual, Vocabulary
from llmprof.twin.sharded_weights import fill, widened
from llmprof.workload import Workload

MESH_DIMENSIONS = ("data", "pipeline", "tensor")
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
    mine = replace(workload, batch=workload.batch // sharding.data_parallel)
    rows = workload.new_tokens // (sharding.tensor_parallel if sharding.splits_rows else 1)
    stage, stages = mesh.get_local_rank("pipeline"), sharding.pipeline_parallel
    depth = spec.n_layers // stages
    if stages > 1:
        peers = mesh["pipeline"].mesh.tolist()
        neighbours = Neighbours(
            before=peers[stage - 1] if stage else None, after=peers[stage + 1] if stage + 1 < stages else None
        )
        cut(
            twin,
            first=stage * depth,
            last=(stage + 1) * depth,
            neighbours=neighbours,
            shape=(mine.batch, rows, spec.d_model),
        )
    if sharding.tensor_parallel > 1:
        _spread(twin, spec, mesh["tensor"], by_rows=sharding.splits_rows)
    return twin, mine


def _spread(twin: Twin, spec: arch.ArchSpec, mesh: DeviceMesh, *, by_rows: bool) -> None:
    """Spread the modules of `twin` over the ranks of `mesh`; `by_rows`: the rows of the hidden state too."""
    hidden: Placement = Shard(1) if by_rows else Replicate()
    (stack,) = twin.stacks
    plan: dict[str, ParallelStyle] = {}
    if isinstance(twin.embed, TokenEmbedding):
        plan["embed"] = Vocabulary(gives=hidden)
    if stack.pos_embed is not None and by_rows:
        plan["pos_embed"] = PrepareModuleInput(
            input_layouts=(None, Replicate()), desired_input_layouts=(None, Shard(0)), use_local_output=True
        )
    for name, layer in twin.get_submodule("layers").named_children():
        assert isinstance(layer, Layer)
        plan |= _layer_plan(f"layers.{name}", layer, hidden)
        if isinstance(layer, ParallelLayer):
            layer.residual = SummedResidual(layer.spec.residual, mesh, hidden)  # type: ignore[assignment]
        if isinstance(layer.attn, SelfAttention):
            _keep_own_heads(layer.attn, mesh.size())
    if twin.lm_head is not None:
        plan["lm_head"] = Head(spec.vocab_size, takes=hidden)
    parallelize_module(twin, mesh, plan)
    if twin.lm_head is not None and spec.tied_embeddings and "embed" in plan:
        twin.lm_head.weight = twin.embed.weight


def _layer_plan(path: str, layer: Layer, hidden: Placement) -> dict[str, ParallelStyle]:
    """The styles of the modules of one layer. `hidden` is the placement of the hidden state between blocks."""
    plan: dict[str, ParallelStyle] = {}
    parallel = isinstance(layer, ParallelLayer)
    by_rows = hidden == Shard(1)
    gives = None if parallel else hidden  # the residual of a parallel block reduces the sum of both
    one_norm = isinstance(layer, ParallelLayer) and layer.ffn_norm is None
    if by_rows and one_norm:
        plan[f"{path}.attn_norm"] = PrepareModuleOutput(
            output_layouts=Shard(1), desired_output_layouts=Replicate(), use_local_output=True
        )
    if isinstance(layer.attn, SelfAttention):
        if by_rows and not one_norm:
            plan[f"{path}.attn"] = _gathered(3)
        for name in ("q_proj", "k_proj", "v_proj"):
            plan[f"{path}.attn.{name}"] = Columns()
        if layer.attn.spec.qk_norm is not None and layer.attn.spec.qk_norm_over == "each-head":
            plan[f"{path}.attn.q_norm"] = plan[f"{path}.attn.k_norm"] = OwnHeads()
        if isinstance(layer.attn.position, arch.Alibi):
            plan[f"{path}.attn.core"] = _own_heads_of_bias()
        plan[f"{path}.attn.o_proj"] = Rows(gives=gives)
    if isinstance(layer.ffn, Mlp | Glu):
        if by_rows and not one_norm:
            plan[f"{path}.ffn"] = _gathered(2)
        for name in ("up",) if isinstance(layer.ffn, Mlp) else ("gate", "up"):
            plan[f"{path}.ffn.{name}"] = Columns()
        plan[f"{path}.ffn.down"] = Rows(gives=gives)
    return plan


def _gathered(arguments: int) -> PrepareModuleInput:
    """The first of so many arguments is gathered from the rows that each rank has."""
    rest = (None,) * (arguments - 1)
    return PrepareModuleInput(
        input_layouts=(Shard(1), *rest), desired_input_layouts=(Replicate(), *rest), use_local_output=True
    )


def _own_heads_of_bias() -> PrepareModuleInput:
    """The bias `[H, T, S]` of a core, its fourth argument, is cut down to the heads of the rank."""
    others = (None, None, None)
    return PrepareModuleInput(
        input_layouts=(*others, Replicate(), None),
        desired_input_layouts=(*others, Shard(0), None),
        use_local_output=True,
    )


def _keep_own_heads(attention: SelfAttention, ranks: int) -> None:
    """Let `attention` see the rows of its matrices, and its cache, as the heads of one rank."""
    q, k, v = attention.queries, attention.keys, attention.values
    attention.queries = q._replace(number=q.number // ranks)
    attention.keys = k._replace(number=k.number // ranks)
    attention.values = v._replace(number=v.number // ranks)
