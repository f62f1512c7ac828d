"""Rules that join fields. Each is reported at the key it concerns, and all of them at once.

They are here so that no later stage meets a combination it could give no meaning to.
"""

from __future__ import annotations

from datetime import date

from llmprof.spec.arch import Gqa, Learned, LmHead, Mask, MlmHead, Rope, Source, Structure, T5Bias
from llmprof.spec.attention_rules import check_attention, check_mask
from llmprof.spec.cross_rules import check_cross_attention, check_heads
from llmprof.spec.document import DeepNorm, Document, Group
from llmprof.spec.ffn_rules import check_ffn, check_ffn_mask
from llmprof.spec.groups import Plan
from llmprof.spec.mixer_rules import check_mixers
from llmprof.spec.nodes import Map, Node, Seq
from llmprof.spec.norm_rules import check_norms, check_norms_of_model, check_norms_of_stack
from llmprof.spec.problems import Report

# Far beyond any model, and small enough that no product of a few sizes becomes absurdly long.
MAX_SIZE = 2**40


def check_sizes(node: Map, report: Report) -> None:
    """No integer outside `published` is larger than `MAX_SIZE`."""
    waiting: list[Node] = [node.without("published", "variants")]
    while waiting:
        current = waiting.pop()
        if isinstance(current, Map):
            waiting.extend(current.items.values())
        elif isinstance(current, Seq):
            waiting.extend(current.items)
        elif isinstance(current.value, int) and current.value > MAX_SIZE:
            report.value(current, f"at most {MAX_SIZE:_}")


# --- one group of layers ----------------------------------------------------------------------


def check_group(stack: str, group: Group, node: Map, report: Report) -> None:
    """The rules inside one group of equal layers."""
    if isinstance(group.attention, Gqa):
        check_heads(group.attention, node, "attention", report)
    check_attention(group, node, report)
    _rotation(group, node, report)
    check_cross_attention(stack, group, node, report)
    _block(group, node, report)
    _residual(group, node, report)
    check_mixers(stack, group, node, report)
    check_ffn(group, node, report)
    check_norms(group, node, report)


def _rotation(group: Group, node: Map, report: Report) -> None:
    rope = group.position
    if not isinstance(rope, Rope) or not hasattr(group.attention, "head_dim"):
        return
    head_dim: int = group.attention.head_dim
    position = node.below("position")
    rotated = rope.rotary_dim if rope.rotary_dim is not None else head_dim
    multiple = 2 * rope.axes
    if rotated > head_dim:
        report.value(position.items["rotary_dim"], f"at most head_dim = {head_dim}")
    if rotated % multiple:
        reason = "pairs are rotated" if rope.axes == 1 else f"pairs are rotated along each of {rope.axes} axes"
        if rope.rotary_dim is not None:
            report.value(position.items["rotary_dim"], f"a multiple of {multiple}", reason)
        else:
            owner = node.below("attention").items["head_dim"]
            report.value(owner, f"a multiple of {multiple} under rope, or a rotary_dim that is one", reason)


def _block(group: Group, node: Map, report: Report) -> None:
    if group.block == "serial":
        return
    if group.norm.placement != "pre":
        report.value(node.below("norm").items["placement"], f"pre, with block: {group.block}")
    if group.cross_attention is not None:
        report.value(node.items["block"], "serial, with cross_attention")


def _residual(group: Group, node: Map, report: Report) -> None:
    said = group.residual
    if not isinstance(said, DeepNorm):
        return
    residual = node.below("residual")
    if group.norm.placement != "post":
        report.value(
            node.below("norm").items["placement"],
            "post, with residual deepnorm",
            "DeepNorm normalises the sum alpha * x + f(x)",
        )
    if said.rule is not None:
        for key in ("alpha", "beta"):
            if key in residual.items:
                report.key(residual, key, f"{key} beside a rule that computes it", "either a rule or alpha and beta")
    else:
        for key, value in (("alpha", said.alpha), ("beta", said.beta)):
            if value is None:
                report.missing(residual, key, "a rule (deepnet or glm), or both alpha and beta")


# --- one stack --------------------------------------------------------------------------------


def check_stack(plan: Plan, groups: dict[str, Group], mask: Mask, max_context: int | None, report: Report) -> None:
    """The rules that join the groups of a stack, its mask and its position table."""
    for name, group in groups.items():
        check_mask(group, plan.groups[name], mask, report)
        check_ffn_mask(group, plan.groups[name], mask, report)
    _one_table(plan, groups, report)
    for name, group in groups.items():
        if isinstance(group.position, T5Bias):
            _buckets(group.position, plan.groups[name].below("position"), mask, report)
    table = plan.frame.position
    if isinstance(table, Learned):
        assert isinstance(plan.position, Map)
        _rows(table, plan.position, max_context, report)
    check_norms_of_stack(plan.frame, plan.node, report)
    front = plan.frame.front
    if front is not None and front.kernel % 2 == 0:
        report.value(
            plan.node.below("front").items["kernel"], "an odd number", "frames are padded by kernel // 2 on both sides"
        )


