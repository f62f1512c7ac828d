"""Experts as many families' tables read them: their feed-forwards, and routers of DeepSeek-V3's kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import LEFT_OUT, Doc, Left

TRAINED_AND_RUN = RUNTIME | frozenset({"aux_loss_alpha", "ep_size", "moe_router_dtype", "seq_aux"})
"""Fields beside DeepSeek's experts about their training and about where they run: no shape, no kernel, no byte."""


def experts(
    kind: Read[str],
    *,
    count: Read[int],
    top_k: Read[int],
    width: Read[int],
    shared: Read[int] | Read[Left] | None = None,
    router: Doc,
) -> Doc:
    """A feed-forward of experts of three matrices, each `width` wide, with what `router` says; `shared` is for all."""
    doc: Doc = {
        "kind": "moe",
        "n_experts": count,
        "top_k": top_k,
        "expert": {"kind": kind, "d_ff": width},
    }
    if shared is not None and not isinstance(shared.value, Left):
        doc["shared"] = {"kind": Read(kind.value, kind.keys), "d_ff": shared}
    return {**doc, **router}


def joint_width(one: Read[int], count: Read[int] | Read[None]) -> Read[int] | Read[Left]:
    """How wide shared experts are as one; left out where there are none."""
    if not count.value:
        return Read(LEFT_OUT, count.keys, count.note)
    if count.value == 1:
        return one
    return inferred(one.value * count.value, f"{count.value} shared experts of {one.value:,} as one", one, count)


def sigmoid_router(c: Config, d: Mapping[str, Any], *, called: Sequence[str] = ("sigmoid",)) -> Doc:
    """DeepSeek-V3's router: sigmoid scores, corrected for the choice, from groups of experts.

    `d` are the class's defaults of ``n_group``, ``topk_group``, ``norm_topk_prob`` and ``routed_scaling_factor``,
    `called` what its releases call its scores.
    """
    c.must("scoring_func", *called, why="the class makes scores of logits by a sigmoid of each")
    c.must("topk_method", "noaux_tc", why="the class chooses by corrected scores, from groups")
    return {
        "scores": "sigmoid",
        "normalise": c.flag("norm_topk_prob", default=d["norm_topk_prob"]),
        "scale": c.number("routed_scaling_factor", default=d["routed_scaling_factor"]),
        "correction_bias": True,
        **grouped(c.size("n_group", default=d["n_group"]), c.size("topk_group", default=d["topk_group"])),
    }


def grouped(groups: Read[int], chosen: Read[int]) -> Doc:
    """From how many groups the experts of a token come; nothing where there is one."""
    if groups.value == chosen.value == 1:
        return {}
    return {"n_groups": groups, "groups_per_token": chosen}
