"""How one mapping is laid over another: groups over their stack, variants over the base.

One rule for both: mappings merge key by key, unless the upper one states another ``kind``, and then it
replaces; ``null`` takes a key away.
"""

from __future__ import annotations

from llmprof.spec.nodes import Map, Mark, Node, child_path, is_null, kind_of, short
from llmprof.spec.problems import Report

# Where null is a value of its own and not the absence of one.
NULLABLE = frozenset({"max_context"})

# What belongs to the file and not to one architecture in it.
FIXED = frozenset({"name", "aliases", "notes", "variants"})


def overlay(lower: Node | None, upper: Node, report: Report) -> Node:
    """`upper` laid over `lower`. Reports a null that has nothing to take away."""
    if not isinstance(upper, Map):
        return upper
    if isinstance(lower, Map) and kind_of(upper) in (None, kind_of(lower)):
        result = Map(dict(lower.items), dict(lower.keys), lower.path, lower.mark)
    else:
        lower, result = None, Map({}, {}, upper.path, upper.mark)
    for key, node in upper.items.items():
        if is_null(node) and key not in NULLABLE and lower is None:
            continue
        _lay(result, key, node, upper.keys[key], report)
    return result


def with_variant(base: Map, overrides: Map, report: Report) -> Map:
    """The base document with a variant's dotted paths applied in the order written."""
    result = base.without("variants", "published", "release")
    for dotted, node in overrides.items.items():
        parts = dotted.split(".")
        if parts[0] in FIXED or not all(parts):
            found = f"a variant cannot set {short(dotted)!r}"
            report.key(overrides, dotted, found, "a dotted path such as layers.attention.n_kv_heads")
        else:
            result = _put(result, parts, node, overrides.keys[dotted], overrides.path, report)
    return result


def _put(lower: Map, parts: list[str], node: Node, mark: Mark, path: str, report: Report) -> Map:
    """A copy of `lower` with `node` laid at the end of a path; what that creates stands where the path is written."""
    result = Map(dict(lower.items), dict(lower.keys), lower.path, lower.mark)
    key, *rest = parts
    if not rest:
        _lay(result, key, node, mark, report)
        return result
    path = child_path(path, key)
    below = result.items.get(key)
    if not isinstance(below, Map):
        below = Map({}, {}, path, mark)
        result.keys[key] = mark
    result.items[key] = _put(below, rest, node, mark, path, report)
    return result


def _lay(result: Map, key: str, node: Node, mark: Mark, report: Report) -> None:
    if is_null(node) and key not in NULLABLE:
        if key not in result.items:
            report.add(mark, node.path, f"there is no {short(key)!r} here to take away", "a key that is set")
        result.items.pop(key, None)
        result.keys.pop(key, None)
        return
    result.items[key] = overlay(result.items.get(key), node, report)
    result.keys[key] = mark
