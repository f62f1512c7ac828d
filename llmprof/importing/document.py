"""The spec that a family's table makes of a config: a mapping whose leaves may be `Read`s, as YAML and as a tree.

The tree keeps the places of the config, so that a rule of the spec language that is broken is reported at the line of
the field that broke it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmprof.importing.config import Read
from llmprof.importing.jsontext import JsonText
from llmprof.spec.nodes import Map, Mark, Node, Scalar, Seq, child_path

Doc = dict[str, Any]
"""A document of the spec language. Values are plain, `Read`s of plain values, or `Doc`s; ``None`` keys are left out."""


class Left:
    """Stands for a key that is not written."""


LEFT_OUT = Left()
"""What a table puts where the language's own default is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What is known of one value of the document: its dotted path, the fields it came from, and its note."""

    path: str
    keys: tuple[str, ...]
    note: str | None


def plain(doc: Doc) -> Doc:
    """The document without its reads and without what is left out."""
    found: Doc = _plain(doc)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Read):
        return _plain(value.value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not isinstance(_value(item), Left)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _value(item: Any) -> Any:
    return item.value if isinstance(item, Read) else item


def leaves(doc: Doc, path: str = "") -> Iterator[Leaf]:
    """Every value that was read, in the order of the document."""
    for key, item in doc.items():
        if isinstance(_value(item), Left):
            continue
        at = child_path(path, key)
        if isinstance(item, Read):
            yield Leaf(path=at, keys=item.keys, note=item.note)
        if isinstance(_value(item), dict):
            yield from leaves(_value(item), at)


def placed(tree: Map, doc: Doc, source: JsonText) -> Map:
    """The tree with the places of `source`; what no field says stands where the file begins."""
    keys = {leaf.path: leaf.keys for leaf in leaves(doc) if leaf.keys}
    found = _placed(tree, "", keys, source)
    assert isinstance(found, Map)
    return found


def _placed(node: Node, at: str, keys: dict[str, tuple[str, ...]], source: JsonText) -> Node:
    own = keys.get(at)
    mark, path = (source.mark(own[0]), own[0]) if own else (Mark(1, 1), node.path)
    if isinstance(node, Scalar):
        return Scalar(node.value, node.text, path, mark)
    if isinstance(node, Seq):
        items = [_placed(item, child_path(at, i), keys, source) for i, item in enumerate(node.items)]
        return Seq(items, path, mark)
    items_of = {key: _placed(item, child_path(at, key), keys, source) for key, item in node.items.items()}
    return Map(items_of, {key: item.mark for key, item in items_of.items()}, node.path, mark)
