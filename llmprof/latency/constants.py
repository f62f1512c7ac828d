"""Which constants a device's kernels have: its own where they were fitted, those of its family, or none.

A name or a device is looked up once. Kernels are keyed by what they compute, the dtype of weights or cache, and the
engine that carries them; what is asked for and was not fitted is served by the nearest that was, and the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from llmprof import device as catalogue
from llmprof.device_figures import Device, KernelConstants
from llmprof.latency.figures import FAMILIES, Figures, borrowed, fitted, of_datasheet

Basis = Literal["calibrated", "family", "datasheet"]

NEAREST = {"fp8": ("fp8_block",), "fp8_block": ("fp8",), "fp4": ("fp8", "fp8_block")}
"""What a dtype without constants is taken for before bf16, which the others are multiplied in or have the rates of."""

SAME = {("fp16", "bf16")}
"""Dtypes whose constants are each other's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Constants of one kernel with the figures of the device that they are asked about."""

    kernel: KernelConstants
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a time is computed from: the constants of one device, or of several whose times are averaged."""

    bounds: tuple[Bound, ...]
    basis: Basis
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A fitted device as seen from the one that is asked about."""

    name: str
    figures: Figures
    kernels: tuple[KernelConstants, ...]
    missing: tuple[str, ...]


class DeviceModel:
    """A device as the latency models see it. Compared by identity, so that estimates are remembered per model."""

    def __init__(
        self,
        name: str,
        figures: Figures,
        *,
        own: tuple[KernelConstants, ...] = (),
        family: tuple[_Candidate, ...] = (),
        others: tuple[_Candidate, ...] = (),
        note: str = "",
    ) -> None:
        self.name, self.figures, self.note = name, figures, note
        self._own, self._family, self._others = own, family, others
        self._found: dict[tuple[str, str, str | None], Found | None] = {}

    @staticmethod
    def of(device: str | Device) -> DeviceModel:
        """The model of a device of the catalogue, or of any other. InputError for an unknown name, or no figures."""
        found = catalogue.find(device) if isinstance(device, str) else device
        if catalogue.called(found.name) is found:
            return _catalogued(found.name)
        return _model(found)

    @staticmethod
    def unknown(name: str) -> DeviceModel:
        """Of a device that nobody described: what all fitted ones would take, each with its own figures."""
        return _unknown(name)

    def with_figures(self, figures: Figures) -> DeviceModel:
        """The same kernels on a device with these figures, each fraction being of the new figure."""

        def moved(candidate: _Candidate) -> _Candidate:
            return replace(candidate, figures=figures)

        family, others = tuple(map(moved, self._family)), tuple(map(moved, self._others))
        return DeviceModel(self.name, figures, own=self._own, family=family, others=others, note=self.note)

    def with_kernels(self, kernels: tuple[KernelConstants, ...], figures: Figures) -> DeviceModel:
        """The device with constants that were measured here, which come before those of its file."""
        measured = {(each.op, each.dtype, each.engine) for each in kernels}
        kept = tuple(each for each in self._own if (each.op, each.dtype, each.engine) not in measured)
        return DeviceModel(
            self.name, figures, own=kernels + kept, family=self._family, others=self._others, note=self.note
        )

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
        for candidates, kind in ((self._family, "its family"), (self._others, "other families, whose kernels differ")):
            picked = [(each, found) for each in candidates if (found := _pick(each.kernels, op, dtype, engine))]
            if picked:
                names = ", ".join(each.name for each, _ in picked)
                missing = dict.fromkeys(text for each, _ in picked for text in each.missing)
                notes = [f"constants of {names} ({kind})", *missing, *dict.fromkeys(f[2] for _, f in picked if f[2])]
                bounds = tuple(Bound(kernel=found[0], figures=each.figures) for each, found in picked)
                return Found(bounds=bounds, basis="family", note="; ".join(notes))
        return None


def _pick(
    kernels: tuple[KernelConstants, ...], op: str, dtype: str, engine: str | None
) -> tuple[KernelConstants, bool, str] | None:
    """(constants, whether they are of just this kernel, what was taken instead) of the nearest; None without any."""
    alike = [each for each in kernels if each.op == op]
    wanted = [dtype, *NEAREST.get(dtype, ()), "bf16"]
    for name in wanted:
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


@lru_cache(maxsize=256)
def _catalogued(name: str) -> DeviceModel:
    return _model(catalogue.find(name))


@lru_cache(maxsize=256)
def _unknown(name: str) -> DeviceModel:
    candidates = tuple(
        _Candidate(name=each.name, figures=fitted(each.latency), kernels=each.latency.kernels, missing=())
        for each in catalogue.entries()
        if each.latency is not None
    )
    fastest = max((each.figures for each in candidates), key=lambda figures: figures.bandwidth)
    return DeviceModel(name, fastest, others=candidates, note=f"no device is called {name}")


def _model(device: Device) -> DeviceModel:
    family = FAMILIES.get(device.architecture or "")
    candidates: dict[bool, list[_Candidate]] = {True: [], False: []}
    for other in catalogue.entries() if device.vendor == "nvidia" else ():
        if other.latency is None or other.name == device.name:
            continue
        like = device if device.latency is None else _refitted(device)
        figures, missing = borrowed(like, other.latency, other.name)
        related = family is not None and family == FAMILIES.get(other.architecture or "")
        candidates[related].append(
            _Candidate(name=other.name, figures=figures, kernels=other.latency.kernels, missing=missing)
        )
    closest = [each for each in candidates[True] if _target(each.name) == device.architecture]
    related_ones = tuple(closest or candidates[True])
    if device.latency is not None:
        link = device.interconnect
        own = fitted(device.latency, None if link is None else link.per_direction.value)
        return DeviceModel(
            device.name, own, own=device.latency.kernels, family=related_ones, others=tuple(candidates[False])
        )
    alike = next((each.figures for each in (*related_ones, *candidates[False])), None)
    stated: Figures | None = of_datasheet(device) or alike
    if stated is None:
        from llmprof.errors import InputError

        raise InputError(
            f"{device.name}: the catalogue has no peak or no memory bandwidth of it, and no device like it was fitted; "
            "add them to its file, or measure it with llmprof calibrate"
        )
    return DeviceModel(device.name, stated, family=related_ones, others=tuple(candidates[False]))


def _refitted(device: Device) -> Device:
    """A fitted device whose catalogue lacks a figure that its fit has: with those of the fit."""
    from llmprof.device_figures import Figure

    constants = device.latency
    assert constants is not None
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


def _target(name: str) -> str | None:
    found = catalogue.called(name)
    return None if found is None else found.architecture
