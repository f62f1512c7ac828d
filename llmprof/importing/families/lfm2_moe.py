"""LFM2-MoE: LFM2 with experts behind its first layers."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.families.lfm2 import KINDS, mixers, model, norm
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import stack


def document(c: Config) -> Doc:
    """The table. The kinds of layers have no default: the class builds nothing without them."""
    hidden = c.size("hidden_size", default=2048)
    count = count_of_layers(c, default=32)
    dense = c.size("num_dense_layers", default=2, least=0)
    found = c.words("layer_types", of=KINDS)
    if len(found.value) != count.value:
        c.stop("layer_types", f"one word for each of {count.value:,} layers")
    names = [KINDS[word] + ("-moe" if i >= dense.value else "") for i, word in enumerate(found.value)]
    kinds = mixers(c, hidden)
    swiglu = {"kind": "swiglu", "d_ff": c.size("intermediate_size", default=7168)}
    experts = {
        "kind": "moe",
        "n_experts": c.size("num_experts", default=32),
        "top_k": c.size("num_experts_per_tok", default=4),
        "expert": {"kind": "swiglu", "d_ff": c.size("moe_intermediate_size", default=1792)},
        "scores": "sigmoid",
        "normalise": c.flag("norm_topk_prob", default=True),
        "scale": c.number("routed_scaling_factor", default=1.0),
        "correction_bias": c.flag("use_expert_bias", default=True),
    }
    return {
        **model(c, hidden),
        "layers": stack(
            count,
            names,
            {
                name + end: {**kinds[name], "ffn": ffn}
                for name in kinds
                for end, ffn in (("", swiglu), ("-moe", experts))
            },
            {"norm": norm(c)},
        ),
    }


FAMILY = Family(document=document, config_class="Lfm2MoeConfig", source=TRANSFORMERS)
