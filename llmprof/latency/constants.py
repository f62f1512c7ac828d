"""Which constants a device's kernels have: its own where they were fitted, those of its family, or none.

A name or a device is looked up once. Kernels are keyed by what they compute, the dtype of weights or cache, and the
engine that carries them; what is asked for and was not fitted is served by the nearest that was, and the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from llmprof import device as catalogue
from llmprof.device_figures import Device, Figure, KernelConstants, LatencyConstants
from llmprof.errors import InputError
from llmprof.latency.carrying import ALIKE_ENOUGH, borrowed, carried, completed, likeness, slowed
from llmprof.latency.figures import FAMILIES, Figures, fitted, of_datasheet

Basis = Literal["calibrated", "family", "datasheet"]

NEAREST = {"fp8": ("fp8_block",), "fp8_block": ("fp8",), "fp4": ("fp8", "fp8_block")}
"""What a dtype without constants is taken for before bf16, which the others are multiplied in or have the rates of."""

SAME = {("fp16", "bf16")}
"""Dtypes whose constants are each other's."""

PRODUCTS = {"gemm", "moe"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Constants of one kernel with the figures of the device that they are asked about."""

    kernel: KernelConstants
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a time is computed from: the constants of one device, or of several whose times are averaged.

    `weights` are theirs in the mean of log times; they add up to 1.
    """

    bounds: tuple[Bound, ...]
    basis: Basis
    note: str
    weights: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A fitted device as seen from the one that is asked about: `likeness` weighs it beside others."""

    name: str
    target: str | None
    same_target: bool
    likeness: float
    figures: Figures
    kernels: tuple[KernelConstants, ...]
    missing: tuple[str, ...]


class DeviceModel:
    """A device as the latency models see it. Compared by identity, so that estimates are remembered per model.

    `near` are the other devices that were fitted. `bounded` says that the figures are the device's own, so that they
    bound its times.
    """

    def __init__(
        self,
        name: str,
        figures: Figures,
        *,
        own: tuple[KernelConstants, ...] = (),
        near: tuple[_Candidate, ...] = (),
        bounded: bool = True,
    ) -> None:
        self.name, self.figures, self.bounded = name, figures, bounded
        self._own, self._near = own, near
        self._found: dict[tuple[str, str, str | None], Found | None] = {}

    @staticmethod
    def of(device: str | Device) -> DeviceModel:
        """The model of a device of the catalogue, or of any other. InputError for an unknown name, or no figures."""
        found = catalogue.find(device) if isinstance(device, str) else device
        if catalogue.called(found.name) is found:
            return _catalogued(found.name)
        # By identity: a device has mappings, which cannot be hashed, and estimates are remembered for each model.
        if id(found) not in _described:
            if len(_described) >= MOST_DESCRIBED:
                _described.clear()
            _described[id(found)] = (found, _model(found))
        return _described[id(found)][1]

    def with_figures(self, figures: Figures) -> DeviceModel:
        """The same kernels on a device with these figures, each fraction being of the new figure."""
        near = tuple(replace(each, figures=figures) for each in self._near)
        return DeviceModel(self.name, figures, own=self._own, near=near)

    def with_kernels(self, kernels: tuple[KernelConstants, ...], figures: Figures) -> DeviceModel:
        """The device with constants that were measured here, which come before those of its file."""
        measured = {(each.op, each.dtype, each.engine) for each in kernels}
        kept = tuple(each for each in self._own if (each.op, each.dtype, each.engine) not in measured)
        return DeviceModel(self.name, figures, own=kernels + kept, near=self._near)

    def constants(self, op: str, dtype: str, engine: str | None) -> Found | None:
        """What times of `op` are computed from; None where no device like it was fitted: the datasheet is left."""
        key = (op, dtype, engine)
        if key not in self._found:
            self._found[key] = self._look_up(op, dtype, engine)
        return self._found[key]

    def _look_up(self, op: str, dtype: str, engine: str | None) -> Found | None:
        own = _pick(self._own, op, dtype, engine)
        if own is not None:
            kernel, exact, said = own
            basis: Basis = "calibrated" if exact else "family"
            return Found(bounds=(Bound(kernel=kernel, figures=self.figures),), basis=basis, note=said)
        picked = [(each, found) for each in self._near if (found := _pick(each.kernels, op, dtype, engine))]
        if op in PRODUCTS and not all(_wider(dtype, found[0]) for _, found in picked):
            picked = [(each, found) for each, found in picked if not _wider(dtype, found[0])]
        if any(each.same_target for each, _ in picked):
            picked = [(each, found) for each, found in picked if each.same_target]
        weights = _weights([each for each, _ in picked])
        picked = [pair for pair, weight in zip(picked, weights, strict=True) if weight]
        if not picked:
            return None
        weights = [weight for weight in weights if weight]
        missing = dict.fromkeys(text for each, _ in picked for text in each.missing)
        notes = [_named([each for each, _ in picked], weights), *missing]
        notes += dict.fromkeys(found[2] for _, found in picked if found[2])
        bounds = tuple(Bound(kernel=found[0], figures=each.figures) for each, found in picked)
        return Found(bounds=bounds, basis="family", note="; ".join(notes), weights=tuple(weights))


def _weights(candidates: list[_Candidate]) -> list[float]:
    """Parts of a mean: by likeness, which devices of one target share; 0 for what is hardly like the device at all."""
    targets = [each.target for each in candidates]
    found = [each.likeness / targets.count(each.target) for each in candidates]
    least = ALIKE_ENOUGH * max(found, default=0.0)
    kept = [weight if weight >= least else 0.0 for weight in found]
    return [weight / sum(kept) for weight in kept]


def _named(candidates: list[_Candidate], weights: list[float]) -> str:
    names = [each.name for each in candidates]
    if candidates[0].same_target:
        return f"constants of {', '.join(names)} (the same target)"
    if len(names) > 1:
        names = [f"{name} {weight:.0%}" for name, weight in zip(names, weights, strict=True)]
    return f"constants of {', '.join(names)} (by likeness)"


def _pick(
    kernels: tuple[KernelConstants, ...], op: str, dtype: str, engine: str | None
) -> tuple[KernelConstants, bool, str] | None:
    """(constants, whether they are of just this kernel, what was taken instead) of the nearest; None without any."""
    alike = [each for each in kernels if each.op == op]
    for name in _wanted(dtype):
        of_dtype = [each for each in alike if each.dtype == name]
        if not of_dtype:
            continue
        same = name == dtype or (dtype, name) in SAME
        instead = "" if same else f"constants of {name} for {dtype}"
        chosen = next((each for each in of_dtype if each.engine == engine), None)
        chosen = chosen or next((each for each in of_dtype if each.engine is None), None)
        if chosen is None:
            # Nobody said whose kernel it is, or nobody fitted that engine's: the first of the file.
            chosen = of_dtype[0]
            if engine is not None:
                instead = "; ".join(filter(None, (instead, f"{chosen.engine}'s kernel for {engine}'s")))
                same = False
        return chosen, same, instead
    return None


def _wanted(dtype: str) -> tuple[str, ...]:
    """Dtypes whose constants are taken for those of `dtype`, the best first."""
    return (dtype, *NEAREST.get(dtype, ()), "bf16")


def _wider(dtype: str, kernel: KernelConstants) -> bool:
    """Whether constants are those of another kind of product: of 16 bits for fewer."""
    return kernel.dtype == "bf16" and dtype != "bf16"


MOST_DESCRIBED = 64
_described: dict[int, tuple[Device, DeviceModel]] = {}
"""Models of devices that are no entries of the catalogue; a device is kept beside, so that its id stays its own."""


@lru_cache(maxsize=256)
def _catalogued(name: str) -> DeviceModel:
    return _model(catalogue.find(name))


def _model(device: Device) -> DeviceModel:
    own = device.latency
    # Whose constants a device has, and what becomes of them, is decided by what the catalogue says of it. One with
    # other figures under its name is that device, made quicker or slower: were it another, more could cost time.
    known = catalogue.called(device.name) or device
    near: tuple[_Candidate, ...] = ()
    if device.vendor == "nvidia":
        whole, origin = (each if own is None else _refitted(each, own) for each in (device, known))
        near = _near(origin) if known is device else _changed(_near(origin), whole)
    if own is not None:
        return DeviceModel(device.name, fitted(own, device), own=own.kernels, near=near)
    stated = of_datasheet(device)
    if stated is not None:
        return DeviceModel(device.name, stated, near=near)
    alike = max(near, key=lambda each: each.likeness, default=None)
    if alike is None:
        raise InputError(
            f"{device.name}: the catalogue has no peak or no memory bandwidth of it, and no device like it was fitted; "
            "add them to its file, or measure it with llmprof calibrate"
        )
    return DeviceModel(device.name, alike.figures, near=near, bounded=False)


def _near(device: Device) -> tuple[_Candidate, ...]:
    """The other devices that were fitted, with the figures of `device` and their constants carried to it."""
    found = []
    family = FAMILIES.get(device.architecture or "")
    whole, instead = completed(device, catalogue.entries())
    for other in catalogue.entries():
        if other.latency is None or other.name == device.name:
            continue
        theirs = fitted(other.latency, other)
        figures, missing = borrowed(whole, theirs, other.name, other.architecture)
        related = family is not None and family == FAMILIES.get(other.architecture or "")
        same = related and other.architecture == device.architecture
        found.append(
            _Candidate(
                name=other.name,
                target=other.architecture,
                same_target=same,
                likeness=likeness(figures, theirs, related),
                figures=figures,
                kernels=(slowed if same else carried)(other.latency.kernels, theirs, figures),
                missing=instead + missing,
            )
        )
    return tuple(found)


def _changed(near: tuple[_Candidate, ...], device: Device) -> tuple[_Candidate, ...]:
    """The same constants with the figures of `device`: its processors are as many and have the clock that they had."""
    whole, instead = completed(device, catalogue.entries())
    found = []
    for each in near:
        other = catalogue.find(each.name)
        assert other.latency is not None
        figures, missing = borrowed(whole, fitted(other.latency, other), other.name, other.architecture)
        units = figures.units if "units" in whole.figures else each.figures.units
        figures = replace(figures, clock=each.figures.clock, units=units)
        found.append(replace(each, figures=figures, missing=instead + missing))
    return tuple(found)


def _refitted(device: Device, constants: LatencyConstants) -> Device:
    """A fitted device with the figures of its fit where its catalogue lacks them."""
    sources = constants.sources
    peaks = {"bf16": Figure(value=constants.bf16, sources=sources), **device.peak_flops}
    if constants.fp8 is not None:
        peaks.setdefault("fp8", Figure(value=constants.fp8, sources=sources))
    return replace(
        device,
        peak_flops=peaks,
        memory_bandwidth=device.memory_bandwidth or Figure(value=constants.memory_bandwidth, sources=sources),
        units=device.units or Figure(value=constants.units, sources=sources),
        last_level_cache=device.last_level_cache or Figure(value=constants.last_level_cache, sources=sources),
    )
