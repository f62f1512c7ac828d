"""What was measured on a user's own device and deployments, in place of what the catalogue and public runs say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmprof import device as catalogue
from llmprof.device_figures import Device
from llmprof.errors import InputError
from llmprof.latency.device_profile import Profile, load
from llmprof.latency.served_profile import HostConstant, applied, host_of
from llmprof.latency.serving.stacks import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """Devices by their name in the catalogue, with constants of their own; and what hosts add to a pass."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    hosts: tuple[HostConstant, ...] = ()

    @staticmethod
    def of(profile: Profile) -> Local:
        """What a profile has for `plan` and `verify`. InputError where its figures are no longer the catalogue's."""
        served = profile.served
        devices = {} if served is None else {served.device: applied(served, catalogue.find(served.device))}
        return Local(devices=devices, hosts=profile.hosts)

    @staticmethod
    def read(path: str) -> Local:
        """The same of a file. InputError where it has neither, SpecError where it is wrong."""
        found = Local.of(load(Path(path)))
        if not found.devices and not found.hosts:
            raise InputError(
                f"{path} has no constants of served ops and none of deployments; run `llmprof calibrate` on a GPU, "
                "or with --served-points"
            )
        return found

    def device(self, device: Device) -> Device:
        """`device` with what was measured of it."""
        return self.devices.get(device.name, device)

    def stack(self, stack: Stack, version: str, device: Device) -> Stack:
        """`stack` with its own constant on `device`. InputError where several versions have one, and none is named."""
        found = host_of(self.hosts, stack.engine, version, device.name)
        return stack if found is None else stack.with_step(found.step_s, found.basis)


NOTHING = Local()
"""Nothing was measured here."""
