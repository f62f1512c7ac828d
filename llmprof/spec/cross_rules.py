"""The rules on query and key/value heads, and on attention between two sequences."""

from __future__ import annotations

from llmprof.spec.arch import Gqa
from llmprof.spec.document import Group
from llmprof.spec.nodes import Map
from llmprof.spec.problems import Report
from llmprof.spec.validate import check


def check_heads_alone(node: Map, report: Report) -> None:
    """The rule on heads for a group in which something else is wrong: all errors are told at once."""
    for key in ("attention", "cross_attention"):
        written = node.get(key)
        attention = check(Gqa, written, Report("")) if isinstance(written, Map) else None
        if attention is not None:
            check_heads(attention, node, key, report)


def check_heads(attention: Gqa, node: Map, key: str, report: Report) -> None:
    """Every key/value head serves the same number of query heads."""
    heads, kv_heads = attention.n_heads, attention.n_kv_heads
    if heads % kv_heads:
        divisors = [str(n) for n in range(1, min(heads, 4096) + 1) if heads % n == 0]
        works = ", ".join(divisors if len(divisors) <= 12 else [*divisors[:11], "..."])
        report.value(
            node.below(key).items["n_kv_heads"],
            f"a divisor of n_heads = {heads}: {works}",
            "every key/value head serves the same number of query heads",
        )


def check_cross_attention(stack: str, group: Group, node: Map, report: Report) -> None:
    """Cross-attention stands in the decoder of an encoder-decoder, and has no option that counts positions."""
    cross = group.cross_attention
    if cross is None:
        if stack == "decoder":
            report.missing(
                node, "cross_attention", "{kind: gqa, n_heads, n_kv_heads, head_dim}: how it reads the encoder"
            )
        return
    if stack != "decoder":
        report.key(
            node,
            "cross_attention",
            f"cross_attention in {stack!r}",
            "cross_attention in the decoder of an encoder-decoder only",
        )
    check_heads(cross, node, "cross_attention", report)
    _plain_cross(cross, node.below("cross_attention"), report)
    if cross.window is not None:
        report.value(
            node.below("cross_attention").items["window"],
            "no window in cross_attention",
            "a window counts back from a query's own place, which the other sequence does not have",
            found="found a window",
        )


def _plain_cross(cross: Gqa, written: Map, report: Report) -> None:
    """Options that have no meaning, or no implementation, between two sequences."""
    for key in ("chunk", "sinks", "qkv_clip", "output_gate", "shared_kv"):
        if getattr(cross, key):
            report.value(written.items[key], f"no {key} in cross_attention", found=f"found {key}")
