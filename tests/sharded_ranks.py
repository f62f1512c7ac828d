"""Small sharded models, and what one of several real processes does with them. Run by the tests of sharding.

The processes talk through gloo on CPU tensors. Each compares its part of the sharded twin's output and cache with the
unsharded twin's, and returns the account that it counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from llmprof.measure.sharded.account import count, mesh_of
from llmprof.sharding import Sharding, StageAccount
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.twin.sharded import build_sharded
from llmprof.workload import QUANTISED, Dtypes, Execution, StorageDtype, Workload

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
PREFILL = Workload(phase="prefill", batch=2, new_tokens=8, context=8, dtypes=FP32)
AFTER_PAST = Workload(phase="prefill", batch=2, new_tokens=4, context=9, logits="last", dtypes=FP32)
LONG = Workload(phase="prefill", batch=2, new_tokens=32, context=32, dtypes=FP32)
DECODE = Workload(phase="decode", batch=2, new_tokens=1, context=7, dtypes=FP32)

TOLERANCE = 1e-5
"""Of the largest value. Sums over ranks are taken in another order than a matrix product takes them: each of the few
dozen sums on the way to a value may be off by some units of 2^-24 = 6e-8 of its largest summand."""

HEADER = """
source: {url: https://example.org}
structure: causal-decoder
d_model: 24
max_context: 64
"""

SPECS = {
    # A vocabulary that no degree divides, two KV heads, biases on every matrix, two kinds of layers.
    "grouped": """
name: grouped
vocab_size: 37
tied_embeddings: false
position: {kind: rope, theta: 10000}
embedding: {scale: 2.0, norm: {kind: layernorm}}
layers:
  count: 4
  pattern: [local, global]
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 8, n_kv_heads: 2, head_dim: 8, qkv_bias: true, out_bias: true,
              qk_norm: {kind: rmsnorm}, qk_norm_over: each-head}
  ffn: {kind: swiglu, d_ff: 40, bias: true}
  local: {attention: {window: 5}}
  global: {}
head: {kind: lm, bias: true, softcap: 3.0}
""",
    "learned": """
name: learned
vocab_size: 33
tied_embeddings: true
position: {kind: learned, rows: 64}
layers:
  count: 2
  norm: {kind: layernorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 8, qkv_bias: true, out_bias: true}
  ffn: {kind: gelu-tanh, d_ff: 96, bias: true}
""",
    # One KV head, which every rank has; one norm of a parallel block; biases that both halves of it add.
    "parallel": """
name: parallel
vocab_size: 40
tied_embeddings: true
position: {kind: rope, theta: 10000, rotary_dim: 2}
layers:
  count: 2
  block: parallel
  norm: {kind: layernorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 1, head_dim: 4, out_bias: true,
              qk_norm: {kind: layernorm}, qk_norm_over: head}
  ffn: {kind: relu, d_ff: 48, bias: true}
""",
    "two-norms": """
name: two-norms
vocab_size: 40
tied_embeddings: false
position: {kind: none}
layers:
  count: 2
  block: parallel-two-norms
  norm: {kind: layernorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 8}
  ffn: {kind: geglu, d_ff: 48}
""",
    "alibi": """
name: alibi
vocab_size: 40
tied_embeddings: true
position: {kind: alibi}
embedding: {norm: {kind: layernorm}}
layers:
  count: 2
  norm: {kind: layernorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 2, head_dim: 8, qkv_bias: true, out_bias: true}
  ffn: {kind: gelu-tanh, d_ff: 48, bias: true}
""",
    "sandwich": """
name: sandwich
vocab_size: 40
tied_embeddings: true
position: {kind: sinusoidal}
layers:
  count: 2
  norm: {kind: rmsnorm, placement: sandwich, unit_offset: true}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 2, head_dim: 8, softcap: 5.0}
  ffn: {kind: reglu, d_ff: 48, bias: true}
""",
    # A dense layer before two with experts, a shared one behind a gate, one KV head.
    "experts": """
name: experts
vocab_size: 40
tied_embeddings: true
position: {kind: rope, theta: 10000}
layers:
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 1, head_dim: 8}
  dense: {count: 1, ffn: {kind: swiglu, d_ff: 48}}
  sparse:
    count: 3
    ffn: {kind: moe, n_experts: 8, top_k: 2, expert: {kind: swiglu, d_ff: 16}, normalise: true, router_bias: true,
          shared: {kind: swiglu, d_ff: 32}, shared_gate: true}
""",
    # Latent attention with an indexer that chooses few, and one without a bottleneck of queries; weighed inputs.
    "latent": """
name: latent
vocab_size: 40
tied_embeddings: false
position: {kind: rope, theta: 10000}
layers:
  norm: {kind: rmsnorm, placement: pre}
  ffn: {kind: moe, n_experts: 4, top_k: 2, expert: {kind: relu, d_ff: 24}, weigh: input, scores: sigmoid, scale: 2.0,
        shared: {kind: gelu, d_ff: 32, bias: true}, correction_bias: true, n_groups: 2, groups_per_token: 1}
  indexed:
    count: 1
    attention: {kind: mla, n_heads: 4, q_rank: 16, kv_rank: 16, nope_dim: 8, rope_dim: 4, value_dim: 8, bias: true,
                norm: {kind: rmsnorm}, indexer: {n_heads: 2, head_dim: 8, top_k: 3}}
  direct:
    count: 1
    attention: {kind: mla, n_heads: 4, kv_rank: 16, nope_dim: 8, rope_dim: 4, value_dim: 12, norm: {kind: rmsnorm}}
