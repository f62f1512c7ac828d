"""The rules on a group's attention: which stacks and positions a kind goes with, and what its numbers must satisfy."""

from __future__ import annotations

from llmprof.spec.arch import (
    Alibi,
    Clustered,
    Differential,
    Fixed,
    Gaussian,
    Gqa,
    Linformer,
    Mask,
    Nystrom,
    Sparse,
    T5Bias,
)
from llmprof.spec.document import Group
from llmprof.spec.nodes import Map
from llmprof.spec.problems import Report
from llmprof.spec.words import alternatives

MAX_ITERATIONS = 1_000
"""Far beyond what either scheme needs: a pseudo-inverse converges in 6 rounds, clusters in 10."""

_STACK_OF: dict[Mask, str] = {"causal": "a causal stack", "prefix": "a prefix-decoder", "bidirectional": "an encoder"}


def check_attention(group: Group, node: Map, report: Report) -> None:
    """The rules inside one group, whatever its stack."""
    attention, written = group.attention, node.below("attention")
    _position(group, node, report)
    if isinstance(attention, Sparse) and isinstance(attention.pattern, Fixed):
        pattern = attention.pattern
        if pattern.summary > pattern.stride:
            report.value(
                written.below("pattern").items["summary"],
                f"at most stride = {pattern.stride}",
                "the summary is the end of every run of stride blocks",
            )
    if isinstance(attention, Gqa):
        _gqa(attention, group, written, report)
    if isinstance(attention, Clustered | Nystrom):
        _iterations(attention, written, report)
    if isinstance(attention, Differential) and attention.lambda_init >= 1:
        report.value(
            written.items["lambda_init"],
            "a number below 1",
            "the output is scaled by 1 - lambda_init",
        )
    if isinstance(attention, Linformer) and attention.n_projected > attention.length:
        report.value(
            written.items["n_projected"],
            f"at most length = {attention.length}",
            "a sequence is projected to fewer rows than it has",
        )


def _gqa(attention: Gqa, group: Group, written: Map, report: Report) -> None:
    if attention.window is not None and attention.chunk is not None:
        report.key(written, "chunk", "a chunk beside a window", "either a window or a chunk")
    if attention.sinks and attention.softcap is not None:
        report.key(
            written, "sinks", "sinks beside a softcap", "sinks without a softcap: whether it caps them is not defined"
        )
    if attention.qkv_clip is not None and attention.qk_norm is not None:
        report.key(
            written, "qkv_clip", "qkv_clip beside a qk_norm", "one of the two: which of them comes first is not settled"
        )
    if attention.qkv_clip is not None and attention.shared_kv:
        report.key(written, "qkv_clip", "qkv_clip beside shared_kv", "one of the two")
    if attention.shared_kv and attention.qk_norm is not None and attention.qk_norm_over == "all-heads":
        report.value(written.items["qk_norm_over"], "head or each-head, with shared_kv")
    if attention.qk_norm is None and attention.qk_norm_over != "head":
        report.key(written, "qk_norm_over", "qk_norm_over without a qk_norm", "a qk_norm beside it")
    if isinstance(group.position, T5Bias | Gaussian) and attention.chunk is not None:
        report.value(written.items["chunk"], f"no chunk, with position {group.position.kind}", found="found a chunk")
    if isinstance(group.position, T5Bias | Gaussian) and attention.shared_kv:
        report.value(written.items["shared_kv"], f"false, with position {group.position.kind}")


def _iterations(attention: Clustered | Nystrom, written: Map, report: Report) -> None:
    if attention.iterations > MAX_ITERATIONS:
        report.value(
            written.items["iterations"],
            f"at most {MAX_ITERATIONS:,}",
            "every round is launched by itself",
        )


def check_mask(group: Group, node: Map, mask: Mask, report: Report) -> None:
    """The rules that join a group's attention and the mask of its stack."""
    attention, written = group.attention, node.below("attention")
    allowed = attention.masks
    if mask not in allowed:
        report.value(
            written.items["kind"],
            f"a kind for {_STACK_OF[mask]}",
            f"{attention.kind} is defined for {alternatives([_STACK_OF[one] for one in allowed])} only",
            found=f"found {attention.kind!r} in {_STACK_OF[mask]}",
        )
    if isinstance(attention, Gqa):
        _gqa_mask(attention, group, written, mask, report)


def _gqa_mask(attention: Gqa, group: Group, written: Map, mask: Mask, report: Report) -> None:
    if attention.window is not None and mask == "prefix":
        report.value(
            written.items["window"],
            f"no window in {_STACK_OF[mask]}",
            "whether it would hide the prefix is not defined",
            found="found a window",
        )
    if attention.window is not None and mask == "bidirectional" and isinstance(group.position, T5Bias):
        report.value(
            written.items["window"],
            "no window in an encoder with a t5-bias",
            "the bias of the table is made over all keys",
            found="found a window",
        )
    if attention.chunk is not None and mask != "causal":
        report.value(written.items["chunk"], f"no chunk in {_STACK_OF[mask]}", found="found a chunk")
    if attention.shared_kv and mask == "bidirectional":
        report.value(
            written.items["shared_kv"], f"false in {_STACK_OF[mask]}", "layers share what a decoder's cache keeps"
        )


def _position(group: Group, node: Map, report: Report) -> None:
    attention, position = group.attention, group.position
    if isinstance(position, Alibi | T5Bias | Gaussian) and not isinstance(attention, Gqa):
        report.value(
            node.below("attention").items["kind"],
            f"gqa, with position {position.kind}",
            "a bias on the scores is defined for gqa only",
        )
    if isinstance(position, Gaussian) and isinstance(attention, Gqa) and attention.window is not None:
        report.value(
            node.below("attention").items["window"],
            "no window, with position gaussian",
            "the prior is already a soft window",
            found="found a window",
        )
