"""The rules of norms, options of gqa, latent attention, mixers, experts, layers of one part, fronts and mtp layers.

Each is broken once: it is told at the key it concerns, in words of the language. Beside it stands what it allows.
"""

# A row of a table is easier to read on one line.

from __future__ import annotations

import pytest
from spec_samples import DECODER, ENCODER, GROUPS, PAIR, PREFIX, edited, only

from llmprof.spec.load import load_text

Edit = tuple[str, str]

MLA = "kind: mla, n_heads: 8, q_rank: 24, kv_rank: 32, nope_dim: 16, rope_dim: 8, value_dim: 16, norm: {kind: rmsnorm}"
INDEXER = "indexer: {n_heads: 2, head_dim: 16, top_k: 4}"
MAMBA_1 = "kind: mamba-1, d_inner: 32, d_state: 4, dt_rank: 3, d_conv: 4"
MAMBA_2 = "kind: mamba-2, n_heads: 8, head_dim: 16, d_state: 16, n_groups: 2, chunk: 8, norm_groups: 1, d_conv: 4"
DELTA = "kind: gated-deltanet, n_heads: 4, n_key_heads: 2, key_dim: 16, value_dim: 16, chunk: 8, d_conv: 4"
RG_LRU = "kind: rg-lru, width: 64, n_blocks: 4, d_conv: 4"
RWKV = "kind: rwkv-4, width: 64"
MOE = "kind: moe, n_experts: 8, top_k: 2, expert: {kind: swiglu, d_ff: 32}"
FRONT = "front: {kind: audio, channels: 80, kernel: 3}"

NOWHERE: Edit = ("{kind: rope, theta: 10000}", "{kind: none}")
T5: Edit = ("{kind: rope, theta: 10000}", "{kind: t5-bias, n_buckets: 32, max_distance: 128}")
GAUSSIAN: Edit = ("{kind: rope, theta: 10000}", "{kind: gaussian}")
MTP: Edit = ("layers:", "mtp: {count: 1, like: layers}\nlayers:")
CROSS = "cross_attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 16"
PAIRED = "{kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 16, scale: 1.0}"


def attention(said: str) -> Edit:
    return "{kind: gqa, n_heads: 8, n_kv_heads: 2, head_dim: 16}", f"{{{said}}}"


def gqa(said: str) -> Edit:
    return "head_dim: 16}", f"head_dim: 16, {said}}}"


def in_encoder(said: str) -> Edit:
    return "head_dim: 16, qkv", f"head_dim: 16, {said}, qkv"


def norm(said: str) -> Edit:
    return "rmsnorm, placement: pre, eps: 1e-5", said


def ffn(said: str) -> Edit:
    return "{kind: swiglu, d_ff: 96}", f"{{{said}}}"


def stack(said: str) -> Edit:
    return "  count: 3\n", f"  count: 3\n  {said}\n"


def changed(said: str, old: str, new: str) -> str:
    assert said.count(old) == 1, old
    return said.replace(old, new)


WITHOUT = "bias: false beside weight: false: a norm without a weight has no bias"
CHOICE = "false beside weight: false"
FIRST = "true, or placement pre or sandwich in a serial block"
LENDER = "an earlier layer with keys and values of its own, of the same n_kv_heads, head_dim, window and chunk"
MIXED = "a mixer in a serial pre-norm layer without cross_attention only"
ENCODER_FRONT = "a front in the encoder of an encoder-decoder only"
MTP_WHERE = "mtp layers in a causal-decoder with a head of kind lm only"
BETA = "beta for swish, swiglu and swiglu-clamped only"

