"""Predicted times beside measured ones, and where a miss comes from.

Times are predicted with the constants that `llmprof calibrate` fitted on this device. Without them there are none, and
a note says how to get them: the passes that are run here are those of no engine whose constants others fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmprof.errors import InputError
from llmprof.latency.device_profile import Profile, find
from llmprof.latency.eager import EagerModel, PassTime, pass_time
from llmprof.predict.api import Prediction
from llmprof.workload import ComputeDtype

if TYPE_CHECKING:
    import torch

CONTRIBUTORS = 3
"""How many leaves a miss is explained with."""


def profile_of(device: torch.device, path: str | None) -> Profile | None:
    """The constants of this device: of the file that is named, else of the default place; None without any.

    InputError where the file that is named is not there, of another device or for meta tensors, which take no time;
    SpecError where it is wrong.
    """
    if device.type == "meta":
        if path is not None:
            raise InputError("--device-profile: on meta nothing takes time; leave it out, or name another --device")
        return None
    from llmprof.profiling.calibration import identity

    found = find(identity(device), path)
    return None if found is None else found[0]


def why_none(profile: Profile | None, dtype: ComputeDtype) -> str:
    """Why no time is predicted on a device with this profile, in a dtype that it has no constants of."""
    if profile is None or not profile.models:
        return "times are not predicted: this device is not calibrated; run `llmprof calibrate`"
    return (
        f"times are not predicted: this device is calibrated in {', '.join(profile.models)}; "
        f"run `llmprof calibrate --dtype {dtype}`"
    )


def of_another_torch(fitted: str) -> list[str]:
    """A note where other kernels run here than those of the torch whose times were fitted; else none."""
    import torch

    version = str(torch.__version__)
    said = f"times are predicted with constants of torch {fitted}, and this is {version}; run `llmprof calibrate`"
    return [] if fitted == version else [said]


def predicted_record(
    prediction: Prediction, model: EagerModel, measured_s: float | None, modules: Mapping[str, float]
) -> dict[str, Any]:
    """What a pass should take, in seconds, and beside the measured median how far off that is, leaf by leaf.

    `modules`: measured seconds of leaves by path; none where they were not clocked.
    """
    made = pass_time(prediction, model)
    ratio = None if not measured_s else made.seconds / measured_s
    return {
        "seconds": made.seconds,
        "low_s": made.low,
        "high_s": made.high,
        "basis": "calibrated" if made.known else "calibrated, some kernels as their family",
        "bound": made.bound,
        "ratio": ratio,
        "inside": None if not measured_s else made.low <= measured_s <= made.high,
        "contributors": contributors(made, modules),
    }


def contributors(made: PassTime, modules: Mapping[str, float]) -> list[dict[str, Any]]:
    """The leaves whose predicted and measured times differ most, equal layers together; none without measured ones."""
    rows = []
    for leaf in made.leaves:
        measured = sum(modules.get(path, 0.0) for path in leaf.paths)
        if measured:
            rows.append({"path": leaf.path, "seconds": leaf.seconds, "measured_s": measured})
    rows.sort(key=lambda row: -abs(float(row["seconds"]) - float(row["measured_s"])))  # type: ignore[arg-type]
    return rows[:CONTRIBUTORS]
