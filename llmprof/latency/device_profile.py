"""The file that `llmprof calibrate` writes: what was fitted on one device, and where and when.

One file has one device and as many dtypes as were calibrated; of a GPU also the constants of served ops, and what the
hosts of deployments add (`served_profile`). It is the strict YAML of specs: what is wrong in one that was edited is
said with its line. The default place is the user's configuration directory, under the device's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen

from llmprof.errors import InputError
from llmprof.latency.eager import EagerModel
from llmprof.latency.eager_profile import EagerEntry, model_of
from llmprof.latency.eager_profile import problems as eager_problems
from llmprof.latency.eager_profile import written as eager_written
from llmprof.latency.served_profile import HostConstant, Served, joined, problems
from llmprof.latency.served_profile import written as plain
from llmprof.spec import source
from llmprof.spec.nodes import Map, Node, Scalar, Seq
from llmprof.spec.problems import Report
from llmprof.spec.validate import check
from llmprof.spec.yamlload import parse
from llmprof.workload import ComputeDtype

SCHEMA_VERSION = 2

WRITTEN = "what `llmprof calibrate` writes, a mapping with keys such as 'device:' and 'dtypes:'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which device was calibrated. Times of another one, or with another number of threads, are no times of this.

    `name` is what the driver or the processor calls itself; `threads` those of torch on a CPU, None on a GPU.
    """

    kind: Literal["cpu", "cuda"]
    name: Annotated[str, MinLen(1)]
    threads: int | None = None

    def __str__(self) -> str:
        return self.name if self.threads is None else f"{self.name}, {self.threads} threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What was fitted. `measured` is the day, `torch` the version whose kernels ran.

    `served` has the constants of the ops that engines launch, None where none were timed.
    """

    device: Identity
    measured: str
    torch: str
    models: Mapping[ComputeDtype, EagerModel]
    served: Served | None = None
    hosts: tuple[HostConstant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Models:
    fp32: EagerEntry | None = None
    tf32: EagerEntry | None = None
    bf16: EagerEntry | None = None
    fp16: EagerEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    schema_version: Literal[2]
    device: Identity
    measured: Annotated[str, MinLen(1)]
    torch: Annotated[str, MinLen(1)]
    dtypes: _Models
    served: Served | None = None
    hosts: tuple[HostConstant, ...] = ()


def default_path(device: Identity) -> Path:
    """Where the profile of `device` lies unless the user says otherwise (XDG base directories, version 0.8)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base else Path.home() / ".config"
    name = re.sub(r"[^a-z0-9]+", "-", str(device).lower()).strip("-")
    return root / "llmprof" / "devices" / f"{name}.yaml"


class OtherVersion(InputError):
    """A profile of another version of llmprof: its constants mean something else."""


def load(path: Path) -> Profile:
    """The profile in a file. SpecError with all its problems, InputError where there is none or of another schema."""
    report = Report(str(path))
    tree = parse(source.read_file(path), file=str(path), root=WRITTEN)
    version = tree.get("schema_version")
    if isinstance(version, Scalar) and isinstance(version.value, int) and version.value != SCHEMA_VERSION:
        raise OtherVersion(
            f"{path}: found schema_version {version.text}; expected {SCHEMA_VERSION}: another version of llmprof wrote "
            "it; run `llmprof calibrate`, which writes it anew"
        )
    written = check(_Document, tree, report)
    if written is not None and written.served is not None:
        for where, expected in problems(written.served):
            report.value(_at(tree, f"served.{where}"), expected)
    for dtype, model in _by_dtype(written):
        assert written is not None
        for where, expected in eager_problems(model, cpu=written.device.kind == "cpu"):
            report.value(_at(tree, f"dtypes.{dtype}.{where}".rstrip(".")), expected)
    hosts = [(each.engine, each.version, each.device) for each in (() if written is None else written.hosts)]
    for number, host in enumerate(hosts):
        if host in hosts[:number]:
            report.value(_at(tree, f"hosts.{number}.engine"), "one entry for each engine, version and device")
    report.raise_if_any()
    assert written is not None
    return Profile(
        device=written.device,
        measured=written.measured,
        torch=written.torch,
        models={dtype: model_of(model) for dtype, model in _by_dtype(written)},
        served=written.served,
        hosts=written.hosts,
    )


def _by_dtype(written: _Document | None) -> Iterator[tuple[ComputeDtype, EagerEntry]]:
    dtypes: tuple[ComputeDtype, ...] = ("fp32", "tf32", "bf16", "fp16")
    for dtype in dtypes:
        model: EagerEntry | None = None if written is None else getattr(written.dtypes, dtype)
        if model is not None:
            yield dtype, model


def find(device: Identity, path: str | None) -> tuple[Profile, Path] | None:
    """The profile that is meant: of `path` where one is named, else that of the default place; None without one.

    InputError where the file is of another device, SpecError where it is wrong. One that another version wrote at the
    default place is none: nobody has named it.
    """
    place = default_path(device) if path is None else Path(path)
    profile = load(place) if path is not None else earlier(place)
    if profile is None:
        return None
    if profile.device != device:
        raise InputError(
            f"{place} is a profile of {profile.device} ({profile.device.kind}), and this is {device} ({device.kind}); "
            "name another, or run `llmprof calibrate`"
        )
    return profile, place


def earlier(place: Path) -> Profile | None:
    """The profile at `place`; None where there is none, or one of another version. SpecError where it is wrong."""
    if not place.is_file():
        return None
    try:
        return load(place)
    except OtherVersion:
        return None


def merged(profile: Profile, before: Profile | None) -> Profile:
    """`profile`, with what `before` has of the same device and `profile` has not."""
    if before is None or before.device != profile.device:
        return profile
    anew = {(each.engine, each.version, each.device) for each in profile.hosts}
    kept = tuple(each for each in before.hosts if (each.engine, each.version, each.device) not in anew)
    timed = profile if profile.models else before  # whose day and version stand at the top
    earlier_ones = {
        dtype: replace(model, measured=model.measured or before.measured, torch=model.torch or before.torch)
        if (before.measured, before.torch) != (timed.measured, timed.torch)
        else model
        for dtype, model in before.models.items()
    }
    return replace(
        profile,
        measured=timed.measured,
        torch=timed.torch,
        models={**earlier_ones, **profile.models},
        served=joined(profile.served, before.served),
        hosts=(*kept, *profile.hosts),
    )


def text(profile: Profile) -> str:
    """The file of `profile`."""
    import yaml

    dtypes = {dtype: eager_written(model) for dtype, model in profile.models.items()}
    document: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "device": {key: value for key, value in asdict(profile.device).items() if value is not None},
        "measured": profile.measured,
        "torch": profile.torch,
        "dtypes": dtypes,
    }
    if profile.served is not None:
        document["served"] = plain(profile.served)
    if profile.hosts:
        document["hosts"] = [plain(each) for each in profile.hosts]
    head = "# What `llmprof calibrate` fitted on one device: seconds, and rates per second (docs/latency.md).\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _at(tree: Map, path: str) -> Node:
    node: Node = tree
    for key in path.split("."):
        assert isinstance(node, Map | Seq)
        node = node.items[key] if isinstance(node, Map) else node.items[int(key)]
    return node
