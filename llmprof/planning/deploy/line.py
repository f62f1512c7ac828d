"""One command line: what it is made of, what is said beside it, and why there is none where an engine lacks something.

Nothing is left out in silence: an option of a deployment is in the text, in a note, or the reason why there is no text.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Literal

Engine = Literal["vllm", "sglang", "tensorrt-llm"]

ENGINES: tuple[Engine, ...] = ("vllm", "sglang", "tensorrt-llm")

MODEL = "MODEL"
"""Stands in a command where nothing says which files are to be served; a note does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """How `engine`, of the version whose options were read, would be started.

    `text` is one line for a POSIX shell, empty where the engine does not have what is asked of it: `refused` then says
    what that is. `notes` say what the text leaves to whoever runs it.
    """

    engine: Engine
    version: str
    text: str
    notes: tuple[str, ...] = ()
    refused: str | None = None


class Refusal(Exception):
    """An engine does not have this; the message says what, as a clause that follows the engine's name."""


@dataclass(slots=True)
class Words:
    """A command as it grows: words that are quoted when it is written down, and notes.

    `first` is a command for the shell that has to succeed before it. `environment` are variables that the command gets.
    """

    words: list[str]
    notes: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    first: str | None = None

    def flag(self, name: str, value: object | None = None) -> None:
        """Append ``--name`` or ``--name value``."""
        self.words.append(name)
        if value is not None:
            self.words.append(str(value))

    def degree(self, name: str, value: int) -> None:
        """Append a degree of parallelism where it is not 1, which is the default of every engine."""
        if value > 1:
            self.flag(name, value)

    def note(self, text: str) -> None:
        """Say something beside the command."""
        self.notes.append(text)

    @property
    def text(self) -> str:
        """The words, quoted where a shell would read them otherwise."""
        command = shlex.join([*(f"{name}={value}" for name, value in self.environment.items()), *self.words])
        return command if self.first is None else f"{self.first} && {command}"
