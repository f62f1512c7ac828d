"""The strict YAML front end: text in, a tree of `nodes` with line numbers out, or a SpecError.

It reads PyYAML's *events*, from libyaml where that is built in, and builds the tree itself, without
recursion: the constructors of PyYAML keep no line numbers, accept duplicate keys and follow YAML 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from llmprof.spec.nodes import Map, Mark, Node, Scalar, Seq, child_path, short, shown
from llmprof.spec.problems import Report
from llmprof.spec.scalars import resolve

MAX_DEPTH = 32
MAX_NODES = 20_000

# The characters that YAML does not call printable. libyaml and PyYAML disagree on how to report them.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_HINTS = {
    "cannot start any token": "indent with spaces, and quote text that begins with a special character",
    "mapping values are not allowed": "quote text that contains ': '",
    "expected ',' or": "a bracket or brace is not closed, or a comma is missing",
    "could not find expected ':'": "a key is followed by ': ' and its value",
}


A_SPEC = "a mapping with keys such as 'name:' and 'd_model:'"


def parse(text: str, *, file: str, pure: bool = False, root: str = A_SPEC) -> Map:
    """The tree of one YAML document whose root is a mapping.

    `root` says what is expected where there is none. `pure` forces PyYAML's own parser instead of libyaml's. Raises
    SpecError with every problem of form that can be told apart; a syntax error is the last one, for nothing after it
    can be trusted.
    """
    report = Report(file)
    bad = UNPRINTABLE.search(text)
    if bad:
        report.add(_place(text, bad.start()), "", f"found the control character {bad.group()!r}", "printable text")
        report.raise_if_any()
    # PyYAML refuses a tab where libyaml takes it for a space; so that a file means the same everywhere, none is taken.
    tab = text.find("\t")
    if tab >= 0:
        report.add(_place(text, tab), "", "found a tab", "spaces", "inside double quotes a tab is written \\t")
        report.raise_if_any()
    builder = _Builder(report)
    try:
        for event in _events(text, pure):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = f"not valid YAML: {error.problem or error.context}"
        hint = next((hint for words, hint in _HINTS.items() if words in found), None)
        report.add(_mark(mark) if mark else None, "", found, "", hint)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Escapes outside Unicode leave PyYAML as bare ValueErrors.
        report.add(None, "", f"not valid YAML: {short(str(error).splitlines()[0] if str(error) else 'unreadable')}")
    report.raise_if_any()
    tree = builder.root
    if tree is None or (isinstance(tree, Scalar) and tree.value is None):
        report.add(Mark(1, 1), "", "the file is empty", root)
    elif not isinstance(tree, Map):
        report.value(tree, root)
    report.raise_if_any()
    assert isinstance(tree, Map)
    return tree


def _events(text: str, pure: bool) -> Iterator[Any]:
    loader = yaml.SafeLoader if pure else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    return events


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _place(text: str, offset: int) -> Mark:
    before = text[:offset]
    return Mark(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("anchor", "flow", "height", "key", "key_mark", "node", "size")

    def __init__(self, node: Seq | Map, anchor: str | None, flow: bool) -> None:
        self.flow = flow
        self.node = node
        self.anchor = anchor
        self.key: str | None = None
        self.key_mark = node.mark
        self.size = 1
        self.height = 1


class _Builder:
    """Turns events into nodes. `size` and `height` count aliases as if written out."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.root: Node | None = None
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int, int] | None] = {}
        self.total = 0
        self.documents = 0

    def take(self, event: Any) -> None:
        """One event. Raises SpecError where going on would be unsafe or pointless."""
        match event:
            case yaml.ScalarEvent():
                self._count(event, 1, 1)
                self._tagless(event)
                self._attach(self._scalar(event), event, 1, 1, event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._count(event, 1, 1)
                self._tagless(event)
                path, mark = self._path(), _mark(event.start_mark)
                is_map = isinstance(event, yaml.MappingStartEvent)
                node = Map({}, {}, path, mark) if is_map else Seq([], path, mark)
                self.open.append(_Open(node, event.anchor, bool(event.flow_style)))
                if event.anchor is not None:
                    self.anchors[event.anchor] = None  # open: an alias to it would contain itself
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self.open.pop()
                self._attach(done.node, None, done.size, done.height, done.anchor)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self._fatal(event, "a second document starts here", "one document in a file")

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            self._fatal(event, f"the alias *{short(event.anchor)} has no anchor before it", "its anchor further up")
        known = self.anchors[event.anchor]
        if known is None:
            self._fatal(event, f"the alias *{short(event.anchor)} contains itself", "an alias of something complete")
        else:
            node, size, height = known
            self._count(event, size, height)
            self._attach(node, event, size, height, None)

    def _attach(self, node: Node, event: Any, size: int, height: int, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = (node, size, height)
        if not self.open:
            self.root = node
            return
        top = self.open[-1]
        top.size += size
        top.height = max(top.height, height + 1)
        if isinstance(top.node, Seq):
            top.node.items.append(node)
        elif top.key is None:
            top.key = self._key(node, event)
            top.key_mark = _mark(event.start_mark) if event is not None else node.mark
        else:
            self._member(top.node, top.key, top.key_mark, node)
            top.key = None

    def _member(self, owner: Map, key: str, mark: Mark, node: Node) -> None:
        if key in owner.items:
            path = child_path(owner.path, key)
            self.report.add(
                mark,
                path,
                f"the key {short(key)!r} is written twice",
                "each key once",
                f"the first is on line {owner.keys[key].line}",
            )
            return
        owner.items[key] = node
        owner.keys[key] = mark

    def _key(self, node: Node, event: Any) -> str:
        if not isinstance(node, Scalar):
            self.report.value(node, "a word as the key", found=f"found {shown(node)} as a key")
            return "?"
        if node.text == "<<" and not getattr(event, "style", None):
            self.report.add(
                node.mark,
                node.path,
                "found a merge key '<<'",
                "the keys written out",
                "named groups and variants say what is shared",
            )
        return node.text

    def _scalar(self, event: Any) -> Scalar:
        mark, path, text = _mark(event.start_mark), self._path(), event.value
        value: Any = text
        if UNPRINTABLE.search(text):
            self.report.add(mark, path, f"found a control character in {short(repr(text))}", "printable text")
            text = value = ""
        elif not event.style:
            if "?" in text and any(one.flow for one in self.open):
                # The other thing in which PyYAML and libyaml differ.
                self.report.add(
                    mark, path, f"found an unquoted '?' in {short(text)!r}", "quotes around it inside [] or {}"
                )
            try:
                value = resolve(text)
            except ValueError as error:
                self.report.add(mark, path, f"found {error}", "a number that some model has")
        return Scalar(value, text, path, mark)

    def _path(self) -> str:
        if not self.open:
            return ""
        top = self.open[-1]
        if isinstance(top.node, Seq):
            return child_path(top.node.path, len(top.node.items))
        return child_path(top.node.path, top.key) if top.key is not None else top.node.path

    def _tagless(self, event: Any) -> None:
        if event.tag is not None:
            self.report.add(
                _mark(event.start_mark),
                self._path(),
                f"found the tag {short(event.tag)!r}",
                "a plain value without a tag",
            )

    def _count(self, event: Any, size: int, height: int) -> None:
        self.total += size
        if len(self.open) + height > MAX_DEPTH:
            self._fatal(event, f"nested deeper than {MAX_DEPTH}", f"at most {MAX_DEPTH} levels")
        if self.total > MAX_NODES:
            self._fatal(event, f"more than {MAX_NODES:,} values, counting what aliases expand to", "a smaller file")

    def _fatal(self, event: Any, found: str, expected: str) -> None:
        self.report.add(_mark(event.start_mark), self._path(), found, expected)
        self.report.raise_if_any()
        raise AssertionError("unreachable")
