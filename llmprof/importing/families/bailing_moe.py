"""Ling and Ring up to 2.0: experts of softmax scores at first, later of corrected sigmoid scores, from groups.

No class of transformers has them; what a config must say was read in SGLang's and MLX's models. Both generations are
called `bailing_moe`, and the second `bailing_moe_v2` too.
"""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, count_of_layers
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.experts import experts, grouped, joint_width
from llmprof.importing.family import Family
from llmprof.importing.layers import first_dense, layered, unknown_further_tokens
from llmprof.importing.parts import GLUS, per_head, rope

SOURCE = (
    "sglang 0.5.23, https://pypi.org/project/sglang/0.5.23/, sglang/srt/models/bailing_moe.py, and mlx-lm 0.32.2, "
    "https://pypi.org/project/mlx-lm/0.32.2/, mlx_lm/models/bailing_moe.py, read 2026-11-30"
)


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c)
    act = c.choice("hidden_act", of={"silu": GLUS["silu"]}, default="silu")
    eps = c.number("rms_norm_eps")
    _what_the_code_has(c)
    attention: Doc = {
        "kind": "gqa",
        "n_heads": heads,
        "n_kv_heads": c.size("num_key_value_heads"),
        "head_dim": head_dim,
        "qkv_bias": c.flag("use_qkv_bias", default=False),
    }
    if c.flag("use_qk_norm", default=False).value:
        attention["qk_norm"] = {"kind": "rmsnorm", "eps": eps}
    layers, _ = layered(
        count,
        (
            first_dense(c, count, 0),
            {"dense": {"ffn": {"kind": act, "d_ff": c.size("intermediate_size")}}, "sparse": {"ffn": _experts(c, act)}},
        ),
        common={"norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps}, "attention": attention},
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": _rope(c, head_dim),
        "layers": layers,
    }


def _rope(c: Config, head_dim: Read[int]) -> Doc:
    """The rotation, of a part of each head: by a factor, or by the number of values itself."""
    made = rope(c, head_dim, theta=None)
    if not c.has("rotary_dim"):
        return made
    turned = c.size("rotary_dim")
    said = made.get("rotary_dim", head_dim)
    if c.has("partial_rotary_factor") and said.value != turned.value:
        c.wrong("rotary_dim", f"{said.value}, as partial_rotary_factor has it")
    if turned.value > head_dim.value or turned.value % 2:
        c.wrong("rotary_dim", f"an even number up to {head_dim.value}")
    return {**made, "rotary_dim": turned if turned.value != head_dim.value else Read(LEFT_OUT, turned.keys)}


def _experts(c: Config, act: Read[str]) -> Doc:
    width = c.size("moe_intermediate_size")
    own = c.size("moe_shared_expert_intermediate_size", default=inferred(width.value, "as wide as the others", width))
    corrected = c.flag("moe_router_enable_expert_bias", default=False)
    scores = "sigmoid" if corrected.value else "softmax"
    c.must("score_function", scores, None, why=f"the choice is {'' if corrected.value else 'not '}corrected")
    router: Doc = {
        "scores": Read(scores, corrected.keys),
        "normalise": c.flag("norm_topk_prob"),
        "scale": c.number("routed_scaling_factor", default=1.0),
        "correction_bias": corrected,
    }
    if c.has_any("n_group", "topk_group"):
        router |= grouped(c.size("n_group"), c.size("topk_group"))
    return experts(
        act,
        count=c.size("num_experts"),
        top_k=c.size("num_experts_per_tok"),
        width=width,
        shared=joint_width(own, c.size("num_shared_experts", default=0, least=0)),
        router=router,
    )


def _what_the_code_has(c: Config) -> None:
    c.must("use_bias", False, why="no release has biases everywhere")
    c.must("use_rmsnorm", True, why="the code has RMSNorms")
    c.must("use_sliding_window", False, why="the code masks no window")
    c.must("multi_gate", False, why="routers of their own for images and sound")
    c.must("router_type", "topN", None, why="routers of their own for images and sound")
    c.must("norm_softmax", False, why="the code normalises no softmax")
    c.must("moe_router_enable_shared_expert", True, why="the number of shared experts says it")
    c.must("moe_router_enable_routed_scaling", True, why="the factor says it")
    c.ignore("router_dtype", "sliding_window", "max_window_layers", "mtp_loss_scaling_factor")
    if c.raw("norm_head"):
        c.leave_out("norm_head", "columns of the output matrix are scaled once, when it is loaded")
    unknown_further_tokens(c)


FAMILY = Family(document=document, config_class=None, source=SOURCE, idle=RUNTIME)
