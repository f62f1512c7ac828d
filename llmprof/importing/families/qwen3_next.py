"""Qwen3-Next: three layers of gated DeltaNet, then one of gated attention; experts with a shared one."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.delta import layers_of_delta_and_attention
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table. Experts stand in every ``decoder_sparse_step``-th layer that ``mlp_only_layers`` does not name."""
    count = count_of_layers(c, default=48)
    step = c.size("decoder_sparse_step", default=1)
    plain = c.sizes("mlp_only_layers", default=Read(()))
    experts = c.size("num_experts", default=512, least=0)
    sparse = [experts.value > 0 and i not in plain.value and (i + 1) % step.value == 0 for i in range(count.value)]
    return layers_of_delta_and_attention(
        c,
        count,
        sparse,
        defaults={
            "vocab_size": 151936,
            "hidden_size": 2048,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "intermediate_size": 5632,
        },
        experts=moe(c, experts, top_k=10, normalise=c.flag("norm_topk_prob", default=True)) if any(sparse) else {},
    )


def moe(c: Config, experts: Read[int], *, top_k: int, normalise: Read[bool] | bool) -> Doc:
    """Experts that a softmax over all chooses, and a shared one under a gate."""
    return {
        "kind": "moe",
        "n_experts": experts,
        "top_k": c.size("num_experts_per_tok", default=top_k),
        "expert": {"kind": "swiglu", "d_ff": c.size("moe_intermediate_size", default=512)},
        "shared": {"kind": "swiglu", "d_ff": c.size("shared_expert_intermediate_size", default=512)},
        "shared_gate": True,
        "normalise": normalise,
    }


FAMILY = Family(
    document=document,
    config_class="Qwen3NextConfig",
    source=TRANSFORMERS,
    # Sizes of experts say nothing where no layer has any.
    idle=frozenset(
        {
            "intermediate_size",
            "moe_intermediate_size",
            "norm_topk_prob",
            "num_experts_per_tok",
            "shared_expert_intermediate_size",
        }
    ),
)
