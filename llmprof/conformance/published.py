"""The published figure as a witness, and the config.json as one of what the spec says. No torch."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from llmprof.conformance.configs import ConfigFile
from llmprof.conformance.rows import Row, compared, unmeasured
from llmprof.errors import InputError
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec, LayerSpec, Sinusoidal, Stack

NOT_COMPARED = frozenset({"name", "aliases", "variant", "sources", "published", "release", "stacks"})
"""Fields that are no part of the architecture, and the stacks, which are compared layer by layer."""

UNSAID = ("max_context", "mtp")
"""Fields that the configs of some classes do not have: there the config says nothing, and is not held against us."""

SHOWN = 6
"""How many fields that differ a note names."""


def published_row(arch: ArchSpec) -> Row:
    """The total that others print, held against ours.

    A rounded one agrees where ours has its digits, rounded or cut off. Where it leaves out what is no weight of the
    architecture, it is explained.
    """
    total, published = parameters(arch).total, arch.published
    if published is None or published.params_total is None:
        return unmeasured("params_total", "published", "no published figure", predicted=total)
    figure = published.params_total
    where = f"{published.source.url}, read {published.source.read}"
    row = compared("params_total", "published", total, figure, note=where)
    if row.verdict == "AGREES":
        return row
    how = fits(total, figure) if published.rounded else None
    if how is not None:
        return replace(row, verdict="AGREES", note=f"{how}; {where}")
    fixed = sinusoids(arch)
    learned = total - fixed
    how = fits(learned, figure) if published.rounded else "exactly" if learned == figure else None
    if fixed and how is not None:
        note = f"without {fixed:,} sinusoids, which are stored and not learned: {learned:,}, {how}; {where}"
        return replace(row, verdict="EXPLAINED", note=note, explanations=("sinusoids-not-counted",))
    return row


def fits(value: int, figure: int) -> str | None:
    """How a printed figure has the first digits of `value`: rounded, halves upwards, or cut off. None: it has not.

    >>> fits(6_658_859_008, 6_700_000_000), fits(540_356_474_880, 540_350_000_000), fits(570_797_056, 568_000_000)
    ('rounded to 2 digits', 'cut off after 5 digits', None)
    """
    digits = len(str(figure).rstrip("0"))
    unit = 10 ** max(0, len(str(value)) - digits)
    word = "digit" if digits == 1 else "digits"
    if (value + unit // 2) // unit * unit == figure:
        return f"rounded to {digits} {word}"
    return f"cut off after {digits} {word}" if value // unit * unit == figure else None


def sinusoids(arch: ArchSpec) -> int:
    """Values of tables of sinusoids that a class stores as parameters."""
    by_path = parameters(arch).by_path
    tables = (f"{stack.prefix}pos_embed" for stack in arch.stacks if isinstance(stack.embedded_position, Sinusoidal))
    return sum(by_path.get(table, 0) for table in tables)


def config_row(arch: ArchSpec, config: ConfigFile) -> Row:
    """What the importer makes of the config, held against the spec: 0 fields may differ."""
    from llmprof.importing.read import read_config

    try:
        imported = read_config(config.path).spec.base
    except InputError as error:
        reason = f"not imported: {str(error).splitlines()[0]}"
        return unmeasured("architecture", "config.json", reason, predicted=0)
    found = differences(arch, imported)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return compared("architecture", "config.json", 0, len(found), note="; ".join(found[:SHOWN]) + more)


def differences(ours: ArchSpec, theirs: ArchSpec) -> list[str]:
    """The fields of two architectures that differ, in words: ``path: value of ours, value of theirs``."""
    found = [
        text
        for field in fields(ArchSpec)
        if field.name not in NOT_COMPARED and not (field.name in UNSAID and getattr(theirs, field.name) is None)
        for text in _below(field.name, _plain(getattr(ours, field.name)), _plain(getattr(theirs, field.name)))
    ]
    if len(ours.stacks) != len(theirs.stacks):
        return [*found, f"stacks: {len(ours.stacks)} in the spec, {len(theirs.stacks)} in the config"]
    for a, b in zip(ours.stacks, theirs.stacks, strict=True):
        found += _of_stacks(a, b)
    return found


def _of_stacks(a: Stack, b: Stack) -> list[str]:
    found = [
        text
        for field in fields(Stack)
        if field.name != "layers"
        for text in _below(f"{a.prefix}{field.name}", _plain(getattr(a, field.name)), _plain(getattr(b, field.name)))
    ]
    if len(a.layers) != len(b.layers):
        return [*found, f"{a.prefix}layers: {len(a.layers)} in the spec, {len(b.layers)} in the config"]
    seen: dict[str, list[int]] = {}
    for index, (x, y) in enumerate(zip(a.layers, b.layers, strict=True)):
        for text in _below("", _plain(x), _plain(y)):
            seen.setdefault(text, []).append(index)
    return found + [f"{a.prefix}layers.{_numbers(indices)}.{text}" for text, indices in seen.items()]


def _below(path: str, x: Any, y: Any) -> list[str]:
    """The leaves below two values that differ."""
    if x == y:
        return []
    if isinstance(x, dict) and isinstance(y, dict) and x.get("") == y.get(""):
        keys = dict.fromkeys([*x, *y])
        return [text for key in keys for text in _below(f"{path}.{key}" if path else key, x.get(key), y.get(key))]
    return [f"{path}: {_shown(x)} in the spec, {_shown(y)} in the config"]


def _plain(value: Any) -> Any:
    """A part of a spec as nested mappings, its class under the empty key; the name of a layer's group left out."""
    if hasattr(value, "__dataclass_fields__"):
        left_out = {"group"} if isinstance(value, LayerSpec) else set()
        inside = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in left_out}
        return {"": type(value).__name__, **inside}
    return value


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("kind") or value.get(""))
    if hasattr(value, "__dataclass_fields__"):
        return str(getattr(value, "kind", type(value).__name__))
    return repr(value)


def _numbers(indices: list[int]) -> str:
    return str(indices[0]) if len(indices) == 1 else f"{{{indices[0]}..{indices[-1]}, {len(indices)} layers}}"