""",
    # Sinks, a gate of every value and one of every head, experts with biases.
    "sinks": """
name: sinks
vocab_size: 40
tied_embeddings: false
position: {kind: rope, theta: 10000}
layers:
  count: 2
  pattern: [drained, gated]
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 2, head_dim: 8, qkv_bias: true, out_bias: true}
  ffn: {kind: moe, n_experts: 8, top_k: 2, expert: {kind: swiglu-clamped, beta: 1.702, limit: 7.0, d_ff: 16, bias: true},
        router_bias: true, scores: softmax-chosen}
  drained: {attention: {sinks: true, window: 5}}
  gated: {attention: {output_gate: head, qk_norm: {kind: rmsnorm}}}
""",
    "gated": """
name: gated
vocab_size: 40
tied_embeddings: true
position: {kind: rope, theta: 10000, rotary_dim: 4}
layers:
  count: 2
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 2, head_dim: 8, output_gate: value}
  ffn: {kind: relu, d_ff: 24}
""",
    # What has states: stages alone can have parts of it.
    "states": """
name: states
vocab_size: 40
tied_embeddings: true
position: {kind: none}
layers:
  count: 4
  pattern: [delta, mamba]
  norm: {kind: rmsnorm, placement: pre}
  delta:
    attention: {kind: gated-deltanet, n_heads: 4, n_key_heads: 2, key_dim: 4, value_dim: 6, d_conv: 3, chunk: 4}
    ffn: {kind: moe, n_experts: 4, top_k: 2, expert: {kind: swiglu, d_ff: 8}, latent: 12}
  mamba:
    attention: {kind: mamba-2, n_heads: 4, head_dim: 6, d_state: 4, n_groups: 2, d_conv: 3, norm_groups: 2, chunk: 4}
    ffn: {kind: none}
""",
    "parallel-experts": """
name: parallel-experts
vocab_size: 40
tied_embeddings: true
position: {kind: rope, theta: 10000}
layers:
  count: 2
  block: parallel
  norm: {kind: layernorm, placement: pre}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 8}
  ffn: {kind: moe, n_experts: 4, top_k: 1, expert: {kind: geglu, d_ff: 8}, scores: softmax-chosen}
