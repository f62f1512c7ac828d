"""Every field of every case left out, and null: an import is as the class builds it then, or refused.

What a class takes for granted is not the same alone and inside a model of several towers, and null is not always absent.
``architectures`` is no field of a class: it says which one is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tests.importing import EVERYTHING, Case, both_totals, cases

CASES = [case for case in cases() if not case.params]
KEPT = frozenset({"architectures", "model_type", "text_config"})


def without(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what was done, config) for each field, of the whole and of its tower of text."""
    for path in ("", "text_config"):
        inner = config.get(path) if path else config
        for key in inner if isinstance(inner, dict) else ():
            if key in KEPT:
                continue
            for value in ("absent", None):
                changed = deepcopy(config)
                of = changed[path] if path else changed
                of[key] = value
                if value == "absent":
                    del of[key]
                yield f"{path or 'the whole'}: {key} {value or 'null'}", changed


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model_type}: {case.head}")
def test_what_is_not_said_is_what_the_class_takes_for_granted(case: Case) -> None:
    wrong = []
    for number, (done, changed) in enumerate(without(dict(case.configs())["as it stands"])):
        if not EVERYTHING and number % 4 != len(case.model_type) % 4:  # another quarter in each family
            continue
        totals = both_totals(case, changed)
        if totals is None:
            continue
        ours, theirs = totals
        if ours != theirs:
            wrong.append(f"{done}: {ours:,} parameters here, {theirs:,} in the class")
    assert not wrong, "\n".join(wrong)
