"""`llmprof compare`: what two specs differ in, down to the line and the module. Torch is never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmprof.cli import options
from llmprof.cli.messages import bold, say

if TYPE_CHECKING:
    from llmprof.check.compare import Side
    from llmprof.check.comparison import Comparison
    from llmprof.check.references import Named
    from llmprof.lengths import Lengths

SCHEMA_VERSION = 1
EXIT_DIFFERS = 1
EXIT_NOT_APPLICABLE = 3
SETTINGS = (
    "batch",
    "context",
    "new_tokens",
    "source_tokens",
    "prefix_tokens",
    "logits",
    "dtype",
    "weight_dtype",
    "kv_dtype",
    "group_size",
)
"""What --b may set for the second side alone."""

DEFAULTS = {"phase": "prefill,decode", "batch": "1", "dtype": "bf16"}
"""What the settings are where nobody gave them; the others are None."""

Ref = "A name, alias or path, -, or git:REV: followed by a name or path; NAME:VARIANT picks a variant."


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help=Ref)],
    after: Annotated[str, typer.Argument(metavar="B", help="The same, for the other side.")],
    phase: options.PhaseOption = "prefill,decode",
    batch: options.Batch = "1",
    context: options.Context = None,
    new_tokens: options.NewTokens = None,
    source_tokens: options.SourceTokens = None,
    prefix_tokens: options.PrefixTokens = None,
    logits: options.LogitsOption = None,
    dtype: options.Dtype = "bf16",
    weight_dtype: options.WeightDtype = None,
    kv_dtype: options.KvDtype = None,
    group_size: options.GroupSize = None,
    b: Annotated[
        str | None,
        typer.Option(
            "--b", metavar="SETTINGS", help="Settings of B where they differ, such as context=8Ki,kv_dtype=fp32."
        ),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 where anything differs.")] = False,
    output_format: options.FormatOption = "table",
    output: options.OutputOption = None,
) -> None:
    """Compare two specs: which lines differ, what that does to every figure, and which modules do it.

    Both are run with the same settings, one value each. A difference is information: the exit code is 0 all the same.

    Where one side is a file of weights (.safetensors, their index or folder, .gguf), its header is explained by the
    other side, a spec: what it holds, to the last value, beside the parameters. Exit 1 where something is unexplained,
    missing or of another size.
    """
    from llmprof.check import compare as comparing
    from llmprof.check.references import named
    from llmprof.errors import InputError
    from llmprof.report.write import check_writable

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    check_writable(output)
    if before == after == "-":
        raise InputError("- is standard input, which can be read once; name a file for one of the two")
    asked: dict[str, str | None] = {
        "batch": batch,
        "context": context,
        "new_tokens": new_tokens,
        "source_tokens": source_tokens,
        "prefix_tokens": prefix_tokens,
        "logits": logits,
        "dtype": dtype,
        "weight_dtype": weight_dtype,
        "kv_dtype": kv_dtype,
        "group_size": group_size,
    }
    weights = _weights(before, after)
    if weights is not None:
        _explain(*weights, {"phase": phase, "b": b, **asked}, output_format, output)
        return
    lengths = _lengths(phase, asked)
    try:
        lengths_of_b = _lengths(phase, asked | _settings(b)) if b is not None else lengths
    except InputError as error:
        raise InputError(f"--b: {error}") from None
    sides = [_side(named(before, tell=say), lengths), _side(named(after, tell=say), lengths_of_b)]
    options.refuse_idle_kv_dtype([(side.arch, workload) for side in sides for workload in side.workloads])
    comparison = comparing.compare(*sides)
    _report(comparison, output_format, output)
    if exit_code and (comparison.lines or comparison.differences):
        raise typer.Exit(EXIT_DIFFERS)


def _weights(before: str, after: str) -> tuple[str, str] | None:
    """The spec and the file of weights among two references; None where neither is surely such a file."""
    from llmprof.stored.files import is_weights

    if is_weights(after):
        return before, after
    return (after, before) if is_weights(before) and not _has_config(before) else None


def _has_config(ref: str) -> bool:
    """Whether a folder is a spec too: compared with a spec, it is the config that is meant."""
    import os

    from llmprof.importing import CONFIG

    return os.path.isfile(os.path.join(ref, CONFIG))


def _explain(spec: str, file: str, asked: dict[str, str | None], output_format: str, output: str | None) -> None:
    """What the file holds, against the architecture. InputError where a setting was given, which would say nothing."""
    from pathlib import Path

    from llmprof.check.references import named
    from llmprof.errors import InputError
    from llmprof.report import stored_tables
    from llmprof.stored.files import read_weights
    from llmprof.stored.join import join

    for name, value in asked.items():
        if value != DEFAULTS.get(name):
            raise InputError(f"--{name.replace('_', '-')} has no effect on a file of weights; leave it out")
    joined = join(named(spec, tell=say).arch, read_weights(Path(file)))
    _write(stored_tables, joined, output_format, output)
    if not joined.explained:
        raise typer.Exit(EXIT_DIFFERS)


def _settings(text: str) -> dict[str, str | None]:
    """The settings of --b. InputError where one is unknown, stated twice or has no value."""
    from llmprof.errors import InputError
    from llmprof.spec.words import did_you_mean

    found: dict[str, str | None] = {}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        name = key.replace("-", "_")
        if name not in SETTINGS:
            hint = did_you_mean(name, SETTINGS)
            raise InputError(
                f"unknown setting {key[:60]!r}; expected one of {', '.join(SETTINGS)}" + (f" ({hint})" if hint else "")
            )
        if not equals or not value or name in found:
            raise InputError(f"found {part.strip()[:60]!r}; expected each setting once, as {name}=VALUE")
        found[name] = value
    return found


def _lengths(phase: str, asked: dict[str, str | None]) -> Lengths:
    """The lengths of one side, one value of each. InputError where one is wrong, or a list."""
    from llmprof.errors import InputError

    for name in SETTINGS:
        value = asked[name]
        if value is not None and "," in value:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: found {value[:60]!r}; expected one value, as two specs are compared at one")
    batch, dtype = asked["batch"], asked["dtype"]
    assert batch is not None
    assert dtype is not None
    return options.parse_lengths(
        phase=phase,
        batch=batch,
        context=asked["context"],
        new_tokens=asked["new_tokens"],
        source_tokens=asked["source_tokens"],
        prefix_tokens=asked["prefix_tokens"],
        logits=asked["logits"],
        dtypes=options.parse_dtypes(dtype, asked["weight_dtype"], asked["kv_dtype"], asked["group_size"]),
    )


def _side(found: Named, lengths: Lengths) -> Side:
    """A spec and what is run. Exit 3 where it has none of the phases."""
    from llmprof.check.compare import Side

    options.refuse_what_has_no_effect(lengths, [found.arch])
    workloads, skipped = lengths.workloads(found.arch)
    for reason in skipped:
        say(f"not applicable: {reason}")
    if not workloads:
        raise typer.Exit(EXIT_NOT_APPLICABLE)
    return Side(named=found, workloads=tuple(workloads))


def _report(comparison: Comparison, output_format: str, output: str | None) -> None:
    from llmprof.report import compare_tables

    _write(compare_tables, comparison, output_format, output)


def _write(forms: Any, result: object, output_format: str, output: str | None) -> None:
    """The result in the form that was asked for, by a module with `payload`, `records`, `COLUMNS` and `pages`."""
    from llmprof.report import tables
    from llmprof.report.write import write_text

    if output_format == "json":
        text = tables.to_json({"schema_version": SCHEMA_VERSION, **forms.payload(result)})
    elif output_format == "csv":
        text = tables.to_csv(forms.records(result), forms.COLUMNS)
    elif output_format == "markdown":
        text = tables.to_markdown(forms.pages(result))
    else:
        text = tables.to_text(forms.pages(result), color=bold(output))
    write_text(text, output)
