"""Small architectures of what people plan for today: latent attention, experts, mixers, hybrids, and every option of gqa.

Each is written in the spec language, so that its rules hold for them too; sizes are odd where a size may be.
"""

from __future__ import annotations

from functools import cache

from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text

GQA = "{kind: gqa, n_heads: 4, n_kv_heads: 2, head_dim: 8}"
MLP = "{kind: gelu, d_ff: 20}"
ROPE = "{kind: rope, theta: 10000}"
NONE = "{kind: none}"
RMS = "{kind: rmsnorm, placement: pre}"


def gqa(options: str) -> str:
    """A grouped-query attention with more options."""
    return f"{GQA[:-1]}, {options}}}"


def layers(
    *,
    count: int = 2,
    attention: str = GQA,
    ffn: str = MLP,
    norm: str = RMS,
    position: str = ROPE,
    more: str = "",
) -> str:
    """A stack of equal layers."""
    return (
        f"layers: {{count: {count}, norm: {norm}, attention: {attention}, ffn: {ffn}, position: {position}"
        f"{', ' + more if more else ''}}}"
    )


def mixer(attention: str, ffn: str = NONE) -> str:
    """A stack of one mixer per layer."""
    return layers(attention=attention, ffn=ffn, position=NONE)


def _moe(options: str, *, expert: str = "{kind: swiglu, d_ff: 12}", n: int = 6, k: int = 2) -> str:
    return layers(ffn=f"{{kind: moe, n_experts: {n}, top_k: {k}, expert: {expert}{options and ', ' + options}}}")


_MLA = "kind: mla, n_heads: 3, kv_rank: 16, nope_dim: 8, rope_dim: 8, value_dim: 8, norm: {kind: rmsnorm}"
_T5 = "{kind: t5-bias, n_buckets: 8, max_distance: 16, per_layer: true}"
_MAMBA2 = "kind: mamba-2, n_heads: 4, head_dim: 6, d_state: 5, d_conv: 4, chunk: 4"
_DELTA = "kind: gated-deltanet, key_dim: 6, value_dim: 5, d_conv: 3, chunk: 4"
_FULL_LOCAL = f"""
layers:
  count: 4
  pattern: [local, local, full, borrow]
  norm: {RMS}
  position: {ROPE}
  ffn: {MLP}
  local: {{attention: {{kind: gqa, n_heads: 4, n_kv_heads: 1, head_dim: 8, window: 4}}}}
  full: {{attention: {{kind: gqa, n_heads: 2, n_kv_heads: 2, head_dim: 16}}, position: {NONE}}}
  borrow: {{attention: {{kind: gqa, n_heads: 4, n_kv_heads: 1, head_dim: 8, window: 4, shared_kv: true}}}}
"""

