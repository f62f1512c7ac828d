"""The rules on a group's feed-forward: what goes with which activation, and what fits together in experts."""

from __future__ import annotations

from llmprof.spec.arch import ChannelMix, Expert, Glu, Mask, Mlp, Moe
from llmprof.spec.document import Group
from llmprof.spec.nodes import Map
from llmprof.spec.problems import Report

MAX_EXPERTS = 2**16
"""Far beyond any model: the largest known have a few hundred experts per layer."""

WITH_BETA = ("swish", "swiglu", "swiglu-clamped")


def check_ffn(group: Group, node: Map, report: Report) -> None:
    """The rules inside one group, whatever its stack."""
    written = node.below("ffn")
    match group.ffn:
        case Mlp() | Glu():
            _activation(group.ffn, written, report)
        case Moe():
            _activation(group.ffn.expert, written.below("expert"), report)
            if group.ffn.shared is not None:
                _activation(group.ffn.shared, written.below("shared"), report)
            _experts(group.ffn, written, report)
        case _:
            pass


def check_ffn_mask(group: Group, node: Map, mask: Mask, report: Report) -> None:
    """The rule that joins a group's feed-forward and the mask of its stack."""
    if isinstance(group.ffn, ChannelMix) and mask != "causal":
        report.value(
            node.below("ffn").items["kind"],
            "another kind in a stack that is not causal",
            "rwkv-channel-mix mixes a token with the one before it",
        )


def _activation(ffn: Expert, written: Map, report: Report) -> None:
    if "beta" in written.items and ffn.kind not in WITH_BETA:
        report.key(written, "beta", f"found beta for {ffn.kind!r}", "beta for swish, swiglu and swiglu-clamped only")
    if not isinstance(ffn, Glu):
        return
    if ffn.bias and ffn.down_bias:
        report.key(written, "down_bias", "found down_bias beside bias", "bias alone, which is of all matrices")
    if ffn.kind == "swiglu-clamped" and ffn.limit is None:
        report.missing(written, "limit", "where gate and up are cut, for example 7.0")
    if ffn.kind != "swiglu-clamped" and ffn.limit is not None:
        report.key(written, "limit", f"found limit for {ffn.kind!r}", "limit for swiglu-clamped only")


def _experts(moe: Moe, written: Map, report: Report) -> None:
    for key, one in (("expert", moe.expert), ("shared", moe.shared)):
        if one is not None and one.kind == "xielu":
            report.value(
                written.below(key).items["kind"], "another kind in experts", "its learned numbers are a layer's own"
            )
    if isinstance(moe.expert, Glu) and moe.expert.down_bias:
        report.key(written.below("expert"), "down_bias", "found down_bias in an expert", "bias, for all its matrices")
    if moe.n_experts > MAX_EXPERTS:
        report.value(written.items["n_experts"], f"at most {MAX_EXPERTS:,}", "every expert has a load of its own")
        return
    if moe.top_k > moe.n_experts:
        report.value(written.items["top_k"], f"at most n_experts = {moe.n_experts}")
        return
    if moe.n_experts % moe.n_groups:
        report.value(written.items["n_groups"], f"a divisor of n_experts = {moe.n_experts}", "groups are of one size")
        return
    if moe.groups_per_token > moe.n_groups:
        report.value(written.items["groups_per_token"], f"at most n_groups = {moe.n_groups}")
        return
    reach = moe.groups_per_token * (moe.n_experts // moe.n_groups)
    if moe.top_k > reach:
        report.value(
            written.items["top_k"],
            f"at most {reach}",
            f"{moe.groups_per_token} of {moe.n_groups} groups hold so many experts",
        )
    if moe.shared_gate and moe.shared is None:
        report.missing(written, "shared", "the expert whose output shared_gate weighs")
    _mixer(moe, written, report)
    if moe.scores == "softmax-chosen" and moe.normalise:
        report.value(
            written.items["normalise"], "false with scores softmax-chosen", "those weights already add up to 1"
        )


def _mixer(moe: Moe, written: Map, report: Report) -> None:
    """The rules on a router that chooses two experts, one after the other."""
    if moe.scores != "sparsemixer":
        if moe.margin is not None:
            report.key(written, "margin", f"found margin with scores {moe.scores}", "margin with sparsemixer only")
        return
    if moe.margin is None:
        report.missing(written, "margin", "how far from the best an expert may be, for example 0.01")
    if moe.top_k != 2:
        report.value(written.items["top_k"], "2, with scores sparsemixer", "it chooses one expert and then another")
    for key, used in (
        ("normalise", moe.normalise),
        ("correction_bias", moe.correction_bias),
        ("n_groups", moe.n_groups > 1),
    ):
        if used:
            report.key(written, key, f"{key} with scores sparsemixer", "one of the two")
