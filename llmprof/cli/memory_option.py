"""`profile --device-spec`: an accelerator of the catalogue below whose cache the passes are simulated.

And `--device-profile`: the constants of the local device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.profiling import Request, Result

DeviceSpecOption = Annotated[
    str | None,
    typer.Option(
        "--device-spec",
        metavar="NAME",
        help="An accelerator of the catalogue such as h200: also confirm the bytes that reach its memory, by a "
        "simulated cache. Counters are held against it too; without it, against the device of the driver's name.",
    ),
]

DeviceProfileOption = Annotated[
    str | None,
    typer.Option(
        "--device-profile",
        metavar="FILE",
        help="Constants that llmprof calibrate fitted on this device: predict times too. By default those of its last "
        "run here.",
    ),
]

Run = Callable[["Request", "Result", Callable[[str], None]], None]


def below_cache(run: Run, device_spec: str | None, *, counted: bool) -> Run:
    """`run`, and then the bytes that reach the memory of a device, where one is named.

    InputError where it is not known, or nothing can be said of its cache. Where its counters are read (`counted`) that
    is a note: they have enough to be held against.
    """
    if device_spec is None:
        return run
    from llmprof.device import find
    from llmprof.predict.levels import without_cache

    device = find(device_spec)
    known = device.last_level_cache is not None
    if not known and not counted:
        raise InputError(without_cache(device))

    def both(request: Request, result: Result, progress: Callable[[str], None]) -> None:
        from llmprof.profiling.dram import confirm_memory

        run(request, result, progress)
        if not known:
            result.notes.append(without_cache(device))
        if result.interrupted or not known:
            return
        try:
            confirm_memory(request, result, device, progress)
        except KeyboardInterrupt:
            result.interrupted = True
            result.notes.append("interrupted: what reaches memory was not simulated")

    return both