def _one_table(plan: Plan, groups: dict[str, Group], report: Report) -> None:
    users = [(name, group) for name, group in groups.items() if isinstance(group.position, T5Bias)]
    for name, group in users[1:]:
        first_name, first = users[0]
        if group.position != first.position:
            report.value(
                plan.groups[name].below("position"),
                f"the same t5-bias as in {first_name!r}",
                "one table serves all layers of a stack",
                found="found another t5-bias",
            )
        # A rule of the group has refused a table beside anything but gqa.
        if not (isinstance(group.attention, Gqa) and isinstance(first.attention, Gqa)):
            continue
        if group.attention.n_heads != first.attention.n_heads:
            report.value(
                plan.groups[name].below("attention").items["n_heads"],
                f"{first.attention.n_heads}, as in {first_name!r}",
                "one t5-bias table, with a column per head, serves all layers of a stack",
            )
        window = _window(group)
        if window != _window(first):
            attention = plan.groups[name].below("attention")
            report.value(
                attention.items.get("window", attention),
                f"the same window as in {first_name!r}",
                "the bias of a t5-bias table is made once for all layers of a stack, over the same keys",
                found=f"found {'no window' if window is None else window}",
            )


def _window(group: Group) -> int | None:
    return group.attention.window if isinstance(group.attention, Gqa) else None


def _buckets(bias: T5Bias, node: Map, mask: str, report: Report) -> None:
    """The bucket of a distance: exact for the lower half of a side's buckets, logarithmic for the upper half.

    The logarithm is of distance / exact over max_distance / exact, so a side needs an exact bucket and
    max_distance beyond it. Reference: section 2.1 of https://arxiv.org/abs/1910.10683 and its code.
    """
    if mask == "prefix":
        report.value(
            node.items["kind"],
            "rope, alibi or none in a prefix-decoder",
            "whether its buckets would be one-sided or two-sided is not defined",
        )
        return
    two_sided = mask == "bidirectional"
    if two_sided and (bias.n_buckets < 4 or bias.n_buckets % 2):
        report.value(node.items["n_buckets"], "an even number of at least 4", "half of the buckets look each way")
        return
    if bias.n_buckets < 2:
        report.value(node.items["n_buckets"], "at least 2")
        return
    exact = (bias.n_buckets // 2 if two_sided else bias.n_buckets) // 2
    if bias.max_distance <= exact:
        report.value(
            node.items["max_distance"],
            f"more than {exact}",
            f"with n_buckets = {bias.n_buckets}, distances below {exact} have buckets of their own",
        )


def _rows(table: Learned, node: Map, max_context: int | None, report: Report) -> None:
    if max_context is None:
        report.value(
            node.items["rows"],
            "a max_context that is a number",
            "a learned table bounds the context",
            found=f"found {table.rows} rows and max_context: null",
        )
    elif table.rows < max_context:
        report.value(node.items["rows"], f"at least max_context = {max_context} rows")


# --- the file ---------------------------------------------------------------------------------


def check_document(document: Document, node: Map, structure: Structure, report: Report) -> None:
    """The rules on what stands around the stacks."""
    if structure == "encoder":
        if document.head is None:
            report.missing(node, "head", "{kind: mlm}, {kind: lm} or {kind: none}: an encoder must say")
    else:
        if isinstance(document.head, MlmHead):
            report.value(node.below("head").items["kind"], f"lm or none in a model of structure {structure}")
        if document.pooler:
            report.value(node.items["pooler"], "a pooler in an encoder only")
    for key in ("layers", "decoder"):
        stack = node.get(key)
        if isinstance(stack, Map) and "front" in stack.items:
            report.key(stack, "front", f"a front in {key!r}", "a front in the encoder of an encoder-decoder only")
    if document.release is not None and document.release.packing is None and document.release.spared:
        report.value(node.below("release").items["spared"], "no spared matrices where there is no packing")
    if document.embedding.width is not None:
        _width(document, node, structure, report)
    if structure == "encoder-decoder" and document.embedding.type_vocab_size:
        report.value(
            node.below("embedding").items["type_vocab_size"],
            "no segment table in an encoder-decoder",
            "it would not be clear which side reads it",
        )
    check_norms_of_model(document, node, report)
    written = node.items["source"]
    listed = written.items if isinstance(written, Seq) else [written]
    for source, place in zip(document.source, listed, strict=True):
        _source(source, place, report)
    if document.published is not None:
        _source(document.published.source, node.below("published").items["source"], report)
        if document.published.params_total is None and document.published.note is None:
            report.missing(node.below("published"), "params_total", "the figure that is published, or a note")


def _width(document: Document, node: Map, structure: Structure, report: Report) -> None:
    """A token table of its own width: what the matrices around it can be combined with."""
    embedding, head = node.below("embedding"), document.head
    if structure == "encoder-decoder":
        report.key(embedding, "width", "a width of its own in an encoder-decoder", "one in a model of one stack only")
    if isinstance(head, MlmHead) or (isinstance(head, LmHead) and head.input_scale is not None):
        report.key(embedding, "width", "a width beside this head", "a head of kind lm without input_scale, or none")
    if document.mtp is not None:
        report.key(embedding, "width", "a width beside mtp layers", "one of the two")


def _source(source: Source, node: Node, report: Report) -> None:
    assert isinstance(node, Map)
    if not source.url.strip():
        report.value(node.items["url"], "the address of the page")
    if source.read == "recalled":
        return
    try:
        # Only the extended form: `fromisoformat` reads 20261123 and 2026-W48 too.
        if date.fromisoformat(source.read).isoformat() == source.read:
            return
    except ValueError:
        pass
    report.value(node.items["read"], "an ISO day such as 2026-11-23, or the word recalled")