BROKEN: list[tuple[str, list[Edit], str, str, str]] = [
    # norms
    (DECODER, [norm("layernorm, placement: pre, weight: false")], "layers.norm", "missing key 'bias'", WITHOUT),
    (DECODER, [norm("layernorm, placement: pre, weight: false, bias: true")], "layers.norm.bias", "found true", CHOICE),
    (DECODER, [norm("rmsnorm, placement: pre, weight: false, unit_offset: true")], "layers.norm.unit_offset", "found true", CHOICE),
    (DECODER, [gqa("qk_norm: {kind: layernorm, weight: false}")], "layers.attention.qk_norm", "missing key 'bias'", WITHOUT),
    (PAIR, [(CROSS, CROSS + ", qk_norm: {kind: layernorm, weight: false}")], "decoder.cross_attention.qk_norm",
     "missing key 'bias'", WITHOUT),
    (DECODER, [stack("final_norm: {kind: layernorm, weight: false}")], "layers.final_norm", "missing key 'bias'", WITHOUT),
    (DECODER, [stack("embedding_norm: {kind: rmsnorm, weight: false, unit_offset: true}")], "layers.embedding_norm.unit_offset",
     "found true", CHOICE),
    (ENCODER, [("embedding: {norm: {kind: layernorm}", "embedding: {norm: {kind: layernorm, weight: false}")],
     "embedding.norm", "missing key 'bias'", WITHOUT),
    (ENCODER, [("norm: {kind: layernorm, eps: 1e-12}", "norm: {kind: layernorm, weight: false, eps: 1e-12}")], "head.norm",
     "missing key 'bias'", WITHOUT),
    (DECODER, [attention(changed(MLA, "{kind: rmsnorm}", "{kind: layernorm, weight: false}"))], "layers.attention.norm",
     "missing key 'bias'", WITHOUT),
    (DECODER, [NOWHERE, attention(MAMBA_1 + ", inner_norm: {kind: layernorm, weight: false}")], "layers.attention.inner_norm",
     "missing key 'bias'", WITHOUT),
    (DECODER, [stack("mixer: {" + MAMBA_1 + ", inner_norm: {kind: layernorm, weight: false}}")], "layers.mixer.inner_norm",
     "missing key 'bias'", WITHOUT),
    (DECODER, [("placement: pre", "placement: post, first: false")], "layers.norm.first", "found false", FIRST),
    (DECODER, [("placement: pre", "placement: reordered, first: false")], "layers.norm.first", "found false", FIRST),
    (DECODER, [("placement: pre", "placement: pre, first: false"), stack("block: parallel")], "layers.norm.first", "found false", FIRST),
    (DECODER, [("placement: pre", "placement: reordered"), stack("block: parallel")], "layers.norm.placement",
     "found 'reordered'", "pre, with block: parallel"),
    # gqa
    (DECODER, [gqa("window: 8, chunk: 8")], "layers.attention.chunk", "a chunk beside a window", "either a window or a chunk"),
    (DECODER, [gqa("sinks: true, softcap: 30")], "layers.attention.sinks", "sinks beside a softcap",
     "sinks without a softcap: whether it caps them is not defined"),
    (DECODER, [gqa("qk_norm_over: all-heads")], "layers.attention.qk_norm_over", "qk_norm_over without a qk_norm",
     "a qk_norm beside it"),
    (DECODER, [gqa("qk_norm: {kind: rmsnorm}, qk_norm_over: all-heads, shared_kv: true")], "layers.attention.qk_norm_over",
     "found 'all-heads'", "head or each-head, with shared_kv"),
    (DECODER, [T5, gqa("chunk: 8")], "layers.attention.chunk", "found a chunk", "no chunk, with position t5-bias"),
    (DECODER, [GAUSSIAN, gqa("chunk: 8")], "layers.attention.chunk", "found a chunk", "no chunk, with position gaussian"),
    (DECODER, [GAUSSIAN, gqa("shared_kv: true")], "layers.attention.shared_kv", "found true", "false, with position gaussian"),
    (PREFIX, [gqa("chunk: 8")], "layers.attention.chunk", "found a chunk", "no chunk in a prefix-decoder"),
    (ENCODER, [in_encoder("chunk: 8")], "layers.attention.chunk", "found a chunk", "no chunk in an encoder"),
    (ENCODER, [in_encoder("shared_kv: true")], "layers.attention.shared_kv", "found true", "false in an encoder"),
    (DECODER, [gqa("output_gate: token")], "layers.attention.output_gate", "found 'token'", "value or head"),
    (DECODER, [gqa("qk_norm: {kind: rmsnorm}, qk_norm_over: all")], "layers.attention.qk_norm_over", "found 'all'",
     "head, each-head or all-heads"),
    *((PAIR, [(CROSS, f"{CROSS}, {said}")], f"decoder.cross_attention.{said.split(':')[0]}", f"found {said.split(':')[0]}",
       f"no {said.split(':')[0]} in cross_attention")
      for said in ("chunk: 8", "sinks: true", "qkv_clip: 8.0", "output_gate: head", "shared_kv: true")),
    (DECODER, [gqa("qkv_clip: 8.0, qk_norm: {kind: rmsnorm}")], "layers.attention.qkv_clip", "qkv_clip beside a qk_norm", "one of the two: which of them comes first is not settled"),
    (GROUPS, [("global: {", "global: {attention: {window: 32, shared_kv: true, qkv_clip: 8.0}, ")], "layers.global.attention.qkv_clip",
     "qkv_clip beside shared_kv", "one of the two"),
    (DECODER, [gqa("qkv_clip: 0")], "layers.attention.qkv_clip", "found 0", "a number above 0"),
    (PAIR, [(CROSS, CROSS + ", window: 8")], "decoder.cross_attention.window", "found a window", "no window in cross_attention"),
    # who lends keys and values
    (DECODER, [gqa("shared_kv: true")], "layers.attention.shared_kv", "found shared_kv in layer 0", LENDER),
    (GROUPS, [("{window: 32}", "{window: 32, shared_kv: true}")], "layers.local.attention.shared_kv", "found shared_kv in layer 0", LENDER),
    (GROUPS, [("global: {", "global: {attention: {shared_kv: true}, ")], "layers.global.attention.shared_kv", "found shared_kv in layer 2", LENDER),
    (GROUPS, [("global: {", "global: {attention: {window: 32, shared_kv: true, head_dim: 32}, ")], "layers.global.attention.shared_kv",
     "found shared_kv in layer 2", LENDER),
    # mixers
    (DECODER, [attention(MAMBA_2)], "position.kind", "found 'rope'", "none, with attention mamba-2"),
    (DECODER, [NOWHERE, attention(changed(MAMBA_2, "n_groups: 2", "n_groups: 3"))], "layers.attention.n_groups", "found 3",
     "a divisor of n_heads = 8"),
    (DECODER, [NOWHERE, attention(changed(MAMBA_2, "norm_groups: 1", "norm_groups: 3"))], "layers.attention.norm_groups", "found 3",
     "0, or a divisor of n_heads x head_dim = 128"),
    (DECODER, [NOWHERE, attention(changed(DELTA, "n_key_heads: 2", "n_key_heads: 3"))], "layers.attention.n_key_heads", "found 3",
     "a divisor of n_heads = 4"),
    (DECODER, [NOWHERE, attention(changed(RG_LRU, "n_blocks: 4", "n_blocks: 5"))], "layers.attention.n_blocks", "found 5",
     "a divisor of width = 64"),
    (DECODER, [NOWHERE, attention(changed(RG_LRU, "d_conv: 4", "d_conv: 1"))], "layers.attention.d_conv", "found 1",
     "a number above 1"),
    (PREFIX, [NOWHERE, attention(RWKV)], "layers.attention.kind", "found 'rwkv-4' in a prefix-decoder", "a kind for a prefix-decoder"),
    (DECODER, [stack("mixer: {" + RWKV + "}")], "layers.mixer.kind", "found 'rwkv-4'", "a mixer other than rwkv-4"),
    (DECODER, [NOWHERE, attention(RG_LRU), stack("mixer: {" + MAMBA_2 + "}")], "layers.attention.kind", "found 'rg-lru'",
     "an attention beside the mixer"),
    (DECODER, [("placement: pre", "placement: post"), stack("mixer: {" + MAMBA_2 + "}")], "layers.mixer", "a mixer", MIXED),
    (DECODER, [stack("block: parallel\n  mixer: {" + MAMBA_2 + "}")], "layers.mixer", "a mixer", MIXED),
    (DECODER, [stack("mixer: {" + changed(MAMBA_2, "n_groups: 2", "n_groups: 3") + "}")], "layers.mixer.n_groups", "found 3",
     "a divisor of n_heads = 8"),
    # layers of one part
    (DECODER, [NOWHERE, attention("kind: none"), ffn("kind: none")], "layers.ffn.kind", "found 'none'",
     "a feed-forward in a layer without attention"),
    (DECODER, [attention("kind: none")], "position.kind", "found 'rope'", "none, with attention none"),
    (DECODER, [NOWHERE, attention("kind: none"), stack("block: parallel")], "layers.block", "found 'parallel'",
     "serial, with attention: none"),
    (DECODER, [ffn("kind: none"), stack("block: parallel")], "layers.block", "found 'parallel'", "serial, with ffn: none"),
    (PAIR, [("ffn: {kind: relu, d_ff: 256}", "ffn: {kind: none}")], "encoder.ffn.kind", "found 'none'",
     "a feed-forward in each layer of an encoder-decoder"),
    (PAIR, [("{kind: t5-bias, n_buckets: 32, max_distance: 128}", "{kind: none}"), (PAIRED, "{kind: none}")],
     "encoder.attention.kind", "found 'none'", "an attention in each layer of an encoder-decoder"),
    # latent attention
    (DECODER, [NOWHERE, attention(MLA)], "position.kind", "found 'none'", "rope, with attention mla"),
    (DECODER, [("theta: 10000", "theta: 10000, rotary_dim: 4"), attention(MLA)], "position", "found rotary_dim or axes",
     "rope without rotary_dim and axes: rope_dim = 8 says what is rotated"),
    (DECODER, [("theta: 10000", "theta: 10000, axes: 2"), attention(MLA)], "position", "found rotary_dim or axes",
     "rope without rotary_dim and axes: rope_dim = 8 says what is rotated"),
    (DECODER, [attention(changed(MLA, "rope_dim: 8", "rope_dim: 7"))], "layers.attention.rope_dim", "found 7", "an even number"),
    (DECODER, [attention(changed(MLA, "q_rank: 24", "q_rank: null") + ", " + INDEXER)], "layers.attention.q_rank", "found null",
     "a number, with an indexer"),
    (DECODER, [attention(changed(MLA, "q_rank: 24, ", "") + ", " + INDEXER)], "layers.attention", "missing key 'q_rank'",
     "a number, with an indexer: its queries come from the queries' bottleneck"),
    (DECODER, [attention(MLA + ", " + changed(INDEXER, "head_dim: 16", "head_dim: 4"))], "layers.attention.indexer.head_dim",
     "found 4", "at least rope_dim = 8"),
    (PREFIX, [attention(MLA)], "layers.attention.kind", "found 'mla' in a prefix-decoder", "a kind for a prefix-decoder"),
    # feed-forward and experts
    (DECODER, [ffn("kind: moe, n_experts: 4, top_k: 2, expert: {kind: xielu, d_ff: 8}")], "layers.ffn.expert.kind", "found 'xielu'",
     "another kind in experts"),
    (DECODER, [ffn("kind: moe, n_experts: 4, top_k: 2, expert: {kind: swiglu, d_ff: 8, down_bias: true}")], "layers.ffn.expert.down_bias",
     "found down_bias in an expert", "bias, for all its matrices"),
    (DECODER, [ffn("kind: swiglu, d_ff: 8, bias: true, down_bias: true")], "layers.ffn.down_bias", "found down_bias beside bias",
     "bias alone, which is of all matrices"),
    *((DECODER, [ffn("kind: moe, n_experts: 4, expert: {kind: relu, d_ff: 8}, " + said)], f"layers.ffn{path}", found, expected)
      for said, path, found, expected in (
        ("top_k: 2, margin: 0.1", ".margin", "found margin with scores softmax", "margin with sparsemixer only"),
        ("top_k: 3, scores: sparsemixer, margin: 0.1", ".top_k", "found 3", "2, with scores sparsemixer"),
        ("top_k: 2, scores: sparsemixer, margin: 0.1, normalise: true", ".normalise", "normalise with scores sparsemixer", "one of the two"),
      )),
    (DECODER, [ffn("kind: relu2, d_ff: 96, beta: 1.5")], "layers.ffn.beta", "found beta for 'relu2'", BETA),
    (DECODER, [ffn("kind: swiglu-clamped, d_ff: 96")], "layers.ffn", "missing key 'limit'", "where gate and up are cut, for example 7.0"),
    (DECODER, [ffn("kind: swiglu, d_ff: 96, limit: 7")], "layers.ffn.limit", "found limit for 'swiglu'", "limit for swiglu-clamped only"),
    (DECODER, [ffn(changed(MOE, "top_k: 2", "top_k: 9"))], "layers.ffn.top_k", "found 9", "at most n_experts = 8"),
    (DECODER, [ffn(MOE + ", n_groups: 3")], "layers.ffn.n_groups", "found 3", "a divisor of n_experts = 8"),
    (DECODER, [ffn(MOE + ", n_groups: 4, groups_per_token: 5")], "layers.ffn.groups_per_token", "found 5", "at most n_groups = 4"),
    (DECODER, [ffn(changed(MOE, "top_k: 2", "top_k: 3") + ", n_groups: 4, groups_per_token: 1")], "layers.ffn.top_k", "found 3",
     "at most 2"),
    (DECODER, [ffn(MOE + ", shared_gate: true")], "layers.ffn", "missing key 'shared'", "the expert whose output shared_gate weighs"),
    (DECODER, [ffn(MOE + ", scores: softmax-chosen, normalise: true")], "layers.ffn.normalise", "found true",
     "false with scores softmax-chosen"),
    (DECODER, [ffn(changed(MOE, "swiglu, d_ff: 32", "geglu, d_ff: 32, beta: 2"))], "layers.ffn.expert.beta",
     "found beta for 'geglu'", BETA),
    (DECODER, [ffn(MOE + ", shared: {kind: swiglu-clamped, d_ff: 32}")], "layers.ffn.shared", "missing key 'limit'",
     "where gate and up are cut, for example 7.0"),
    (ENCODER, [("{kind: gelu, d_ff: 256, bias: true}", "{kind: rwkv-channel-mix, d_ff: 256}")], "layers.ffn.kind",
     "found 'rwkv-channel-mix'", "another kind in a stack that is not causal"),
    (DECODER, [ffn(changed(MOE, "n_experts: 8", "n_experts: 65537"))], "layers.ffn.n_experts", "found 65537", "at most 65,536"),
    (DECODER, [("layers:", "mtp: {count: 1001, like: layers}\nlayers:")], "mtp.count", "found 1001",
     "at most 1,000 layers that predict further tokens"),
    # fronts
    (DECODER, [stack(FRONT)], "layers.front", "a front in 'layers'", ENCODER_FRONT),
    (ENCODER, [("  count: 2\n", f"  count: 2\n  {FRONT}\n")], "layers.front", "a front in 'layers'", ENCODER_FRONT),
    (PAIR, [("decoder:\n", f"decoder:\n  {FRONT}\n")], "decoder.front", "a front in 'decoder'", ENCODER_FRONT),
    (PAIR, [("encoder:\n", f"encoder:\n  {changed(FRONT, 'kernel: 3', 'kernel: 4')}\n")], "encoder.front.kernel", "found 4",
     "an odd number"),
    (PAIR, [("encoder:\n", f"encoder:\n  {changed(FRONT, 'channels: 80, ', '')}\n")], "encoder.front", "missing key 'channels'",
     "how many values a frame of sound has: mel bins, for example 80"),
    # layers that predict further tokens
    (DECODER, [("layers:", "mtp: {count: 1, like: lairs}\nlayers:")], "mtp.like", "found 'lairs'", "the name of a group of layers: layers"),
    (DECODER, [("layers:", "mtp: {count: 1}\nlayers:")], "mtp", "missing key 'like'", "the group of layers that the mtp layers are like"),
    (PREFIX, [MTP], "mtp", "mtp layers", MTP_WHERE),
    (DECODER, [MTP, ("layers:\n", "head: {kind: none}\nlayers:\n")], "mtp", "mtp layers", MTP_WHERE),
    (DECODER, [T5, MTP], "mtp.like", "found 'layers'", "a group without a t5-bias"),
    (GROUPS, [("layers:", "mtp: {count: 1, like: global}\nlayers:"), ("global: {", "global: {attention: {window: 32, shared_kv: true}, ")],
     "mtp.like", "found 'global'", "a group that has keys and values of its own"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "edits", "path", "found", "expected"), BROKEN)
