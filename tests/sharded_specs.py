"""Small models, passes of them, and how they can be spread: what the tests of sharding share.

Vocabularies, heads and widths are such that ranks have unequal ends, replicated heads and padding.
"""

from __future__ import annotations

from dataclasses import replace

from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text
from llmprof.workload import Dtypes, StorageDtype, Workload

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
PREFILL = Workload(phase="prefill", batch=2, new_tokens=8, context=8, dtypes=FP32)
AFTER_PAST = Workload(phase="prefill", batch=2, new_tokens=4, context=9, logits="last", dtypes=FP32)
LONG = Workload(phase="prefill", batch=2, new_tokens=32, context=32, dtypes=FP32)
DECODE = Workload(phase="decode", batch=2, new_tokens=1, context=7, dtypes=FP32)

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
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 2, head_dim: 8, output_gate: value, qkv_clip: 0.5}
  ffn: {kind: xielu, d_ff: 24, bias: true}
""",
    # Heads with states, in two kinds of mixer, one with biases.
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
    attention: {kind: gated-deltanet, n_heads: 8, n_key_heads: 4, key_dim: 4, value_dim: 6, d_conv: 3, chunk: 4}
    ffn: {kind: moe, n_experts: 4, top_k: 2, expert: {kind: swiglu, d_ff: 8}}
  mamba:
    attention: {kind: mamba-2, n_heads: 8, head_dim: 4, d_state: 4, n_groups: 4, d_conv: 3, norm_groups: 4, chunk: 4,
                conv_bias: true, bias: true}
    ffn: {kind: none}
""",
    # What ranks do not share: stages alone can have parts of it.
    "undivided": """
name: undivided
vocab_size: 40
tied_embeddings: true
position: {kind: none}
layers:
  count: 4
  pattern: [short, gated]
  norm: {kind: rmsnorm, placement: pre}
  short:
    attention: {kind: short-conv, d_conv: 3}
    ffn: {kind: moe, n_experts: 4, top_k: 2, expert: {kind: swiglu, d_ff: 8}, latent: 12}
  gated:
    attention: {kind: rg-lru, width: 16, n_blocks: 2, d_conv: 3}
    ffn: {kind: relu, d_ff: 8}
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
  ffn: {kind: moe, n_experts: 4, top_k: 1, expert: {kind: geglu, d_ff: 8}, scores: softmax-chosen,
        latent: 12, shared: {kind: relu, d_ff: 24}}
""",
}
SPECS["deep"] = SPECS["learned"].replace("learned\n", "deep\n", 1).replace("count: 2", "count: 3")
"""A layer more than two stages share evenly."""


def spec(name: str) -> ArchSpec:
    """One of `SPECS`."""
    return load_text(SPECS[name] + HEADER, f"{name}.yaml").arch()


DENSE = ("grouped", "learned", "parallel", "two-norms", "alibi", "sandwich", "gated")
RINGS = ("learned", "parallel", "two-norms", "experts")
MIXED = tuple(name for name in SPECS if name not in (*DENSE, "undivided", "deep"))
SHARED = (*DENSE, *MIXED)
"""Those whose layers ranks can share."""


def packed(workload: Workload, weights: StorageDtype) -> Workload:
    """`workload` with weights that are stored so."""
    return replace(workload, dtypes=replace(FP32, weights=weights, group_size=4))
