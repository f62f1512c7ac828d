"""What reading a file has come to: class defaults that were taken, remarks, problems; and words that readers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmprof.spec.problems import Report


class Missing:
    """Stands for: this field has no default, and must be there."""


MISSING = Missing()


@dataclass(slots=True)
class Account:
    """What reading one file has come to, shared by the readers of its nested objects.

    `defaults` are the fields that the file does not have and that were read nevertheless: path -> what was taken.
    """

    report: Report
    defaults: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return (
        type(one) is type(other) and bool(one == other)
        if isinstance(one, bool | type(None))
        else (not isinstance(other, bool | type(None)) and bool(one == other))
    )
