"""The constants of passes that are launched kernel by kernel (`eager.py`), as the file of a device has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Annotated, Any, get_args

from annotated_types import Ge, Gt, MinLen

from llmprof.latency.eager import FAMILY, Constants, EagerModel
from llmprof.latency.in_pass import InPass, LeafKind, Surroundings
from llmprof.work import Family

NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
AtLeastOne = Annotated[float, Ge(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The constants of one kind of kernel, or of a whole family where `kind` is empty (`eager.Constants`)."""

    family: Family
    kind: str
    t0: NotNegative
    per_product: NotNegative
    flops_per_s: Positive | None
    cached_bytes_per_s: Positive
    slowdown: AtLeastOne
    cache_bytes: AtLeastOne
    overlap: Annotated[float, Ge(0.5)]
    low: Positive
    high: AtLeastOne
    points: Annotated[int, Ge(1)]
    error: NotNegative


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What one kind of leaf takes inside a pass (`in_pass.Surroundings`)."""

    kind: LeafKind
    module_s: NotNegative
    kernel_s: NotNegative
    factor: NotNegative


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """`in_pass.InPass`."""

    low: Positive
    high: AtLeastOne
    passes: Annotated[int, Ge(1)]
    error: NotNegative
    leaves: Annotated[tuple[Leaf, ...], MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerEntry:
    """Of one dtype. `in_pass` is of a CPU, `host_s` of a GPU; `measured` and `torch` if they are not the profile's."""

    kernels: tuple[Kernel, ...]
    in_pass: Inside | None = None
    host_s: NotNegative | None = None
    measured: Annotated[str, MinLen(1)] | None = None
    torch: Annotated[str, MinLen(1)] | None = None


BELOW = "at most 1: what is predicted lies within its interval"


def problems(entry: EagerEntry, *, cpu: bool) -> Iterator[tuple[str, str]]:
    """(path within `entry`, what was expected) of everything that types cannot see; the path "" is the entry itself."""
    own = [(each.family, each.kind) for each in entry.kernels]
    for number, each in enumerate(entry.kernels):
        if own[number] in own[:number]:
            yield f"kernels.{number}.kind", "one entry for each family and kind"
        if each.low > 1:
            yield f"kernels.{number}.low", BELOW
    lacking = [family for family in get_args(Family) if (family, FAMILY) not in own]
    if lacking:
        yield "kernels", f"an entry with the kind '' for the whole family of each: {', '.join(lacking)} has none"
    if cpu and (entry.in_pass is None or entry.host_s is not None):
        yield "", "in_pass, and no host_s: this is a CPU"
    elif not cpu and (entry.in_pass is not None or entry.host_s is None):
        yield "", "host_s, and no in_pass: this is a GPU"
    if entry.in_pass is not None:
        if entry.in_pass.low > 1:
            yield "in_pass.low", BELOW
        yield from _of_leaves(entry.in_pass.leaves)


def _of_leaves(leaves: tuple[Leaf, ...]) -> Iterator[tuple[str, str]]:
    kinds = [leaf.kind for leaf in leaves]
    if "mover" not in kinds or len(set(kinds)) < len(kinds):
        yield "in_pass.leaves", "each kind once, and mover among them"
    for number, leaf in enumerate(leaves):
        if not leaf.module_s + leaf.kernel_s + leaf.factor:
            yield f"in_pass.leaves.{number}.factor", "a leaf that takes some time: one of its three above 0"


def model_of(entry: EagerEntry) -> EagerModel:
    """The constants themselves."""
    constants: dict[tuple[str, str], Constants] = {}
    for each in entry.kernels:
        values = {name: getattr(each, name) for name in Constants.__dataclass_fields__}
        if each.flops_per_s is None:
            values["flops_per_s"] = inf
        constants[each.family, each.kind] = Constants(**values)
    return EagerModel(
        constants=constants,
        in_pass=None if entry.in_pass is None else _inside(entry.in_pass),
        host_s=entry.host_s,
        measured=entry.measured,
        torch=entry.torch,
    )


def _inside(written: Inside) -> InPass:
    leaves = {
        each.kind: Surroundings(module_s=each.module_s, kernel_s=each.kernel_s, factor=each.factor)
        for each in written.leaves
    }
    return InPass(leaves=leaves, low=written.low, high=written.high, passes=written.passes, error=written.error)


def written(model: EagerModel) -> dict[str, object]:
    """What `model_of` reads, as YAML has it: six digits of what is no whole number."""
    kernels = []
    for (family, kind), constants in model.constants.items():
        values = asdict(constants)
        if constants.flops_per_s == inf:
            values["flops_per_s"] = None
        kernels.append({"family": family, "kind": kind, **_shortened(values)})
    made = {"measured": model.measured, "torch": model.torch}
    document: dict[str, object] = {key: value for key, value in made.items() if value is not None}
    if model.in_pass is not None:
        inside = asdict(model.in_pass)
        inside["leaves"] = [{"kind": kind, **_shortened(leaf)} for kind, leaf in inside["leaves"].items()]
        document["in_pass"] = _shortened(inside)
    if model.host_s is not None:
        document["host_s"] = _short(model.host_s)
    return {**document, "kernels": kernels}


def _shortened(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _short(value) for key, value in values.items()}


def _short(value: Any) -> Any:
    """More than six digits of a measured time is noise."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
