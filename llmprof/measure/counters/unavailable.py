"""Why a counter has no value, and what to do about it."""

from __future__ import annotations


class Unavailable(Exception):
    """A counter could not be read. `reason` says why, `remedy` what would change that; both are for the user."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy
