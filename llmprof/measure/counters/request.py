"""What is to be counted, as it crosses from one process to another: JSON. Torch-free."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llmprof.routing import Routing
from llmprof.spec.arch import ArchSpec
from llmprof.spec.dump import dump
from llmprof.spec.load import load_text
from llmprof.workload import Dtypes, Execution, Workload

Temperature = Literal["cold", "warm"]
"""``cold``: nothing of the pass is in the last-level cache when it begins; ``warm``: a pass like it has just ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Passes of one architecture, in the order in which they run, each once. All have the same dtypes."""

    arch: ArchSpec
    passes: tuple[tuple[Workload, Execution], ...]
    device: str
    temperature: Temperature = "cold"
    seed: int = 0

    def to_json(self) -> str:
        """The request as text."""
        return json.dumps(
            {
                "spec": dump(self.arch),
                "variant": self.arch.variant,
                "passes": [[asdict(workload), asdict(execution)] for workload, execution in self.passes],
                "device": self.device,
                "temperature": self.temperature,
                "seed": self.seed,
            }
        )


def from_json(text: str) -> Request:
    """The request that `to_json` wrote."""
    found: dict[str, Any] = json.loads(text)
    return Request(
        arch=load_text(found["spec"], "the request").arch(found["variant"]),
        passes=tuple((_workload(workload), Execution(**execution)) for workload, execution in found["passes"]),
        device=found["device"],
        temperature=found["temperature"],
        seed=found["seed"],
    )


def _workload(found: dict[str, Any]) -> Workload:
    return Workload(**{**found, "dtypes": Dtypes(**found["dtypes"]), "routing": Routing(**found["routing"])})
