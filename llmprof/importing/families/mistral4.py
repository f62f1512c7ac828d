"""Mistral Small 4: DeepSeek's latent attention and shared expert, a softmax over all experts in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.experts import grouped
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import IDLE, latent_decoder, scaled
from llmprof.importing.layers import first_dense
from llmprof.importing.parts import rope

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 131072,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "n_shared_experts": 1,
    "n_routed_experts": 128,
    "kv_lora_rank": 256,
    "q_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 64,
    "max_position_embeddings": 1048576,
    "rms_norm_eps": 1e-6,
}


def document(c: Config) -> Doc:
    """The table. Queries are also multiplied by a function of the position, which is left out."""
    count = count_of_layers(c, default=36)
    nope = c.size("qk_nope_head_dim", default=64)
    rope_dim = c.size("qk_rope_head_dim", default=64)
    c.must("moe_layer_freq", 1, why="the class has experts in every layer after the dense ones")
    c.must("scoring_func", "softmax", why="the class makes scores of logits by a softmax over all experts")
    c.remark(
        "queries are multiplied by a function of the position that grows slowly (llama_4_scaling_beta), which is left "
        "out: one product per value of a query"
    )
    return latent_decoder(
        c,
        DEFAULTS,
        count,
        first_dense(c, count, 0),
        router={
            "normalise": c.flag("norm_topk_prob", default=True),
            "scale": c.number("routed_scaling_factor", default=1.0),
            **grouped(c.size("n_group", default=1), c.size("topk_group", default=1)),
        },
        top_k=c.size("num_experts_per_tok", default=4),
        also_experts=("num_local_experts",),
        position=_position(c, nope, rope_dim),
        scale=_unsaid_scale(c, nope, rope_dim),
    )


def _position(c: Config, nope: Read[int], rope_dim: Read[int]) -> Doc:
    """The rotation; a ``partial_rotary_factor`` says again which part of a query is rotated."""
    width = inferred(nope.value + rope_dim.value, "both parts of a query", nope, rope_dim)
    turned = rope(c, width, theta=10000.0, partial=rope_dim.value / width.value)
    if turned.get("rotary_dim", width).value != rope_dim.value:
        at = c.below("rope_parameters")
        at.wrong("partial_rotary_factor", f"{rope_dim.value} of {width.value} values, as qk_rope_head_dim says")
    return {"kind": "rope", "theta": turned["theta"]}


def _unsaid_scale(c: Config, nope: Read[int], rope_dim: Read[int]) -> Read[float] | None:
    """The scale of the rotation that the class has where the file says none: yarn by 128, ``mscale_all_dim`` 1."""
    if c.has_any("rope_parameters", "rope_scaling"):
        return None
    c.remark("rope_parameters is not in the file: the class stretches the rotation by 128 (yarn)")
    return scaled(nope, rope_dim, Read(1.0), Read(128.0))


FAMILY = Family(document=document, config_class="Mistral4Config", source=TRANSFORMERS, idle=IDLE)
