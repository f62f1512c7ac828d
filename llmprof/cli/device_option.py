"""`--device-spec`: an accelerator of the catalogue, whose caches and tiles decide what reaches memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmprof.device import Device

DeviceSpecOption = Annotated[
    str | None,
    typer.Option(
        "--device-spec",
        metavar="NAME",
        help="Also bytes by level on an accelerator such as h200: compulsory, DRAM, L2 to SM, shared memory.",
    ),
]


def parse(name: str | None) -> Device | None:
    """The device of that name, if one was asked for.

    Raises InputError naming the option for a name that is not known, or a device whose last-level cache is not.
    """
    if name is None:
        return None
    from llmprof.device import find
    from llmprof.errors import InputError
    from llmprof.predict.levels import without_cache

    try:
        device = find(name)
    except InputError as error:
        raise InputError(f"--device-spec: {error}") from None
    if device.last_level_cache is None:
        raise InputError(f"--device-spec: {without_cache(device)}")
    return device
