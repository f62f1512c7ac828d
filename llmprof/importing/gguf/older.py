"""Architectures of LayerNorms and two matrices: gpt2, gptneox, falcon, bloom; and mamba, which has no attention."""

from __future__ import annotations

from llmprof.importing.gguf.common import RMS, biases, feed_forward, head_dim, projections, rotation, sizes, vocabulary
from llmprof.importing.gguf.keys import Keys

EPS = "attention.layer_norm_epsilon"


def gpt2(k: Keys) -> str:
    """``gpt2``. Files may have the token table a second time, as output.weight: a copy of the converter (recalled)."""
    width, heads = k.size("embedding_length"), k.size("attention.head_count")
    k.must("attention.head_count_kv", heads, why="every head has keys of its own")
    k.put("n_embd", width, "embedding_length")
    k.put("n_head", heads, "attention.head_count")
    k.put("n_layer", k.layers(), "block_count")
    k.put("n_positions", k.shape("position_embd.weight")[0])
    k.must("context_length", k.fields["n_positions"], why="the rows of position_embd.weight")
    k.holds("attn_qkv.weight", (3 * width, width), "by embedding_length")
    feed_forward(k, width, field="n_inner")
    vocabulary(k, tied=True)
    k.put("layer_norm_epsilon", k.number(EPS), EPS)
    k.put("activation_function", "gelu_new")
    k.put("scale_attn_weights", True)
    k.put("scale_attn_by_inverse_layer_idx", False)
    k.put("reorder_and_upcast_attn", False)
    return "gpt2"


def gpt_neox(k: Keys) -> str:
    """``gptneox``: a part of each head is rotated."""
    width, heads = sizes(k)
    k.must("attention.head_count_kv", heads, why="every head has keys of its own")
    k.fields.pop("num_key_value_heads")
    each = head_dim(k, width, heads, put=False)
    k.holds("attn_qkv.weight", (3 * width, width), "by embedding_length")
    k.put("rope_theta", k.number("rope.freq_base", default=10000.0), "rope.freq_base")
    k.put("rotary_pct", k.size("rope.dimension_count") / each, "rope.dimension_count")
    vocabulary(k)
    feed_forward(k, width)
    k.put("use_parallel_residual", k.flag("use_parallel_residual", default=True), "use_parallel_residual")
    k.put("attention_bias", biases(k, "attn_qkv", "attn_output"))
    k.put("layer_norm_eps", k.number(EPS), EPS)
    k.put("hidden_act", "gelu")
    return "gpt_neox"


def bloom(k: Keys) -> str:
    """``bloom``. As with gpt2, output.weight is a copy of the token table (recalled)."""
    width, heads = k.size("embedding_length"), k.size("attention.head_count")
    k.must("attention.head_count_kv", heads, why="every head has keys of its own")
    k.must("feed_forward_length", 4 * width, why="the class has four times the width")
    k.put("hidden_size", width, "embedding_length")
    k.put("n_head", heads, "attention.head_count")
    k.put("n_layer", k.layers(), "block_count")
    k.put("seq_length", k.size("context_length"), "context_length")
    k.holds("attn_qkv.weight", (3 * width, width), "by embedding_length")
    k.holds("ffn_up.weight", (4 * width, width), "four times the width")
    vocabulary(k, tied=True)
    k.put("layer_norm_epsilon", k.number(EPS), EPS)
    return "bloom"


def falcon(k: Keys) -> str:
    """``falcon``: which of its schemas it is follows from the norms of a layer and the number of heads of keys."""
    width, heads = sizes(k)
    k.must("tensor_data_layout", "jploski", why="the layout that llama.cpp reads")
    each = head_dim(k, width, heads, put=False)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    feed_forward(k, width, field="ffn_hidden_size")
    kv, two = k.fields.pop("num_key_value_heads"), k.in_all("attn_norm_2.weight")
    new = two or 1 < kv < heads
    if not new and kv != 1:
        k.wrong(
            "attention.head_count_kv", "1, or fewer than the heads of queries: no file says how others are arranged"
        )
    k.put("new_decoder_architecture", new)
    k.put("num_ln_in_parallel_attn", 2 if two else 1)
    k.put("multi_query", not new)
    k.put("num_kv_heads", kv if new else heads, "attention.head_count_kv")  # which counts in the new schema alone
    k.put("parallel_attn", True)
    k.put("alibi", False)
    k.put("bias", biases(k, "attn_qkv", "attn_output", "ffn_up", "ffn_down"))
    k.put("activation", "gelu")
    k.put("layer_norm_epsilon", k.number(EPS), EPS)
    return "falcon"


def mamba(k: Keys) -> str:
    """``mamba``: the first kind, without norms inside the mixer."""
    width, inner = k.size("embedding_length"), k.size("ssm.inner_size")
    k.must("ssm.dt_b_c_rms", False, why="norms of step sizes, B and C are Falcon Mamba's")
    k.must("feed_forward_length", 0, why="its layers have no feed-forward")
    k.must("attention.head_count", 0, why="its layers have no attention")
    k.ignore("context_length")  # which the converter makes up: nothing bounds the context
    k.put("hidden_size", width, "embedding_length")
    k.put("num_hidden_layers", k.layers(), "block_count")
    k.put("intermediate_size", inner, "ssm.inner_size")
    if not inner % width:
        k.put("expand", inner // width, "ssm.inner_size")
    state, rank, taps = k.size("ssm.state_size"), k.size("ssm.time_step_rank"), k.size("ssm.conv_kernel")
    k.put("state_size", state, "ssm.state_size")
    k.put("time_step_rank", rank, "ssm.time_step_rank")
    k.put("conv_kernel", taps, "ssm.conv_kernel")
    k.holds("ssm_in.weight", (2 * inner, width), "by ssm.inner_size")
    k.holds("ssm_conv1d.weight", (inner, taps), "by ssm.conv_kernel")
    k.holds("ssm_x.weight", (rank + 2 * state, inner), "by ssm.state_size and ssm.time_step_rank")
    k.put("use_conv_bias", biases(k, "ssm_conv1d"))
    k.put("use_bias", biases(k, "ssm_in", "ssm_out"))
    vocabulary(k)
    k.put("pad_vocab_size_multiple", 1)
    k.put("layer_norm_epsilon", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    k.put("residual_in_fp32", True)
    return "mamba"
