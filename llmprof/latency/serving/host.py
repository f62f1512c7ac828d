"""What an engine's own code adds to its kernels: to each pass, to each running sequence, to each request.

Two kinds of cost. In the loop: `step_seconds` of a pass (scheduling, inputs, sampling) and `sequence_seconds` for each
sequence in it. Beside the loop: the front end, one process that turns prompts into tokens and tokens into streams;
where it is slower than the kernels, what it has not sent yet grows, and clients see every token that much later.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Seconds of each. `round_trip_seconds` is a request's way in and its first token's way out together,
    `spacing_seconds` the least between two requests that arrive together, `token_seconds` and `request_seconds` what
    the front end works on each.

    `basis` says where the figures come from.
    """

    step_seconds: float = 0.0
    sequence_seconds: float = 0.0
    token_seconds: float = 0.0
    request_seconds: float = 0.0
    round_trip_seconds: float = 0.0
    spacing_seconds: float = 0.0
    basis: str = "no cost of the host"


IDEAL = Host()
