"""Every field of every class changed, one at a time: an import is as the class builds it, or refused. Never wrong.

Which fields decide something is not ours to say here: what transformers' configuration class has is tried, idle or not,
under the names that the class takes. A change that the class itself does not build proves nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from llmprof.importing import families
from llmprof.importing.common import idle
from tests.importing import EVERYTHING, Case, both_totals, cases

OF_A_TOWER = frozenset(
    {
        "head_dim",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "tie_word_embeddings",
        "vocab_size",
    }
)
"""Fields of a tower of text that are changed inside the whole."""

BY_TYPE = {model_type: [c for c in cases() if c.model_type == model_type] for model_type in families.known()}
BUILT = [name for name, found in BY_TYPE.items() if any(not case.params for case in found)]


def changes(value: Any) -> list[Any]:
    """Other values of the kind that a field has."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value * 2, value + 1, max(value // 2, 1), 0]
        case float():
            return [value * 2, value / 2]
        case str():
            return ["relu", "silu", "gelu_new", "swish"]
        case None:
            return [1, 4, 16, True]
        case [*items] if items:
            return [items[::-1], items[:-1], [items[0]] * len(items)]
    return []


def mutations(case: Case, config: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(field, value, config with it) for what the class has beside this config and in it."""
    from transformers import AutoConfig

    made = AutoConfig.for_model(**deepcopy(config))
    yield from _of_one(case, config, made)
    tower = config.get("text_config")
    if case.head == "tower" and tower:
        for key, value, changed in _of_one(case, tower, made.text_config):
            if not EVERYTHING and key not in OF_A_TOWER:  # the tower's own family has the others
                continue
            yield f"text_config.{key}", value, {**config, "text_config": changed}


def _of_one(case: Case, config: dict[str, Any], made: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The same for one object of a config, which the class has made into `made`."""
    aliases = {own: other for other, own in getattr(type(made), "attribute_map", {}).items()}
    known = {key: value for key, value in made.to_dict().items() if not key.startswith("_")}
    for key in {**known, **config}:
        if key == "model_type" or key in case.unlike or (idle(key, 1) and key not in config):
            continue
        tried = changes(config[key] if key in config else known.get(key))
        if tried and not EVERYTHING:
            tried = [tried[sum(key.encode()) % len(tried)]]
        for value in tried:
            changed = {**config, key: value}
            yield key, value, changed
            if EVERYTHING and key in aliases and key not in config:
                yield aliases[key], value, {**config, aliases[key]: value}


def wrong(case: Case, config: dict[str, Any]) -> tuple[list[str], int]:
    """Changes that are imported and come out unlike the class, and how many were imported and built."""
    found, held = [], 0
    for key, value, changed in mutations(case, config):
        totals = both_totals(case, changed)
        if totals is None:
            continue
        ours, theirs = totals
        held += 1
        if ours != theirs:
            found.append(f"{key} = {value!r}: {ours:,} parameters here, {theirs:,} in the class")
    return found, held


@pytest.mark.parametrize("model_type", BUILT)
def test_a_changed_field_is_understood_or_refused(model_type: str) -> None:
    found, held = [], 0
    for case in BY_TYPE[model_type]:
        if not case.params:
            for name, config in case.configs():
                if name == "as it stands" or EVERYTHING:
                    more, some = wrong(case, config)
                    found += [f"{name}: {text}" for text in more]
                    held += some
    assert not found, "\n".join(found)
    assert held > 5, "fields must have been changed and built"