STACKS = {
    "norms-without-weight": layers(norm="{kind: layernorm, placement: pre, weight: false, bias: false}"),
    "rmsnorm-without-weight": layers(norm="{kind: rmsnorm, placement: sandwich, weight: false}"),
    "unit-offset": layers(norm="{kind: rmsnorm, placement: sandwich, unit_offset: true}"),
    "reordered": layers(norm="{kind: rmsnorm, placement: reordered}"),
    "branch-scale": layers(more="residual: {kind: plain, scale: 0.22}"),
    "branch-scale-parallel": layers(more="block: parallel, residual: {kind: plain, scale: 0.22}"),
    "no-ffn": layers(ffn=NONE),
    "no-ffn-post": layers(ffn=NONE, norm="{kind: layernorm, placement: post}"),
    "no-attention": layers(attention=NONE, position=NONE),
    "no-attention-reordered": layers(attention=NONE, position=NONE, norm="{kind: rmsnorm, placement: reordered}"),
    "relu2": layers(ffn="{kind: relu2, d_ff: 20}"),
    "down-bias": layers(ffn="{kind: swiglu, d_ff: 20, down_bias: true}"),
    "xielu": layers(ffn="{kind: xielu, d_ff: 20, bias: true}"),
    "swiglu-clamped": layers(ffn="{kind: swiglu-clamped, d_ff: 20, beta: 1.702, limit: 7.0, bias: true}"),
    "k-bias": layers(attention=gqa("qkv_bias: true, k_bias: false")),
    "k-bias-alone": layers(attention=gqa("k_bias: true")),
    "qk-norm-all-heads": layers(attention=gqa("qk_norm: {kind: rmsnorm}, qk_norm_over: all-heads")),
    "qk-norm-each-head": layers(attention=gqa("qk_norm: {kind: layernorm}, qk_norm_over: each-head")),
    "qk-norm-each-head-rms": layers(attention=gqa("qk_norm: {kind: rmsnorm}, qk_norm_over: each-head")),
    "qk-norm-offset": layers(attention=gqa("qk_norm: {kind: rmsnorm, unit_offset: true}")),
    "chunk": layers(attention=gqa("chunk: 4")),
    "chunk-alibi": layers(attention=gqa("chunk: 4"), position="{kind: alibi}"),
    "sinks": layers(attention=gqa("sinks: true")),
    "sinks-window": layers(attention=gqa("sinks: true, window: 4")),
    "sinks-alibi": layers(attention=gqa("sinks: true"), position="{kind: alibi}"),
    "qkv-clip": layers(attention=gqa("qkv_clip: 0.5")),
    "gate-value": layers(attention=gqa("output_gate: value")),
    "gate-head": layers(attention=gqa("output_gate: head, sinks: true")),
    "shared-kv": layers(count=2, attention=GQA).replace(
        "layers: {count: 2,",
        f"layers: {{count: 4, pattern: [own, lent], own: {{}}, lent: {{attention: {gqa('shared_kv: true')}}},",
    ),
    "shapes-per-group": _FULL_LOCAL,
    "mla": layers(attention=f"{{{_MLA}, q_rank: null}}"),
    "mla-q-rank": layers(attention=f"{{{_MLA}, q_rank: 12, bias: true}}"),
    "mla-odd": layers(
        attention="{kind: mla, n_heads: 2, q_rank: null, kv_rank: 7, nope_dim: 6, rope_dim: 4, value_dim: 5, norm: {kind: layernorm}}"
    ),
    "mla-one-head": layers(attention=f"{{{_MLA.replace('n_heads: 3', 'n_heads: 1')}, q_rank: 12}}"),
    "mla-indexer": layers(attention=f"{{{_MLA}, q_rank: 12, indexer: {{n_heads: 2, head_dim: 16, top_k: 3}}}}"),
    "moe": _moe(""),
    "moe-sigmoid-groups": _moe(
        "scores: sigmoid, normalise: true, scale: 2.5, correction_bias: true, n_groups: 3, groups_per_token: 2"
    ),
    "moe-shared": _moe("shared: {kind: swiglu, d_ff: 20}, normalise: true"),
    "moe-shared-gate": _moe("shared: {kind: swiglu, d_ff: 20}, shared_gate: true"),
    "moe-clamped-biases": _moe(
        "scores: softmax-chosen, router_bias: true",
        expert="{kind: swiglu-clamped, d_ff: 12, beta: 1.702, limit: 7.0, bias: true}",
    ),
    "moe-input-weights": _moe("scores: sigmoid, weigh: input, shared: {kind: swiglu, d_ff: 12}", k=1),
    "moe-sparsemixer": _moe("scores: sparsemixer, margin: 0.1, scale: 2.0"),
    "moe-plain": _moe("shared: {kind: relu2, d_ff: 20}", expert="{kind: relu2, d_ff: 12}", n=5, k=3),
    "moe-one-expert": _moe("", n=1, k=1),
    "moe-parallel": _moe("").replace("layers: {", "layers: {block: parallel, "),
    "moe-latent": _moe("latent: 10, shared: {kind: swiglu, d_ff: 20}, shared_gate: true"),
    "moe-latent-biases": _moe(
        "latent: 21, weigh: input, router_bias: true", expert="{kind: relu2, d_ff: 12, bias: true}", n=5, k=3
    ),
    "mamba-1": mixer("{kind: mamba-1, d_inner: 14, d_state: 5, d_conv: 4, dt_rank: 3, conv_bias: true}"),
    "mamba-1-norms": mixer(
        "{kind: mamba-1, d_inner: 14, d_state: 5, d_conv: 4, dt_rank: 3, bias: true, inner_norm: {kind: rmsnorm}}", MLP
    ),
    "mamba-1-norms-without-weight": mixer(
        "{kind: mamba-1, d_inner: 14, d_state: 5, d_conv: 4, dt_rank: 3, inner_norm: {kind: rmsnorm, weight: false}}"
    ),
    "mamba-2": mixer(f"{{{_MAMBA2}, n_groups: 1, norm_groups: 1, conv_bias: true}}"),
    "mamba-2-groups": mixer(f"{{{_MAMBA2}, n_groups: 2, norm_groups: 2, bias: true}}", MLP),
    "mamba-2-gate": mixer(f"{{{_MAMBA2}, n_groups: 4, norm_groups: 0}}"),
    "gated-deltanet": mixer(f"{{{_DELTA}, n_heads: 4, n_key_heads: 2}}", MLP),
    "gated-deltanet-plain": mixer(f"{{{_DELTA}, n_heads: 2, n_key_heads: 2}}"),
    "rg-lru": mixer("{kind: rg-lru, width: 12, n_blocks: 3, d_conv: 4, conv_bias: true}", MLP),
    "rg-lru-one-block": mixer("{kind: rg-lru, width: 12, n_blocks: 1, d_conv: 2, bias: false}"),
    "short-conv": mixer("{kind: short-conv, d_conv: 3}", MLP),
    "short-conv-bias": mixer("{kind: short-conv, d_conv: 3, bias: true, conv_bias: true}"),
    "rwkv-4": mixer("{kind: rwkv-4, width: 14}", "{kind: rwkv-channel-mix, d_ff: 20}"),
    "rwkv-4-mlp": mixer("{kind: rwkv-4, width: 10}", MLP),
    "channel-mix": layers(ffn="{kind: rwkv-channel-mix, d_ff: 20}"),
    "mixer-beside": layers(more=f"mixer: {{{_MAMBA2}, n_groups: 1, norm_groups: 0}}"),
    "mixer-beside-deltanet": layers(more=f"mixer: {{{_DELTA}, n_heads: 2, n_key_heads: 2}}"),
    "hybrid": f"""
layers:
  count: 5
  pattern: [m, e, a]
  norm: {RMS}
  position: {NONE}
  m: {{attention: {{{_MAMBA2}, n_groups: 2, norm_groups: 2}}, ffn: {NONE}}}
  e: {{attention: {NONE}, ffn: {{kind: moe, n_experts: 5, top_k: 2, expert: {{kind: relu2, d_ff: 8}}, shared: {{kind: relu2, d_ff: 9}}}}}}
  a: {{attention: {GQA}, ffn: {NONE}}}
""",
}
"""What a causal decoder's layers may be, by name."""

