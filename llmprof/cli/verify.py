"""`llmprof verify`: hold predictions against the twin, transformers, the published figure and a user's own module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmprof.cli import local_option, options
from llmprof.cli.messages import bold, progress, say

if TYPE_CHECKING:
    from llmprof.conformance.rows import Result
    from llmprof.conformance.verify import Subject

SCHEMA_VERSION = 1
EXIT_BUG, EXIT_INTERRUPTED = 70, 130
IN_FULL = 5
"""Up to so many architectures have a page of their own in a table; more have a row each."""
CSV_COLUMNS = (
    "name",
    "variant",
    "path",
    "quantity",
    "phase",
    "witness",
    "predicted",
    "found",
    "verdict",
    "note",
    "explanations",
)


def verify(
    spec: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SPEC...]",
            help="Names, aliases, YAML files, config.json files or their folders; without any, every model of the "
            "catalogue.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="The config.json of the one SPEC, where none is known of it."),
    ] = None,
    hf: Annotated[bool, typer.Option("--hf/--no-hf", help="Also ask transformers (the extra hf).")] = True,
    module: Annotated[
        str | None,
        typer.Option(
            "--module", metavar="PACKAGE.MODULE:FACTORY", help="Also hold an nn.Module of yours against the one SPEC."
        ),
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Import and call what --module names: it runs your code.")
    ] = False,
    serving: Annotated[
        str | None,
        typer.Option(
            "--serving",
            metavar="FILE",
            help="Predict the served runs of a CSV table instead, and hold the times against those that it measured.",
        ),
    ] = None,
    ops: Annotated[
        str | None,
        typer.Option(
            "--ops",
            metavar="FILE.csv",
            help="Instead: predict the times of measured ops, one a row, and say how far off they are.",
        ),
    ] = None,
    device_profile: local_option.LocalOption = None,
    output_format: options.FormatOption = "table",
    output: options.OutputOption = None,
) -> None:
    """Hold the prediction of SPEC against the twin and transformers on meta, and against the published figure.

    Parameters in total and by module, FLOPs of a prompt and a step, and bytes of the cache. Known errors of
    transformers are explained to the last unit. Exit 1 where a figure differs without an explanation.

    With --serving FILE.csv the table goes to --output with predicted times beside every column, and the errors to
    stdout where it has measured ones; docs/latency.md names the columns.
    """
    from llmprof.errors import InputError
    from llmprof.profiling import require_torch
    from llmprof.report.write import check_writable

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    _check_module(spec, config, module, allow_code)
    check_writable(output)
    measured = {"--ops": ops, "--serving": serving}
    if any(file is not None for file in measured.values()):
        others = {"--config": config is not None, "--no-hf": not hf}
        raise typer.Exit(_against_measured(measured, spec, others, device_profile, output_format, output))
    if device_profile is not None:
        raise InputError("--device-profile has no effect without --ops or --serving; leave it out")
    require_torch(referees=False, command="verify")
    factory = _factory(module)
    results, errors = [], []
    for ref in spec or _catalogue():
        code, found = _verify_one(ref, config, hf, factory)
        results += found
        errors.append(code)
        if code == EXIT_INTERRUPTED:
            break
    _report(results, spec or [], output_format, output)
    raise typer.Exit(_exit_code(results, errors))


def _against_measured(
    measured: dict[str, str | None],
    spec: Sequence[str] | None,
    others: dict[str, bool],
    device_profile: str | None,
    output_format: str,
    output: str | None,
) -> int:
    """The exit code of holding times against the one table that is given: no SPEC has a part in it."""
    from llmprof.errors import InputError

    given = [option for option, file in measured.items() if file is not None]
    too_many = [*(spec or ()), *given[1:], *(option for option, is_given in others.items() if is_given)]
    if too_many:
        raise InputError(f"{given[0]}: goes alone; leave out {' '.join(too_many)}")
    file = measured[given[0]]
    assert file is not None
    local = local_option.parse(device_profile)
    if given[0] == "--ops":
        from llmprof.cli import verify_ops

        return verify_ops.run(file, output_format, output, local)
    from llmprof.cli import verify_serving

    return verify_serving.run(file, output_format, output, local)


def _check_module(spec: Sequence[str] | None, config: str | None, module: str | None, allow_code: bool) -> None:
    """InputError where --module, --config and --allow-code do not fit what is asked."""
    from llmprof.errors import InputError

    for option, value in (("--module", module), ("--config", config)):
        if value is not None and len(spec or ()) != 1:
            raise InputError(f"{option} goes with exactly one SPEC; found {len(spec or ())}")
    if module is not None and not allow_code:
        raise InputError(
            f"--module {module} would import and run code of yours, which llmprof does not do by itself; "
            "add --allow-code if that is meant"
        )
    if allow_code and module is None:
        raise InputError("--allow-code has no effect without --module; leave it out")


def _factory(module: str | None) -> Callable[[], object] | None:
    if module is None:
        return None
    from llmprof.conformance.foreign import load

    progress(f"importing {module}")
    return load(module)


def _catalogue() -> list[str]:
    """Every model of the catalogue. Studies have no witness beyond the twin, and are verified by name."""
    from llmprof import catalog

    return [entry.name for entry in catalog.entries() if entry.path.parent.parent.name == "models"]


def _verify_one(
    ref: str, config: str | None, hf: bool, factory: Callable[[], object] | None
) -> tuple[int, list[Result]]:
    """(exit code, results) of one SPEC: what is wrong with it is said, and does not keep the others from running."""
    from llmprof.conformance.rows import Result
    from llmprof.conformance.verify import verify as run
    from llmprof.errors import LlmprofError
    from llmprof.workload import NotApplicable

    found: list[Result] = []
    try:
        for subject in _subjects(ref, config, hf, factory):
            result = Result(arch=subject.arch)
            found.append(result)
            run(subject, result, progress)
            for text in result.errors:
                say(f"error: {text}")
            if result.interrupted:
                return EXIT_INTERRUPTED, found
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED, found
    except (LlmprofError, NotApplicable) as error:
        say(f"error: {ref}: {error}" if ref not in str(error) else f"error: {error}")
        return 2, found
    except Exception as error:  # a bug of ours, or of torch, costs this architecture alone
        say(f"error: {ref}: internal error, please report it: {type(error).__name__}: {error}")
        return EXIT_BUG, found
    return 2 if any(result.errors for result in found) else 0, found


def _subjects(ref: str, config: str | None, hf: bool, factory: Callable[[], object] | None) -> list[Subject]:
    """What one SPEC stands for, with the config that is known of it."""
    import os
    from pathlib import Path

    from llmprof import catalog
    from llmprof.conformance import configs
    from llmprof.conformance.verify import Subject
    from llmprof.importing import CONFIG

    file = catalog.find(ref, tell=say)
    arch = file.arch(catalog.split(ref)[1])
    known = None
    if config is not None:
        known = configs.read(Path(config))
    elif catalog.is_foreign(ref):
        path = Path(ref) / CONFIG if os.path.isdir(ref) else Path(ref)
        known = configs.read(path, is_origin=True) if path.suffix == ".json" and os.path.isfile(path) else None
        known = known if known is not None and known.model_type else None  # an index of weights is JSON too
    elif arch.variant is None and file.path is not None and file.path.is_relative_to(catalog.root()):
        carried = configs.carried(arch.name)
        known = configs.read(carried) if carried is not None else None
    return [Subject(arch=arch, config=known, hf=hf, factory=factory)]


def _exit_code(results: Sequence[Result], codes: Sequence[int]) -> int:
    """130 interrupted, 70 a bug, 2 something was wrong with the input, 1 a figure differs, else 0."""
    for code in (EXIT_INTERRUPTED, EXIT_BUG, 2):
        if code in codes:
            return code
    return 1 if any(result.verdict == "DIFFERS" for result in results) else 0


def _report(results: Sequence[Result], refs: Sequence[str], output_format: str, output: str | None) -> None:
    from llmprof.conformance.rows import record
    from llmprof.report import tables, verify_page, verify_tables
    from llmprof.report.write import write_text

    if output_format == "json":
        found = [verify_tables.payload(result) for result in results]
        text = tables.to_json({"schema_version": SCHEMA_VERSION, "witnesses": _versions(), "results": found})
    elif output_format == "csv":
        rows: list[dict[str, Any]] = [
            {"name": result.arch.name, "variant": result.arch.variant, **record(row)}
            for result in results
            for row in result.rows
        ]
        text = tables.to_csv(rows, CSV_COLUMNS)
    elif output_format == "markdown":
        command = " ".join(["llmprof verify", *refs, "--format markdown"])
        versions = " and ".join(f"{name} {version}" for name, version in _versions().items())
        text = verify_page.markdown(results, command, versions)
    elif len(results) <= IN_FULL:
        pages = [page for result in results for page in verify_tables.pages(result)]
        text = tables.to_text(pages, color=bold(output))
    else:
        open_ones = [r for r in results if r.verdict == "DIFFERS"]
        pages = [verify_tables.summary(results), *(page for r in open_ones for page in verify_tables.pages(r))]
        text = tables.to_text(pages, color=bold(output))
    write_text(text, output)


def _versions() -> dict[str, str]:
    """What the witnesses are, by package; without the build of torch, which decides no count."""
    from importlib import metadata

    found = {}
    for package in ("torch", "transformers"):
        try:
            found[package] = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return found
