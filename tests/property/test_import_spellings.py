"""Every name of a field that a table takes for another: alone, it means to the class what it means here, or is refused.

Releases carry names of the code that they were trained with beside those of the class. A class that does not read such a
name builds with its own default where the file has no other: an import that took it would count another model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import pytest

from llmprof.importing.config import Config
from tests.importing import Case, both_totals, cases, imported

CASES = [case for case in cases() if not case.params]
TOP = frozenset({"", "text_config"})
"""Where a field may stand: nested objects have no second names."""


def spellings(config: dict[str, Any], patch: pytest.MonkeyPatch) -> set[tuple[str, tuple[str, ...]]]:
    """Where fields of several names were looked for, and by which."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    find = Config._find

    def listening(self: Config, keys: Sequence[str]) -> tuple[str, Any] | None:
        if len(keys) > 1 and self.path in TOP:
            seen.add((self.path, tuple(keys)))
        return find(self, keys)

    with patch.context() as patched:
        patched.setattr(Config, "_find", listening)
        imported(config)
    return seen


def alone(config: dict[str, Any], path: str, keys: tuple[str, ...]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(name, value, config that has the field by that name alone), at the value it has and at another."""
    inner = config[path] if path else config
    value = next((inner[key] for key in keys if inner.get(key) is not None), 4)
    others = (
        [not value] if isinstance(value, bool) else [value * 2, max(value // 2, 1)] if isinstance(value, int) else []
    )
    for key in keys:
        for other in (value, *others):
            changed = deepcopy(config)
            of = changed[path] if path else changed
            for name in keys:
                of.pop(name, None)
            yield key, other, changed | ({path: of | {key: other}} if path else {key: other})


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model_type}: {case.head}")
def test_a_name_that_the_class_does_not_read_is_not_taken_for_another(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dict(case.configs())["as it stands"]
    wrong = []
    for path, keys in sorted(spellings(config, monkeypatch)):
        for key, value, changed in alone(config, path, keys):
            totals = both_totals(case, changed)
            if totals is None:
                continue
            ours, theirs = totals
            if ours != theirs:
                wrong.append(f"{key} = {value!r} alone: {ours:,} parameters here, {theirs:,} in the class")
    assert not wrong, "\n".join(wrong)


def test_every_name_of_a_field_is_heard_and_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"model_type": "gpt2", "n_embd": 48, "n_head": 6, "n_layer": 2, "vocab_size": 300}
    assert ("", ("n_embd", "hidden_size")) in spellings(config, monkeypatch)
    tried = [(key, value, "n_embd" in made) for key, value, made in alone(config, "", ("n_embd", "hidden_size"))]
    assert tried[:3] == [("n_embd", 48, True), ("n_embd", 96, True), ("n_embd", 24, True)]
    assert tried[3:] == [("hidden_size", 48, False), ("hidden_size", 96, False), ("hidden_size", 24, False)]
