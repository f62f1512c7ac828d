"""`llmprof calibrate`: measure the local device, and replace what is assumed about its times by what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from llmprof.cli import options
from llmprof.cli.messages import progress, say

if TYPE_CHECKING:
    import torch

    from llmprof.latency.device_profile import Profile
    from llmprof.latency.serving.rows import Runs
    from llmprof.profiling.calibration import Calibrated
    from llmprof.profiling.served_calibration import Found
    from llmprof.workload import ComputeDtype

DTYPES = ("fp32", "bf16", "fp16")
STEPS = 4
"""How often a stage says how far it is."""
EXIT_INTERRUPTED = 130


def calibrate(
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N: what is measured.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="LIST", help=f"Of weights and activations: {', '.join(DTYPES)}.")
    ] = "bf16",
    seconds: Annotated[
        str,
        typer.Option(
            "--seconds",
            metavar="TIME",
            help="Time for the kernels of each dtype; on a CPU a third of it for passes of small models on top, on a "
            "GPU half of it for served ops. Less is less certain, and on a CPU takes a minute or more all the same, as "
            "each is timed nine times. 0 times nothing, which goes with --served-points.",
        ),
    ] = "90",
    served_points: Annotated[
        str | None,
        typer.Option(
            "--served-points",
            metavar="FILE.csv",
            help="3 to 5 served runs of a deployment, with the columns of `verify --serving`: what its host adds to "
            "each pass is fitted to them, one constant for each engine, version and device.",
        ),
    ] = None,
    points: Annotated[
        str | None,
        typer.Option(
            "--points",
            metavar="FILE.csv",
            help="Also write the served ops that were timed on a GPU, with the columns of `verify --ops`.",
        ),
    ] = None,
    output_format: options.FormatOption = "table",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Where to write the profile of the device. Default: in the user's configuration, where `profile` "
            "finds it; `plan` and `verify` take it by --device-profile.",
        ),
    ] = None,
) -> None:
    """Time single kernels on the local device, and fit the constants that its times are predicted with.

    Writes a profile of the device, and says how far off it is on kernels that were held out. `llmprof profile` then
    shows predicted times beside measured ones. On a GPU, products and attention as engines launch them are timed too,
    for --device-profile of `plan` and `verify`. Nothing else should run meanwhile; Ctrl-C keeps what there is. Needs
    the extra calibrate.
    """
    from llmprof.errors import InputError
    from llmprof.latency.device_profile import default_path, earlier
    from llmprof.report.write import check_writable, write_text

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    dtypes = cast("list[ComputeDtype]", options.choices(dtype, DTYPES, option="--dtype"))
    budget = options.seconds(seconds)
    if not budget and served_points is None:
        raise InputError("--seconds is 0: nothing would be timed; leave it out, or give a time such as 60")
    check_writable(output)
    runs = None if served_points is None else _runs(served_points)
    from llmprof.profiling.calibration import calibrate as run
    from llmprof.profiling.calibration import identity, local_device

    where = local_device(device)
    if points is not None:
        _check_points(points, where, budget)
    place = Path(output) if output is not None else default_path(identity(where))
    before = earlier(place)  # what is no profile is not overwritten, and that is known before anything is timed
    if before is not None and before.device != identity(where):
        raise InputError(f"--output {place}: this is the profile of {before.device}; name another file")
    found: list[Calibrated] = []
    try:
        for each in dtypes if budget else ():
            found.append(run(where, each, seconds=budget, progress=_progress(each)))
            _keep(where, place, found)  # after every dtype, so that whoever stops here keeps what there is
    except KeyboardInterrupt:
        if found:
            say(f"written: {place}, with {', '.join(each.dtype for each in found)}")
        raise
    served = _served(where, dtypes, budget, points)
    profile = _keep(where, place, found, served)
    if runs is not None and not served.interrupted:
        profile = _fit_hosts(runs, profile, place)
    write_text(_text(found, served, profile, place, output_format, hosts=runs is not None), None)
    say(f"written: {place}")
    if served.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _progress(dtype: str) -> Callable[[str, int, int], None]:
    def show(stage: str, done: int, planned: int) -> None:
        if done == 1 or done * STEPS // planned > (done - 1) * STEPS // planned:
            progress(f"{dtype}: {stage}, {done} of {planned}")

    return show


def _runs(path: str) -> Runs:
    """The served points of a file: a wrong row is known before anything is timed."""
    from llmprof.errors import InputError
    from llmprof.latency.serving.rows import read

    runs = read(path)
    for line, problem in runs.problems.items():
        raise InputError(f"{path}: line {line}: {problem}")
    if not any(row.tpot_ms is not None for row in runs.rows.values()):
        raise InputError(f"{path}: no row has a measured time per token (silicon_tpot_ms)")
    return runs


def _check_points(points: str, device: torch.device, budget: float) -> None:
    from llmprof.errors import DeviceError, InputError
    from llmprof.report.write import check_writable

    if device.type != "cuda":
        raise DeviceError("--points: served ops are timed on a GPU, and this is a CPU; leave it out")
    if not budget:
        raise InputError("--points goes with a time: --seconds is 0, so that nothing is timed")
    try:
        check_writable(points)
    except InputError as error:
        raise InputError(str(error).replace("--output", "--points", 1)) from error


def _served(device: torch.device, dtypes: Sequence[ComputeDtype], budget: float, points: str | None) -> Found:
    """What engines launch, timed on a GPU; the points are written before anything else can go wrong."""
    from llmprof.profiling.served_calibration import SHARE, Found, catalogued
    from llmprof.profiling.served_local import calibrate_local
    from llmprof.report.served_tables import points_csv
    from llmprof.report.write import write_text

    if not budget:
        return Found()
    found = calibrate_local(device, dtypes, seconds=SHARE * budget, progress=_progress("served ops"))
    known = catalogued(device)
    if points is not None and not isinstance(known, str):
        write_text(points_csv(known.name, found.timed), points)
        say(f"written: {points}")
    return found


def _keep(where: torch.device, place: Path, found: list[Calibrated], served: Found | None = None) -> Profile:
    """Write what was fitted; what the same file already has of the same device, and was not fitted anew, stays."""
    from llmprof.latency import device_profile
    from llmprof.profiling.calibration import profile_of
    from llmprof.report.write import write_text

    place.parent.mkdir(parents=True, exist_ok=True)
    profile = device_profile.merged(profile_of(where, found, served), device_profile.earlier(place))
    write_text(device_profile.text(profile), str(place))
    return profile


def _fit_hosts(runs: Runs, profile: Profile, place: Path) -> Profile:
    """The profile with what hosts add to a pass, given the kernels that it has."""
    from dataclasses import replace

    from llmprof.latency import device_profile
    from llmprof.latency.local import Local
    from llmprof.profiling.served_hosts import fit_hosts
    from llmprof.report.write import write_text

    profile = device_profile.merged(replace(profile, hosts=fit_hosts(runs, Local.of(profile))), profile)
    write_text(device_profile.text(profile), str(place))
    return profile


def _text(
    found: list[Calibrated], served: Found, profile: Profile, place: Path, output_format: str, *, hosts: bool
) -> str:
    from llmprof.cli.messages import bold
    from llmprof.latency import device_profile
    from llmprof.report import calibration_tables, tables

    shown = profile.hosts if hosts else ()
    if output_format in ("json", "csv"):
        records = calibration_tables.all_records(found, served.served, shown)
        if output_format == "csv":
            return tables.to_csv([row for rows in records.values() for row in rows])
        written = {"profile": str(place), "profile_text": device_profile.text(profile)}
        return tables.to_json({"schema_version": 1, **written, **records, "notes": served.notes})
    pages = calibration_tables.all_tables(found, served.served, shown, served.notes)
    for note in served.notes if served.served is None else ():
        say(note)
    return tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(None))
