"""The documentation as something that runs: its examples, the command line reference, and the page of claims.

`python -m tests.documentation` writes docs/cli.md from `--help` and docs/claims.md from `llmprof claims`, and puts today's
output into every ```console block. `test_docs.py` checks that all are what the pages say.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "cli.md"
CLAIMS = ROOT / "docs" / "claims.md"
CLAIMS_COMMAND = "llmprof claims --format markdown"
COMMANDS = (
    (),
    ("count",),
    ("profile",),
    ("check",),
    ("compare",),
    ("import",),
    ("verify",),
    ("mask",),
    ("claims",),
    ("specs",),
    ("specs", "list"),
    ("specs", "show"),
    ("specs", "check"),
    ("specs", "schema"),
)
BLOCK = re.compile(
    r"(?P<skip><!-- not run: (?P<why>[^>]+) -->\n)?```console\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)
DOTS = "...\n"


@dataclass(frozen=True)
class Example:
    """One command of a page and the output printed there; `skipped` says why it is not run."""

    page: str
    line: int
    command: str
    output: str
    skipped: str | None


def pages() -> list[Path]:
    """The pages whose examples are run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page: Path) -> list[Example]:
    """The commands of one page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text[: match.start("body")].count("\n") + 1
        for chunk in re.split(r"^\$ ", match["body"], flags=re.MULTILINE)[1:]:
            command, _, output = chunk.partition("\n")
            found.append(Example(page.name, line, command, output, match["why"]))
    return found


def run(command: str) -> str:
    """What `llmprof ..` prints, stdout and then stderr, at a fixed width."""
    words = shlex.split(command)
    assert words[0] == "llmprof", "console blocks run llmprof alone"
    done = subprocess.run(
        [sys.executable, "-m", "llmprof", *words[1:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "NO_COLOR": "1",
            "COLUMNS": "110",
            "TERMINAL_WIDTH": "110",
        },
        timeout=300,
    )
    return done.stdout + done.stderr


def matches(expected: str, found: str) -> bool:
    """Whether `found` is `expected`, where a line of three dots stands for any lines."""
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*?".join(parts), found) is not None


def reference() -> str:
    """The command line reference."""
    parts = ["# Command line\n\nGenerated from `--help` by `python -m tests.documentation`; do not edit.\n"]
    for command in COMMANDS:
        name = " ".join(("llmprof", *command))
        help_text = "\n".join(line.rstrip() for line in run(f"{name} --help").strip().splitlines())
        parts.append(f"## `{name}`\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)


def refreshed(text: str) -> str:
    """A page with today's output in every block that is run and no longer true; behind its first dots nothing is kept."""

    def block(match: re.Match[str]) -> str:
        if match["why"]:
            return match[0]
        body = ""
        for chunk in re.split(r"^\$ ", match["body"], flags=re.MULTILINE)[1:]:
            command, _, output = chunk.partition("\n")
            found = run(command)
            if matches(output, found):
                found = output
            elif DOTS in output:
                kept = output.split(DOTS)[0].count("\n")
                found = "".join(line + "\n" for line in found.splitlines()[:kept]) + DOTS
            body += f"$ {command}\n{found}"
        return f"```console\n{body}```"

    return BLOCK.sub(block, text)


def main() -> None:
    """Write the reference and the claims, and refresh the examples of every page."""
    REFERENCE.write_text(reference(), encoding="utf-8")
    CLAIMS.write_text(run(CLAIMS_COMMAND), encoding="utf-8")
    for page in pages():
        text = page.read_text(encoding="utf-8")
        page.write_text(refreshed(text), encoding="utf-8")


if __name__ == "__main__":
    main()
