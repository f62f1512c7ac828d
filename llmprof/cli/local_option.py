"""`--device-profile` of commands that predict served times: what was measured here comes before the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmprof.latency.local import Local

LocalOption = Annotated[
    str | None,
    typer.Option(
        "--device-profile",
        metavar="FILE",
        help="A profile that `llmprof calibrate` wrote on a GPU: its constants, and those of deployments, come before "
        "the catalogue's.",
    ),
]


def parse(device_profile: str | None) -> Local:
    """What the profile has; nothing without one. InputError where it has nothing for this, SpecError where wrong."""
    from llmprof.latency.local import NOTHING, Local

    return NOTHING if device_profile is None else Local.read(device_profile)