_TOP = "vocab_size: 19\nd_model: 16\nmax_context: null\ntied_embeddings: false\n"
_HEAD = "name: x\nsource: {url: https://example.org}\n"


def _write(structure: str, *, stacks: str, more: str = "") -> str:
    return f"{_HEAD}structure: {structure}\n{_TOP}{more}\n{stacks}\n"


WHOLE = {
    "output-scale": _write(
        "causal-decoder", stacks=layers(), more="head: {kind: lm, output_scale: 0.5, softcap: 30.0}"
    ),
    "stored-sinusoid": _write(
        "causal-decoder",
        stacks=f"layers: {{count: 2, norm: {RMS}, attention: {GQA}, ffn: {MLP}, position: {{kind: sinusoidal, stored_rows: 64}}}}",
    ),
    "embedding-width": _write("causal-decoder", stacks=layers(), more="embedding: {width: 6}"),
    "embedding-width-tied": _write(
        "causal-decoder",
        stacks=layers(position="{kind: sinusoidal}"),
        more="embedding: {width: 21, scale: 2.0, norm: {kind: layernorm}, type_vocab_size: 3}",
    ).replace("tied_embeddings: false", "tied_embeddings: true"),
    "embedding-width-headless": _write(
        "encoder", stacks=layers(), more="head: {kind: none}\npooler: true\nembedding: {width: 6}"
    ),
    "symmetric-window": _write(
        "encoder",
        stacks=layers(attention=gqa("window: 5"), norm="{kind: layernorm, bias: false, placement: pre}"),
        more="head: {kind: mlm, dense_bias: false, norm: {kind: layernorm, bias: false}}",
    ),
    "symmetric-window-alibi": _write(
        "encoder", stacks=layers(attention=gqa("window: 4"), position="{kind: alibi}"), more="head: {kind: none}"
    ),
    "first-layer-without-norm": _write(
        "encoder",
        stacks=f"""
layers:
  norm: {RMS}
  position: {ROPE}
  attention: {GQA}
  ffn: {MLP}
  first: {{count: 1, norm: {{first: false}}}}
  rest: {{count: 2}}
""",
        more="head: {kind: none}",
    ),
    "prefix-sinks": _write("prefix-decoder", stacks=layers(attention=gqa("sinks: true, output_gate: value"))),
    "prefix-moe": _write("prefix-decoder", stacks=_moe("shared: {kind: swiglu, d_ff: 12}, shared_gate: true")),
    "t5-per-layer": _write(
        "encoder-decoder",
        stacks=f"""
encoder: {{count: 2, norm: {RMS}, attention: {GQA}, ffn: {MLP}, position: {_T5}}}
decoder: {{count: 2, norm: {RMS}, attention: {GQA}, cross_attention: {GQA}, ffn: {MLP}, position: {_T5}}}
""",
    ),
    "encoder-moe": _write("encoder", stacks=_moe(""), more="head: {kind: none}"),
    "audio": _write(
        "encoder-decoder",
        stacks=f"""
encoder:
  count: 2
  front: {{kind: audio, channels: 5, kernel: 3}}
  norm: {{kind: layernorm, placement: pre}}
  position: {{kind: sinusoidal, stored_rows: 64}}
  attention: {gqa("qkv_bias: true, k_bias: false, out_bias: true")}
  ffn: {MLP}
decoder:
  count: 2
  norm: {{kind: layernorm, placement: pre}}
  position: {{kind: learned, rows: 64}}
  attention: {gqa("qkv_bias: true, k_bias: false, out_bias: true")}
  cross_attention: {gqa("qkv_bias: true, k_bias: false, out_bias: true")}
  ffn: {MLP}
""",
    ).replace("max_context: null", "max_context: 64"),
    "reordered-cross": _write(
        "encoder-decoder",
        stacks=f"""
encoder: {{count: 1, norm: {{kind: rmsnorm, placement: reordered}}, position: {ROPE}, attention: {GQA}, ffn: {MLP}}}
decoder:
  count: 2
  norm: {{kind: rmsnorm, placement: reordered}}
  position: {ROPE}
  attention: {GQA}
  cross_attention: {gqa("qk_norm: {kind: rmsnorm}, qk_norm_over: all-heads")}
  ffn: {MLP}
""",
    ),
    "mtp": _write("causal-decoder", stacks=layers(), more="mtp: {count: 2, like: layers}\nembedding: {scale: 2.0}"),
    "mtp-moe": _write("causal-decoder", stacks=_moe(""), more="mtp: {count: 1, like: layers}"),
    "mtp-mla": _write(
        "causal-decoder", stacks=layers(attention=f"{{{_MLA}, q_rank: 12}}"), more="mtp: {count: 1, like: layers}"
    ),
}
"""Whole models, by name, for what is not said of a causal decoder's layers."""

NAMES = (*STACKS, *WHOLE)


@cache
def modern(name: str) -> ArchSpec:
    """The small architecture of that name."""
    text = WHOLE[name] if name in WHOLE else _write("causal-decoder", stacks=STACKS[name])
    return load_text(text).arch(None)
