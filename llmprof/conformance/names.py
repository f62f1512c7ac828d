"""What others call our modules: the names of transformers' classes, and of modules that are written like them.

One table, read from top to bottom. A name stands for one of our paths or for several that it holds in one tensor; of
those that are given, the ones that a layer really has are meant. Read in the modeling files of transformers 5.23.0
(https://pypi.org/project/transformers/5.23.0/, read 2026-11-30).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Name:
    """Endings of their names, our paths, and the neighbours that must and must not be there for it to be so."""

    theirs: str
    ours: str
    beside: str = ""
    without: str = ""


AROUND = (
    Name("transform.dense head.dense lm_head.dense vocab_transform", "head.dense"),
    Name("transform.LayerNorm head.norm lm_head.layer_norm vocab_layer_norm", "head.norm"),
    Name("pooler.dense", "pooler"),
    Name(
        "lm_head lm_head.decoder proj_out embed_out output_projection cls.predictions cls.predictions.decoder "
        "vocab_projector",
        "lm_head",
    ),
    Name("head", "lm_head"),
    Name("decoder", "lm_head", beside="head.dense"),
    Name("embeddings.LayerNorm embeddings.norm layernorm_embedding word_embeddings_layernorm pre_ln", "embed_norm"),
    Name(
        "embed_tokens wte word_embeddings embed_in tok_embeddings shared embeddings tokens_embed transformer.w",
        "embed",
    ),
    Name("embed_positions wpe position_embeddings positions_embed", "pos_embed"),
    Name("token_type_embeddings", "type_embed"),
    Name("project_in", "embed_proj"),
    Name("project_out", "head.proj"),
    Name("conv1", "conv1"),
    Name("conv2", "conv2"),
    Name(
        "norm ln_f final_layernorm final_layer_norm norm_f final_norm layer_norm embedding_norm ln_out ln layernorm "
        "encoder.LayerNorm",
        "final_norm",
    ),
)
"""Modules that stand in no layer. The first that fits counts."""

INSIDE = (
    # Attention to the source, before what its names end like.
    Name("encoder_attn.q_proj EncDecAttention.q", "cross_attn.q_proj"),
    Name("encoder_attn.k_proj EncDecAttention.k", "cross_attn.k_proj"),
    Name("encoder_attn.v_proj EncDecAttention.v", "cross_attn.v_proj"),
    Name("encoder_attn.out_proj EncDecAttention.o", "cross_attn.o_proj"),
    # RWKV, whose two halves call their projections alike.
    Name("attention.receptance", "attn.r_proj"),
    Name("attention.output", "attn.o_proj attn.out_proj", beside="attention.receptance"),
    Name("feed_forward.receptance", "ffn.receptance"),
    Name("feed_forward.key", "ffn.up"),
    Name("feed_forward.value", "ffn.down"),
    Name("attention", "attn.shift attn.core", beside="attention.receptance"),
    Name("feed_forward", "ffn.shift"),
    Name("pre_ln", "embed_norm"),
    # Attention, each projection of its own.
    Name("q_proj q query q_lin Wq", "attn.q_proj attn.gate_proj"),
    Name("k_proj k key k_lin Wk", "attn.k_proj"),
    Name("v_proj v value v_lin Wv", "attn.v_proj"),
    # The three projections in one matrix.
    Name(
        "attn.c_attn query_key_value Wqkv qkv_proj attn.qkv_proj",
        "attn.q_proj attn.k_proj attn.v_proj attn.gate_proj",
    ),
    Name(
        "self_attn.o_proj self_attn.out_proj attention.o_proj attention.out_proj attention.dense self_attention.dense "
        "attn.c_proj attn.out_proj attn.Wo self_attn.dense SelfAttention.o attention.output.dense mixer.o_proj "
        "temporal_block.o_proj attn.dense multi_head_attention.dense out_lin",
        "attn.o_proj",
    ),
    Name("attention", "attn.o_proj", beside="attention.dense"),  # of which GPT-NeoX Japanese keeps the bias itself
    Name("self_attn.gate_proj self_attn.g_proj self_attn.linear_gate", "attn.gate_proj"),
    Name("q_norm q_layernorm query_layernorm", "attn.q_norm"),
    Name("k_norm k_layernorm key_layernorm", "attn.k_norm"),
    Name("SelfAttention.relative_attention_bias", "rel_bias"),
    Name("SelfAttention.relative_attention_bias", "attn.rel_bias"),
    # Latent attention and its indexer.
    Name("self_attn.q_a_proj", "attn.q_down"),
    Name("self_attn.q_a_layernorm", "attn.q_down_norm"),
    Name("self_attn.q_b_proj", "attn.q_up"),
    Name("self_attn.kv_a_proj_with_mqa", "attn.kv_down"),
    Name("self_attn.kv_a_layernorm", "attn.kv_norm"),
    Name("self_attn.kv_b_proj", "attn.kv_up"),
    Name("indexer.wq_b", "attn.indexer.q_proj"),
    Name("indexer.wk", "attn.indexer.k_proj"),
    Name("indexer.k_norm", "attn.indexer.k_norm"),
    Name("indexer.weights_proj", "attn.indexer.weights"),
    # Recurrent mixers, in place of the attention or beside it.
    Name("mamba.in_proj mixer.in_proj conv.in_proj in_proj_qkvz linear_attn.in_proj_qkv", "mixer.in_proj attn.in_proj"),
    Name(
        "linear_attn.in_proj_z linear_attn.q_proj linear_attn.k_proj linear_attn.v_proj linear_attn.g_proj",
        "attn.in_proj",
    ),
    Name(
        "in_proj_ba linear_attn.in_proj_b linear_attn.in_proj_a linear_attn.b_proj linear_attn.a_proj",
        "attn.gates_proj",
    ),
    Name("q_conv1d k_conv1d v_conv1d", "attn.conv"),
    Name("mamba.conv1d mixer.conv1d linear_attn.conv1d conv.conv temporal_block.conv_1d", "mixer.conv attn.conv"),
    Name("mamba.x_proj mixer.x_proj", "attn.x_proj"),
    Name("mamba.dt_proj mixer.dt_proj", "attn.dt_proj"),
    Name("mamba.dt_layernorm", "attn.dt_norm"),
    Name("mamba.b_layernorm", "attn.b_norm"),
    Name("mamba.c_layernorm", "attn.c_norm"),
    Name("mamba.norm mixer.norm linear_attn.norm linear_attn.o_norm", "mixer.norm attn.norm"),
    Name(
        "mamba.out_proj mixer.out_proj linear_attn.out_proj linear_attn.o_proj conv.out_proj temporal_block.linear_out",
        "mixer.out_proj attn.out_proj",
    ),
    Name("temporal_block.linear_x", "attn.in_proj"),
    Name("temporal_block.linear_y", "attn.gate_proj"),
    Name("temporal_block.rg_lru", "attn.core"),
    Name("mamba mixer linear_attn self_attn", "mixer.core attn.core"),
    # Mixtures of experts.
    Name(
        "mlp.gate mlp.router feed_forward.router feed_forward.gate block_sparse_moe.router block_sparse_moe.gate "
        "mixer.gate router.layer gate.wg",
        "ffn.router",
    ),
    Name("experts experts.mlp", "ffn.experts"),
    Name("shared_experts.gate_proj shared_expert.gate_proj shared_mlp.gate_proj", "ffn.shared.gate"),
    Name("shared_experts.up_proj shared_expert.up_proj shared_mlp.up_proj", "ffn.shared.up"),
    Name("shared_experts.down_proj shared_expert.down_proj shared_mlp.down_proj", "ffn.shared.down"),
    Name("shared_mlp.input_linear", "ffn.shared.gate ffn.shared.up ffn.gate ffn.up"),
    Name("shared_mlp.output_linear", "ffn.shared.down ffn.down"),
    Name("shared_expert_gate", "ffn.shared_gate"),
    Name("fc1_latent_proj", "ffn.latent_down"),
    Name("fc2_latent_proj", "ffn.latent_up"),
    # Feed-forwards.
    Name("gate_proj DenseReluDense.wi_0 w1 linear_1", "ffn.gate"),
    Name("gate_up_proj mlp.Wi", "ffn.gate ffn.up"),
    Name(
        "up_proj mlp.c_fc mlp.fc_in mlp.fc1 fc1 mlp.dense_h_to_4h intermediate.dense ffn.lin1 ffn.0 DenseReluDense.wi "
        "DenseReluDense.wi_1 w3",
        "ffn.up",
    ),
    Name(
        "down_proj mlp.c_proj mlp.fc_out mlp.fc2 fc2 mlp.dense_4h_to_h output.dense mlp.Wo ffn.lin2 ffn.2 "
        "DenseReluDense.wo w2",
        "ffn.down",
    ),
    Name("mlp.act_fn", "ffn.act"),
    # Norms. Which one a name means depends on which others there are.
    Name("layer_norm", "attn_norm cross_norm ffn_norm"),
    Name(
        "attention.output.LayerNorm self_attn_layer_norm ln_attn norm_1 ln_1 ln1 operator_norm "
        "attention.ln sa_layer_norm layernorm1",
        "attn_norm",
    ),
    Name("input_layernorm temporal_pre_norm attn_norm attention_layernorm", "attn_norm"),
    Name("encoder_attn_layer_norm", "cross_norm"),
    Name("post_attention_layernorm", "attn_post_norm", beside="post_feedforward_layernorm"),
    Name("post_attention_layernorm", "attn_norm", beside="post_mlp_layernorm", without="input_layernorm"),
    Name("post_self_attn_layernorm post_norm1", "attn_post_norm"),
    Name("post_feedforward_layernorm post_mlp_layernorm post_norm2", "ffn_post_norm"),
    Name(
        "post_attention_layernorm pre_feedforward_layernorm pre_ff_layernorm ln_mlp norm_2 "
        "ln_2 ln2 mlp_norm ffn_norm final_layer_norm output.LayerNorm LayerNorm channel_pre_norm "
        "post_mlp_layernorm "
        "output_layer_norm layernorm2 feedforward_layernorm ln",
        "ffn_norm",
    ),
    Name("norm", "attn_norm ffn_norm"),
)
"""Modules of a layer. The first whose path the layer has counts."""

_LAYER = re.compile(r"(?P<before>(?:[A-Za-z_]\w*\.)*?)(?:layers|layer|h|blocks|block)\.(?P<index>\d+)\.(?P<rest>.+)")
_PLACE = re.compile(r"(?:layer|sub_layers)\.\d+\.|\.norms\.\d+$")
"""Numbers of parts that their names make superfluous: of T5's halves, and of StableLM's norms of each head."""


def layer_of(module: str) -> tuple[str, int, str] | None:
    """What stands before a layer, its number, and the rest; None for a module of no layer.

    >>> layer_of("model.encoder.layers.3.fc1"), layer_of("encoder.block.0.layer.1.DenseReluDense.wi")
    (('model.encoder.', 3, 'fc1'), ('encoder.', 0, 'DenseReluDense.wi'))
    """
    found = _LAYER.fullmatch(module)
    if found is None:
        return None
    return found["before"], int(found["index"]), _PLACE.sub("", found["rest"])


def ours(module: str, others: Collection[str], prefixes: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Our paths for one of their modules, most likely first; `others` are the names of its neighbours.

    `prefixes` are those of our stacks: a model of one stack has the empty one alone, whatever theirs is called.
    """
    place = layer_of(module)
    rest = module if place is None else place[2]
    before = module if place is None else place[0]
    stack = next((prefix for prefix in prefixes if prefix and prefix.removesuffix(".") in before.split(".")), "")
    layer = "" if place is None else f"layers.{place[1]}."
    for name in AROUND if place is None else INSIDE:
        if not any(_ends(rest, ending) for ending in name.theirs.split()):
            continue
        if name.beside and not any(_ends(other, name.beside) for other in others):
            continue
        if name.without and any(_ends(other, name.without) for other in others):
            continue
        found = []
        for path in name.ours.split():
            if path in ("rel_bias", "embed_norm") and place is not None:
                found.append(f"{stack}{path}")  # which stands in a layer there, and not here
            else:
                found.append(f"{stack}{layer}{path}")
                if place is None:
                    found.append(path)  # tables and heads stand before no stack
        yield tuple(found)


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
