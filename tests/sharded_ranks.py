"""Small sharded models, and what one of several real processes does with them. Run by the tests of sharding.

The processes talk through gloo on CPU tensors. Each compares its part of the sharded twin's output and cache with the
unsharded twin's, and returns the account that it counted.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from llmprof.workload import Dtypes, Execution, Workload

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
PREFILL = Workload(phase="prefill", batch=2, new_tokens=8, context=8, dtypes=FP32)
AFTER_PAST = Workload(phase="prefill", batch=2, new_tokens=4, context=9, logits="last", dtypes=FP32)
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


def _tensor(n: int, *, rows: bool = False, stages: int = 1, replicas: int = 1) -> Sharding:
    return Sharding(tensor_parallel=n, sequence_parallel=rows, pipeline_parallel=stages, data_parallel=replicas)


CASES: dict[int, tuple[Case, ...]] = {
    2: (
        *(Case(name, workload, _tensor(2)) for name in SPECS for workload in (PREFILL, DECODE)),
        *(Case(name, workload, _tensor(2, rows=True)) for name in SPECS for workload in (PREFILL, AFTER_PAST)),
        *(Case(name, DECODE, _tensor(1, stages=2)) for name in ("learned", "grouped")),
        Case("grouped", PREFILL, _tensor(1, replicas=2)),
    ),
    4: (
        *(Case(name, DECODE, _tensor(4)) for name in SPECS),
        *(Case(name, AFTER_PAST, _tensor(4, rows=True)) for name in SPECS),
        *(Case(name, PREFILL, _tensor(2, rows=True, stages=2)) for name in SPECS),
        Case("learned", DECODE, _tensor(2, stages=2)),
        Case("grouped", PREFILL, _tensor(2, replicas=2)),
        Case("grouped", DECODE, _tensor(1, stages=4)),
        Case("grouped", DECODE, _tensor(1, stages=2, replicas=2)),
    ),
}
"""By the number of processes."""


def count_cases() -> list[StageAccount]:
    """Be one of several ranks: the account of it that was counted in every case of so many."""
    meshes: dict[tuple[int, ...], DeviceMesh] = {}
    counted = []
    for case in CASES[dist.get_world_size()]:
        s = case.sharding
        shape = (s.data_parallel, s.pipeline_parallel, s.tensor_parallel)
        if shape not in meshes:
            meshes[shape] = mesh_of(s)
        counted.append(_counted(case, meshes[shape]))
    return counted


def fail() -> None:
    """Be a rank that does not end well."""
    raise ValueError("no cases for these ranks")


def _counted(case: Case, mesh: DeviceMesh) -> StageAccount:
    """The account of this process, once its output and its cache are what the unsharded twin has."""
    arch, execution = spec(case.name), Execution(attention="unfused", kernels="cpu")
    whole = Session(build(arch, dtypes=FP32, device="cpu", seed=3), case.workload, execution)
    twin, mine = build_sharded(arch, case.workload, case.sharding, mesh, device="cpu", seed=3)
    part = Session(twin, mine, execution)
    tokens = _replica(whole.inputs["tokens"], mesh)
    part.inputs["tokens"].copy_(tokens)
    for path, cache in part.caches.items():
        cache.copy_(_own_heads(whole.caches[path], mesh))
    account, out = count(part, mesh, case.sharding)
    expected = whole.run()
    for path, cache in part.caches.items():
        _same(cache, _own_heads(whole.caches[path], mesh), f"{case}: {path}")
    if out.logits is not None:
        assert expected.logits is not None
        _same(out.logits, _replica(expected.logits, mesh), f"{case}: logits")
    else:
        assert account.stage < case.sharding.pipeline_parallel - 1, case
    return account


def _replica(x: torch.Tensor, mesh: DeviceMesh) -> torch.Tensor:
    """The sequences of this process's replica."""
    return x.chunk(mesh["data"].size())[mesh.get_local_rank("data")]


def _own_heads(cache: torch.Tensor, mesh: DeviceMesh) -> torch.Tensor:
    """Of a cache `[B, K, S, h]` the sequences of this replica and the heads of this rank, replicated ones repeated."""
    n, rank = mesh["tensor"].size(), mesh.get_local_rank("tensor")
    mine = _replica(cache, mesh)
    repeated = mine.repeat_interleave(max(n // mine.shape[1], 1), dim=1)
    return repeated.chunk(n, dim=1)[rank]


def _same(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    torch.testing.assert_close(
        found, expected, rtol=0.0, atol=TOLERANCE * expected.abs().max().item(), msg=lambda text: f"{what}: {text}"
    )
