"""What a device holds beside a model and its caches: each part can be said by whoever has measured it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """Bytes of one device, each None where the assumption of docs/planning.md is meant.

    `context_bytes`: the driver's context and the modules of kernels that are loaded. `workspace_bytes`: what libraries
    of matrix products keep. `graph_bytes`: captured graphs. `communication_bytes`: buffers of collectives.
    `kept_free_bytes`: what an engine leaves alone of the device.
    """

    context_bytes: int | None = None
    workspace_bytes: int | None = None
    graph_bytes: int | None = None
    communication_bytes: int | None = None
    kept_free_bytes: int | None = None
