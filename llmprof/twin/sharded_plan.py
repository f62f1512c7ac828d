"""Which style each module of a twin has that tensor-parallel ranks share.

docs/reference-sharding.md says what is split and where ranks talk; here stands the plan that makes torch do it.
"""

from __future__ import annotations

from dataclasses import replace

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Placement, Replicate
from torch.distributed.tensor.parallel import ParallelStyle

from llmprof.twin.attention import SelfAttention
from llmprof.twin.block import Layer, ParallelLayer
from llmprof.twin.deltanet import GatedDeltaNet
from llmprof.twin.experts import Mixture
from llmprof.twin.ffn import Glu, Mlp
from llmprof.twin.mamba2 import Mamba2
from llmprof.twin.mla import LatentAttention
from llmprof.twin.sharded_states import keep_own_heads
from llmprof.twin.sharded_styles import Columns, Gives, Rows, Summed, SummedResidual, Takes

Plan = dict[str, ParallelStyle]


def layer_plan(path: str, layer: Layer, mesh: DeviceMesh, hidden: Placement, *, sends_tokens: bool) -> Plan:
    """The styles of the modules of one layer, whose attention is left with its own heads.

    `hidden` is the placement of the hidden state between blocks. `sends_tokens`: its experts take tokens of other
    ranks, and what is beside them runs on the rank's own.
    """
    plan: Plan = {}
    parallel = isinstance(layer, ParallelLayer)
    gives = None if parallel else hidden  # the residual of a parallel block reduces the sum of both
    gathers = hidden != Replicate()
    if isinstance(layer, ParallelLayer):
        if gathers and layer.ffn_norm is None:
            plan[f"{path}.attn_norm"] = Gives(hidden, Replicate())
            gathers = False
        layer.residual = SummedResidual(layer.spec.residual, mesh, hidden)  # type: ignore[assignment]
    attention = layer.attn
    if attention is not None:
        if gathers:
            plan[f"{path}.attn"] = Takes(hidden)
        last = "o_proj"
        if isinstance(attention, SelfAttention):
            plan |= _grouped(f"{path}.attn", attention, mesh)
        elif isinstance(attention, LatentAttention):
            plan |= _latent(f"{path}.attn", attention, mesh)
        else:
            assert isinstance(attention, GatedDeltaNet | Mamba2), attention
            keep_own_heads(attention, mesh)
            last = "out_proj"
        plan[f"{path}.attn.{last}"] = Rows(gives=gives)
    ffn = layer.ffn
    if ffn is None or (isinstance(ffn, Mixture) and sends_tokens):
        return plan
    if gathers:
        plan[f"{path}.ffn"] = Takes(hidden)
    if isinstance(ffn, Mlp | Glu):
        return plan | dense_plan(f"{path}.ffn", ffn, gives)
    assert isinstance(ffn, Mixture), ffn
    if ffn.spec.shared is not None:
        plan |= dense_plan(f"{path}.ffn.shared", ffn.shared, None)
    if gives is not None:
        plan[f"{path}.ffn"] = Summed(Takes(hidden) if gathers else None, gives)
    return plan


def dense_plan(path: str, ffn: Mlp | Glu, gives: Placement | None) -> Plan:
    """The styles of a feed-forward that every token goes through."""
    columns = ("up",) if isinstance(ffn, Mlp) else ("gate", "up")
    return {**{f"{path}.{name}": Columns() for name in columns}, f"{path}.down": Rows(gives=gives)}


def _grouped(path: str, attention: SelfAttention, mesh: DeviceMesh) -> Plan:
    ranks, rank = mesh.size(), mesh.get_local_rank()
    plan: Plan = {f"{path}.{name}": Columns() for name in ("q_proj", "k_proj", "v_proj")}
    if attention.gate is not None:
        plan[f"{path}.gate_proj"] = Columns()
    if attention.spec.sinks:
        plan[f"{path}.core"] = Columns()
    if attention.spec.qk_norm is not None and attention.spec.qk_norm_over == "each-head":
        plan[f"{path}.q_norm"] = plan[f"{path}.k_norm"] = Columns()
    q, k, v = attention.queries, attention.keys, attention.values
    attention.queries = q._replace(number=q.number // ranks)
    attention.keys = k._replace(number=k.number // ranks)
    attention.values = v._replace(number=v.number // ranks)
    attention.own = range(rank * attention.queries.number, (rank + 1) * attention.queries.number)
    return plan


def _latent(path: str, attention: LatentAttention, mesh: DeviceMesh) -> Plan:
    """Queries and the matrix between latents and heads by heads; what makes latents is whole."""
    own = replace(attention.spec, n_heads=attention.spec.n_heads // mesh.size())
    attention.spec = attention.kv_up.spec = attention.absorb.spec = attention.unabsorb.spec = own
    queries = "q_proj" if own.q_rank is None else "q_up"
    return {f"{path}.{queries}": Columns(), f"{path}.kv_up": Columns()}
