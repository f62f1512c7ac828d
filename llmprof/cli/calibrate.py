"""`llmprof calibrate`: measure the local device, and replace what is assumed about its times by what is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from llmprof.cli import options
from llmprof.cli.messages import bold, progress, say

if TYPE_CHECKING:
    from llmprof.profiling.calibration import Calibrated
    from llmprof.workload import ComputeDtype

DTYPES = ("fp32", "bf16", "fp16")
STEPS = 4
"""How often a stage says how far it is."""


def calibrate(
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N: what is measured.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="LIST", help=f"Of weights and activations: {', '.join(DTYPES)}.")
    ] = "bf16",
    seconds: Annotated[
        str,
        typer.Option("--seconds", metavar="TIME", help="Time for the kernels of each dtype; less is less certain."),
    ] = "90",
    output_format: options.FormatOption = "table",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Where to write the profile of the device, for --device-profile of other commands; without it into "
            "the user's configuration, where they find it.",
        ),
    ] = None,
) -> None:
    """Time single kernels on the local device, and fit the constants that its times are predicted with.

    Writes a profile of the device, and says how far off it is on kernels that were held out. `llmprof profile` then
    shows predicted times beside measured ones. Nothing else should run meanwhile.
    """
    from llmprof.errors import InputError
    from llmprof.latency.device_profile import default_path, load
    from llmprof.report.write import check_writable, write_text

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    dtypes = cast("list[ComputeDtype]", options.choices(dtype, DTYPES, option="--dtype"))
    budget = options.seconds(seconds)
    if not budget:
        raise InputError("--seconds is 0: nothing would be timed; leave it out, or give a time such as 60")
    check_writable(output)
    from llmprof.profiling.calibration import calibrate as run
    from llmprof.profiling.calibration import identity, local_device

    where = local_device(device)
    place = Path(output) if output is not None else default_path(identity(where))
    if place.is_file():
        load(place)  # what is no profile is not overwritten, and that is known before anything is timed
    found: list[Calibrated] = []
    for each in dtypes:
        found.append(run(where, each, seconds=budget, progress=_progress(each)))
        _keep(found, place)  # after every dtype, so that whoever stops here keeps what there is
    write_text(_text(found, place, output_format), None)
    say(f"written: {place}")


def _progress(dtype: str) -> Callable[[str, int, int], None]:
    def show(stage: str, done: int, planned: int) -> None:
        if done == 1 or done * STEPS // planned > (done - 1) * STEPS // planned:
            progress(f"{dtype}: {stage}, {done} of {planned}")

    return show


def _keep(found: list[Calibrated], place: Path) -> None:
    """Write what was fitted; what the same file already has of the same device in other dtypes stays."""
    from llmprof.latency import device_profile
    from llmprof.report.write import write_text

    place.parent.mkdir(parents=True, exist_ok=True)
    last = found[-1]
    models = {each.dtype: each.model for each in found}
    if place.is_file():
        before = device_profile.load(place)
        if before.device == last.device:
            models = {**before.models, **models}
    profile = device_profile.Profile(device=last.device, measured=last.day, torch=last.torch, models=models)
    write_text(device_profile.text(profile), str(place))


def _text(found: list[Calibrated], place: Path, output_format: str) -> str:
    from llmprof.report import tables
    from llmprof.report.calibration_tables import calibration_records, calibration_tables

    records = [record for each in found for record in calibration_records(each)]
    if output_format == "json":
        return tables.to_json({"schema_version": 1, "profile": str(place), "results": records})
    if output_format == "csv":
        return tables.to_csv(records)
    pages = [page for each in found for page in calibration_tables(each)]
    return tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(None))
