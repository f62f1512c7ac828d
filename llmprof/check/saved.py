"""Baselines as files: the values of all quantities of all combinations, and the modules that they are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from llmprof.check.budgets import BudgetFile, Case
from llmprof.check.comparison import LineChange
from llmprof.check.figures import RATIOS, TOTALS, Figures, figures, parts_of_total
from llmprof.check.folding import unfolded
from llmprof.check.layers import Alignment, changes
from llmprof.check.ledgers import Parts
from llmprof.check.quantities import PER_RANK, QUANTITIES
from llmprof.check.verdict import Change, Number
from llmprof.errors import InputError
from llmprof.paths import layer_path
from llmprof.report.collapse import collapse
from llmprof.spec.nodes import short

KIND = "llmprof baseline"
SCHEMA_VERSION = 1
MAX_BYTES = 1 << 28

_ADDITIVE = tuple(name for name in QUANTITIES if name not in (*TOTALS, *RATIOS))

Key = tuple[str, str, str]


def save(budgets: Iterable[BudgetFile]) -> str:
    """The baseline of `budgets` as JSON. Raises InputError where two entries could not be told apart in it."""
    entries: dict[Key, dict[str, Any]] = {}
    owners: dict[Key, Case] = {}
    for case in (case for file in budgets for case in file.cases):
        key = _key(case)
        known = owners.setdefault(key, case)
        if known is case:
            entries[key] = _entry(case)
        elif known.subject.spec.path != case.subject.spec.path:
            place = case.entry.place
            raise InputError(
                f"{place.file}:{place.line}: another entry is called {case.name!r} too, and asks the same of another "
                f"{case.subject.ref!r} ({known.entry.place.file}:{known.entry.place.line}); give one of them a name"
            )
    document = {"kind": KIND, "schema_version": SCHEMA_VERSION, "entries": list(entries.values())}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(case: Case) -> dict[str, Any]:
    made = figures(case.subject.arch, case.workload, case.question.sharding)
    of_rank = PER_RANK if case.question.sharding is not None else ()
    modules: dict[str, dict[str, Number]] = {}
    for quantity in (*_ADDITIVE, *of_rank):
        for path, value in made.parts(quantity).items():
            if value:
                modules.setdefault(path, {})[quantity] = value
    return {
        "name": case.name,
        "spec": case.subject.ref,
        "asked": _asked(case),
        "quantities": {quantity: made.value(quantity) for quantity in (*QUANTITIES, *of_rank)},
        "modules": {
            path: dict(inside)
            for path, _, inside in collapse({path: tuple(inside.items()) for path, inside in modules.items()})
        },
    }


def _asked(case: Case) -> dict[str, Any]:
    """What the entry asks, whatever the spec makes of it: a new default of the spec is a change, not another entry."""
    asked = case.question
    # Absent where none is stated: a file from before there were any is still found.
    spread = {} if asked.sharding is None else {"sharding": asdict(asked.sharding)}
    return {
        **spread,
        "phase": asked.phase,
        "batch": asked.batch,
        "context": asked.context,
        "new_tokens": asked.new_tokens,
        "source_tokens": asked.source_tokens,
        "prefix_tokens": asked.prefix_tokens,
        "logits": asked.logits,
        "dtype": asked.dtypes.activations,
        "weight_dtype": asked.dtypes.weights,
        "kv_dtype": asked.dtypes.kv_cache,
        "group_size": asked.dtypes.group_size,
    }


def _key(case: Case) -> Key:
    return case.name, case.subject.ref, json.dumps(_asked(case), sort_keys=True)


# --- reading ----------------------------------------------------------------------------------


class SavedBaseline:
    """A file that `save` wrote."""

    def __init__(self, label: str, entries: Mapping[Key, _SavedEntry]) -> None:
        self.label = label
        self._entries = entries

    def of(self, case: Case) -> _SavedEntry | str:
        """The combination as it was saved: by the entry's name, its spec and what it asks."""
        found = self._entries.get(_key(case))
        if found is not None:
            return found
        return f"{self.label} has no such entry ({case.name}, {case.subject.ref}); write it with --save-baseline"