""",
}


def spec(name: str) -> ArchSpec:
    """One of `SPECS`."""
    return load_text(SPECS[name] + HEADER, f"{name}.yaml").arch()


@dataclass(frozen=True, slots=True)
class Case:
    """A model, a pass and the way in which it is spread."""

    name: str
    workload: Workload
    sharding: Sharding

    @property
    def even(self) -> bool:
        """Whether as many tokens go to the experts of every rank: those of PREFILL and AFTER_PAST fill all experts."""
        return self.sharding.expert_parallel == 1 or self.workload.phase == "prefill"


def _tensor(
    n: int, *, rows: bool = False, stages: int = 1, replicas: int = 1, experts: int = 1, ring: int = 1
) -> Sharding:
    return Sharding(
        tensor_parallel=n,
        sequence_parallel=rows,
        pipeline_parallel=stages,
        data_parallel=replicas,
        expert_parallel=experts,
        context_parallel=ring,
    )


DENSE = ("grouped", "learned", "parallel", "two-norms", "alibi", "sandwich", "gated")
RINGS = ("learned", "parallel", "two-norms", "experts")
MIXED = tuple(name for name in SPECS if name not in (*DENSE, "states"))
SHARED = (*DENSE, *MIXED)
"""Those whose layers ranks can share."""


def packed(workload: Workload, weights: StorageDtype) -> Workload:
    """`workload` with weights that are stored so."""
    return replace(workload, dtypes=replace(FP32, weights=weights, group_size=4))


CASES: dict[int, tuple[Case, ...]] = {
    2: (
        *(Case(name, workload, _tensor(2)) for name in DENSE for workload in (PREFILL, DECODE)),
        *(Case(name, AFTER_PAST, _tensor(2, rows=True)) for name in DENSE),
        *(Case(name, DECODE, _tensor(1, stages=2)) for name in ("learned", "grouped", "states")),
        Case("states", AFTER_PAST, _tensor(1, replicas=2)),
        Case("grouped", PREFILL, _tensor(1, replicas=2)),
        *(Case(name, workload, _tensor(2)) for name in MIXED for workload in (AFTER_PAST, DECODE)),
        *(Case(name, PREFILL, _tensor(2, rows=True, experts=2)) for name in MIXED),
        *(Case(name, PREFILL, _tensor(1, replicas=2, experts=2)) for name in ("experts", "latent", "sinks")),
        Case("experts", DECODE, _tensor(1, replicas=2, experts=2)),
        *(Case("grouped", packed(AFTER_PAST, form), _tensor(2)) for form in QUANTISED),
        *(Case("latent", packed(PREFILL, form), _tensor(2, experts=2)) for form in QUANTISED),
        *(Case(name, LONG, _tensor(1, ring=2)) for name in RINGS),
    ),
    4: (
        *(Case(name, DECODE, _tensor(4)) for name in DENSE),
        *(Case(name, AFTER_PAST, _tensor(4, rows=True)) for name in DENSE),
        *(Case(name, PREFILL, _tensor(2, rows=True, stages=2)) for name in DENSE),
        Case("learned", DECODE, _tensor(2, stages=2)),
        Case("grouped", PREFILL, _tensor(2, replicas=2)),
        Case("grouped", DECODE, _tensor(1, stages=4)),
        Case("grouped", DECODE, _tensor(1, stages=2, replicas=2)),
        *(Case(name, DECODE, _tensor(4, experts=2)) for name in MIXED),
        *(Case(name, AFTER_PAST, _tensor(2, rows=True, replicas=2, experts=4)) for name in ("experts", "latent")),
        Case("experts", PREFILL, _tensor(2, stages=2, experts=2)),
        Case("latent", DECODE, _tensor(1, stages=2, replicas=2, experts=2)),
        Case("grouped", packed(PREFILL, "int8"), _tensor(4)),
        Case("experts", packed(PREFILL, "int4"), _tensor(4, experts=2)),
        *(Case(name, LONG, _tensor(1, ring=4)) for name in RINGS),
        *(Case(name, LONG, _tensor(2, ring=2, experts=2 if name == "experts" else 1)) for name in RINGS),
        Case("learned", LONG, _tensor(1, stages=2, ring=2)),
        Case("parallel", LONG, _tensor(1, replicas=2, ring=2)),
    ),
}
"""By the number of processes."""


def count_cases() -> list[StageAccount]:
    """Be one of several ranks: the account of it that was counted in every case of so many."""
    meshes: dict[tuple[int, ...], DeviceMesh] = {}
    counted = []
    for case in CASES[dist.get_world_size()]:
        s = case.sharding
        shape = (s.data_parallel, s.pipeline_parallel, s.context_parallel, s.tensor_parallel)
        if shape not in meshes:
            meshes[shape] = mesh_of(s)
        counted.append(_counted(case, meshes[shape]))
    return counted


def fail() -> None:
    """Be a rank that does not end well."""
    raise ValueError("no cases for these ranks")


def _counted(case: Case, mesh: DeviceMesh) -> StageAccount:
    """The account of this process, once its output and its cache are what the unsharded twin has."""
    # A ring has fused kernels alone.
    attention: Literal["fused", "unfused"] = "fused" if case.sharding.context_parallel > 1 else "unfused"
    arch, execution = spec(case.name), Execution(attention=attention, kernels="cpu")
    whole = Session(build(arch, dtypes=case.workload.dtypes, device="cpu", seed=3), case.workload, execution)
    twin, mine = build_sharded(arch, case.workload, case.sharding, mesh, device="cpu", seed=3)
    part = Session(twin, mine, execution)
    part.inputs["tokens"].copy_(_of_rank(whole.inputs["tokens"], mesh, dim=1))
    for path, cache in part.caches.items():
        cache.copy_(_own(path, whole.caches[path], mesh))
    account, out = count(part, mesh, case.sharding)
    expected = whole.run()
    for path, cache in part.caches.items():
        _same(cache, _own(path, whole.caches[path], mesh), f"{case}: {path}")
    if out.logits is not None:
        assert expected.logits is not None
        _same(out.logits, _of_rank(expected.logits, mesh, dim=1), f"{case}: logits")
    else:
        assert account.stage < case.sharding.pipeline_parallel - 1, case
    return account


def _of_rank(x: torch.Tensor, mesh: DeviceMesh, *, dim: int) -> torch.Tensor:
    """The sequences of this process's replica, and the chunks that it has of their tokens, which are along `dim`."""
    ranks, rank = mesh["context"].size(), mesh.get_local_rank("context")
    mine = x.chunk(mesh["data"].size())[mesh.get_local_rank("data")]
    if ranks == 1:
        return mine
    chunks = mine.chunk(2 * ranks, dim)
    return torch.cat([chunks[rank], chunks[-1 - rank]], dim)


def _own(path: str, cache: torch.Tensor, mesh: DeviceMesh) -> torch.Tensor:
    """Of a cache the sequences and tokens of this rank; of keys or values `[B, K, S, h]` its heads.

    Heads that are replicated are repeated.
    """
    n, rank = mesh["tensor"].size(), mesh.get_local_rank("tensor")
    if path.rpartition(".")[2] not in ("k", "v"):
        return _of_rank(cache, mesh, dim=1)
    mine = _of_rank(cache, mesh, dim=2)
    repeated = mine.repeat_interleave(max(n // mine.shape[1], 1), dim=1)
    return repeated.chunk(n, dim=1)[rank]


def _same(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    torch.testing.assert_close(
        found, expected, rtol=0.0, atol=TOLERANCE * expected.abs().max().item(), msg=lambda text: f"{what}: {text}"
    )