def test_a_broken_rule_is_told_once_at_the_key_it_concerns(
    text: str, edits: list[Edit], path: str, found: str, expected: str
) -> None:
    problem = only(edited(text, *edits))
    assert (problem.path, problem.found, problem.expected) == (path, found, expected)
    assert problem.line is not None


MET: list[tuple[str, list[Edit]]] = [
    (DECODER, [norm("layernorm, placement: pre, weight: false, bias: false")]),
    (DECODER, [norm("rmsnorm, placement: sandwich, unit_offset: true, first: false")]),
    (DECODER, [norm("rmsnorm, placement: reordered, weight: false")]),
    (DECODER, [gqa("chunk: 8, sinks: true, output_gate: value, k_bias: true, qkv_clip: 8")]),
    (DECODER, [gqa("qk_norm: {kind: layernorm, weight: false, bias: false}, qk_norm_over: each-head")]),
    (PAIR, [(CROSS, CROSS + ", qk_norm: {kind: rmsnorm}, qk_norm_over: all-heads, qkv_bias: true, k_bias: false")]),
    (ENCODER, [in_encoder("window: 8, sinks: true, output_gate: head")]),
    (DECODER, [("{kind: rope, theta: 10000}", "{kind: alibi}"), gqa("chunk: 8")]),
    (GROUPS, [("global: {", "global: {attention: {window: 32, shared_kv: true}, ")]),
    (PREFIX, [("count: 3", "pattern: [own, other]\n  count: 3\n  own: {}\n  other: {attention: {shared_kv: true}}")]),
    *((DECODER, [NOWHERE, attention(kind)]) for kind in (MAMBA_1, MAMBA_2, DELTA, RG_LRU, RWKV, "kind: short-conv, d_conv: 3")),
    (DECODER, [NOWHERE, attention(changed(MAMBA_2, "norm_groups: 1", "norm_groups: 0"))]),
    (DECODER, [stack("mixer: {" + MAMBA_2 + "}")]),
    (DECODER, [NOWHERE, attention("kind: none")]),
    (DECODER, [ffn("kind: none")]),
    (ENCODER, [("{kind: gelu, d_ff: 256, bias: true}", "{kind: none}")]),
    (DECODER, [attention(MLA + ", " + INDEXER)]),
    (DECODER, [attention(changed(MLA, "q_rank: 24", "q_rank: null"))]),
    (DECODER, [attention(changed(MLA, "q_rank: 24, ", ""))]),
    (DECODER, [ffn(MOE + ", n_groups: 4, groups_per_token: 2, shared: {kind: swiglu, d_ff: 8}, shared_gate: true")]),
    (DECODER, [ffn("kind: swiglu-clamped, d_ff: 96, limit: 7.0, beta: 1.702")]),
    (DECODER, [ffn("kind: rwkv-channel-mix, d_ff: 96")]),
    (PAIR, [("encoder:\n", f"encoder:\n  {FRONT}\n")]),
    (DECODER, [MTP]),
    (DECODER, [MTP, attention(MLA)]),
    (DECODER, [stack("residual: {kind: plain, scale: 0.22}")]),
    (DECODER, [("layers:\n", "head: {kind: lm, output_scale: 0.0625}\nlayers:\n")]),
    (ENCODER, [("{kind: learned, rows: 128}", "{kind: sinusoidal, stored_rows: 100}")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "edits"), MET)
def test_what_the_rules_allow_is_loaded(text: str, edits: list[Edit]) -> None:
    load_text(edited(text, *edits))


def test_the_layers_that_lend_are_marked_and_no_others() -> None:
    text = edited(
        GROUPS,
        ("[local, local, global]", "[local, global, far, near]"),
        ("global: {", "far: {attention: {shared_kv: true}, position: {kind: none}}\n"
         "  near: {attention: {window: 32, shared_kv: true}, position: {kind: none}}\n  global: {"),
    )  # fmt: skip
    layers = load_text(text).base.main.layers
    assert [layer.lends_kv for layer in layers] == [True, True, False, False] * 2
    # Once more in a row: the first of two equal layers lends nothing, nor do the last three.
    twice = load_text(
        edited(text, ("[local, global, far, near]", "[local, local, global, far, near]"))
    ).base.main.layers
    assert [layer.lends_kv for layer in twice] == [False, True, True, False, False, False, False, False]


def test_mtp_layers_are_like_the_group_that_is_named_but_lend_nothing() -> None:
    text = edited(GROUPS, ("layers:", "mtp: {count: 2, like: local}\nlayers:"),
                  ("global: {", "global: {attention: {window: 32, shared_kv: true}, "))  # fmt: skip
    spec = load_text(text).base
    assert spec.mtp is not None
    assert (spec.mtp.count, spec.mtp.layer.group, spec.mtp.layer.lends_kv) == (2, "local", False)
    assert spec.mtp.layer.norm == spec.mtp.norm
    assert spec.main.layers[1].lends_kv


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("swa", "a sliding window is 'gqa' with a window"),
        ("moe", "a mixture of experts is a kind of 'ffn'"),
        ("mamba", "say which: mamba-1 or mamba-2"),
        ("rglru", "here it is called 'rg-lru'"),
    ],
)
def test_names_of_other_programs_are_told_what_they_are_here(kind: str, hint: str) -> None:
    assert only(edited(DECODER, ("kind: gqa", f"kind: {kind}"))).hint == hint