class _SavedEntry:
    """One combination as it was saved."""

    def __init__(self, quantities: Mapping[str, Number | None], modules: Mapping[str, Mapping[str, Number]]) -> None:
        self._quantities = quantities
        self._modules = modules

    def value(self, quantity: str) -> Number | None:
        return self._quantities.get(quantity)

    def changes(self, quantity: str, now: Figures) -> tuple[Change, ...]:
        before, after = self._parts(quantity), now.parts(quantity)
        return changes(before, after, _by_depth(self._modules, now.parts("params_total")))

    def causes(self) -> tuple[LineChange, ...]:
        return ()  # the spec of that day is not in the file

    def _parts(self, quantity: str) -> Parts:
        if quantity in RATIOS:
            return {}
        if quantity in TOTALS:
            return parts_of_total(quantity, self._parts, self.value)
        return {path: inside[quantity] for path, inside in self._modules.items() if quantity in inside}


def _by_depth(before: Iterable[str], after: Iterable[str]) -> Alignment:
    """Layers answer to each other by their index; the deeper side's last ones are alone."""
    depths: dict[str, list[int]] = {}
    for side, paths in enumerate((before, after)):
        for place in filter(None, map(layer_path, paths)):
            depth = depths.setdefault(place.stack, [0, 0])
            depth[side] = max(depth[side], place.index + 1)
    return Alignment(alone={stack: range(min(pair), max(pair)) for stack, pair in depths.items() if pair[0] != pair[1]})


def load(path: Path) -> SavedBaseline:
    """The baseline in a file. Raises InputError that says where it is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES >> 20} MiB; expected a file of --save-baseline")
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file of --save-baseline, or git:REV") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON document ({error}); expected a file of --save-baseline") from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise InputError(f"{path}: this is no baseline; expected a file of --save-baseline")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version {short(str(version))}, but this llmprof reads {SCHEMA_VERSION}; "
            "write the file anew with --save-baseline"
        )
    reader = _Reader(str(path))
    entries: dict[Key, _SavedEntry] = {}
    for index, each in enumerate(reader.of_type(document.get("entries"), list, "entries")):
        at = f"entries[{index}]"
        reader.of_type(each, dict, at)
        name, spec = (reader.of_type(each.get(key), str, f"{at}.{key}") for key in ("name", "spec"))
        asked = reader.of_type(each.get("asked"), dict, f"{at}.asked")
        key = (name, spec, json.dumps(asked, sort_keys=True))
        if key in entries:
            raise InputError(f"{path}: {at}: this entry is there twice ({short(name)})")
        quantities = reader.numbers(each.get("quantities"), f"{at}.quantities", nullable=True)
        entries[key] = _SavedEntry(quantities, reader.modules(each.get("modules"), f"{at}.modules"))
    return SavedBaseline(str(path), entries)


def _no_number(text: str) -> Number:
    raise ValueError(f"found {text}")


class _Reader:
    """Checks what a JSON file says, place by place."""

    def __init__(self, file: str) -> None:
        self._file = file

    def of_type(self, value: Any, kind: type, at: str) -> Any:
        if isinstance(value, kind):
            return value
        names: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
        found = "nothing" if value is None else short(json.dumps(value))
        raise InputError(f"{self._file}: {at}: found {found}; expected {names[kind]}")

    def numbers(self, value: Any, at: str, *, nullable: bool = False) -> dict[str, Any]:
        made: dict[str, Any] = self.of_type(value, dict, at)
        for key, each in made.items():
            is_number = isinstance(each, int | float) and not isinstance(each, bool) and isfinite(each) and each >= 0
            if not is_number and not (nullable and each is None):
                found = short(json.dumps(each))
                raise InputError(f"{self._file}: {at}.{short(key)}: found {found}; expected a number of at least 0")
        return made

    def modules(self, value: Any, at: str) -> dict[str, dict[str, Number]]:
        made: dict[str, dict[str, Number]] = {}
        for path, inside in self.of_type(value, dict, at).items():
            figures_inside = self.numbers(inside, f"{at}.{short(path)}")
            try:
                made.update((each, figures_inside) for each in unfolded(path))
            except ValueError as error:
                raise InputError(f"{self._file}: {at}: found {short(path)!r} ({error}); expected a path") from None
        return made
