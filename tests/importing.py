"""Cases of import: a small config of a family and the ways in which released configs differ from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, Literal

from llmprof.errors import LlmprofError
from llmprof.importing.jsontext import decode
from llmprof.importing.read import Imported, import_config
from llmprof.predict.parameters import parameters
from tests import import_cases
from tests.import_towers import tower_total

EVERYTHING = os.environ.get("LLMPROF_EVERY") == "1"
"""Whether tests try every variation and every value of a field, which takes an hour; by default a part that is fixed."""


Head = Literal["causal-lm", "own-causal-lm", "seq2seq-lm", "speech-lm", "masked-lm", "base", "tower"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A config of one ``model_type``, small enough to build, and variations: name -> fields that change.

    `head` is the transformers class that it is built as; of a `tower` the text alone counts. `params` is the exact count
    where transformers has no class of the family: by hand in a comment, or published. A field that a variation sets to
    `ABSENT` is taken out. `unlike` are the fields at which the class is not followed, because it is known to err; the
    family's table says how.
    """

    model_type: str
    config: Mapping[str, Any]
    variations: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    head: Head = "causal-lm"
    params: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    unlike: Set[str] = frozenset()

    def configs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every config of the case by name, the first as it stands."""
        for name, changes in {"as it stands": {}, **self.variations}.items():
            made = {"model_type": self.model_type, **self.config, **changes}
            yield name, deepcopy({key: value for key, value in made.items() if value is not ABSENT})


ABSENT = object()


def cases() -> list[Case]:
    """All cases of `tests/import_cases`."""
    found: list[Case] = []
    for module in iter_modules(import_cases.__path__):
        found += import_module(f"tests.import_cases.{module.name}").CASES
    return found


def build_total(case: Case, config: Mapping[str, Any]) -> int:
    """How many parameters transformers' model of a config has, tied ones once, built on meta."""
    import torch
    import transformers

    if case.head == "tower":
        return tower_total(dict(config))
    made = transformers.AutoConfig.for_model(**deepcopy(dict(config)))
    made = made.get_text_config() if case.head == "causal-lm" else made
    if case.head == "own-causal-lm":  # a class that AutoModelForCausalLM does not know
        own: Any = getattr(transformers, type(made).__name__.removesuffix("Config") + "ForCausalLM")
        with torch.device("meta"):
            return sum(p.numel() for p in own(made).parameters())
    auto: Any = {
        "causal-lm": transformers.AutoModelForCausalLM,
        "seq2seq-lm": transformers.AutoModelForSeq2SeqLM,
        "speech-lm": transformers.AutoModelForSpeechSeq2Seq,
        "masked-lm": transformers.AutoModelForMaskedLM,
        "base": transformers.AutoModel,
    }[case.head]
    with torch.device("meta"):
        model: Any = auto.from_config(made)
    # What corrects the choice of experts is a buffer in every class but one, and no parameter here.
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith("e_score_correction_bias"))


def imported(config: Mapping[str, Any]) -> Imported:
    """A config given as a mapping, imported."""
    return import_config(decode(json.dumps(config).encode(), "config.json"), None, name="imported")


def both_totals(case: Case, config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Parameters of what is imported and of the class; None where it is refused, or no class can be built of it."""
    try:
        ours = parameters(imported(config).spec.base).total
    except LlmprofError:
        return None
    try:
        return ours, build_total(case, config)
    except Exception:  # whatever a class raises for a config that it cannot build
        return None
