"""Requests of equal length pass through an engine, event by event: when each first token comes, and how fast the rest.

All requests are alike, so that those that run end in the order in which they began, and passes of decode alone are
skipped in one stride until something happens: a request ends, or one arrives that has a slot. Nothing is random but the
arrivals of an open loop, which a fixed seed draws.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

from llmprof.errors import InputError
from llmprof.latency.compose_pass import Chunk
from llmprof.latency.serving.host import Host
from llmprof.latency.serving.scheduler import Scheduler

StepTime = Callable[[int, float, tuple[Chunk, ...]], float]
"""(running sequences, their mean context, chunks of prompts) -> seconds of the pass."""

SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one replica is asked: `requests` of `prompt_tokens` that answer `output_tokens` each.

    Closed loop: `concurrency` clients send their first request at the start, `stagger_seconds` one after another, and
    each the next when it is answered.
    Open loop: `rate` requests per second arrive at random times, and `concurrency` means nothing.
    """

    prompt_tokens: int
    output_tokens: int
    requests: int
    concurrency: int = 1
    rate: float | None = None
    stagger_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens", "requests", "concurrency"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise InputError(f"the request rate is {self.rate}; it must be a positive number of requests per second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the clients saw, in seconds, each entry one request in the order of its first token (ttft) or end.

    `seconds` is from the first request to the last answer.
    """

    ttft: tuple[float, ...]
    tpot: tuple[float, ...]
    seconds: float

    @property
    def mean_ttft(self) -> float:
        """Over all requests."""
        return sum(self.ttft) / len(self.ttft)

    @property
    def mean_tpot(self) -> float:
        """Of the tokens after the first, over all requests; 0 where an answer is one token."""
        return sum(self.tpot) / len(self.tpot)


def simulate(load: Load, *, scheduler: Scheduler, host: Host, slots: int, step: StepTime) -> Served:
    """Serve `load` with at most `slots` sequences at a time.

    The step time is that of the kernels; what the host adds to each pass and to each request is `host`'s.
    """
    if slots < 1:
        raise InputError(f"slots is {slots}; an engine needs room for at least 1 sequence")
    return _Engine(load, scheduler, host, slots, step).run()


class _Waiting:
    """A request whose prompt is not computed yet, or in part."""

    __slots__ = ("arrived", "computed")

    def __init__(self, arrived: float) -> None:
        self.arrived, self.computed = arrived, 0


class _Engine:
    """One run. `at` is the time, `steps` how many tokens each running sequence has been given since the start."""

    def __init__(self, load: Load, scheduler: Scheduler, host: Host, slots: int, step: StepTime) -> None:
        self.load, self.scheduler, self.host, self.slots, self.step = load, scheduler, host, slots, step
        self.at, self.steps, self.behind = 0.0, 0, 0.0
        self.queue: deque[_Waiting] = deque()
        self.running: deque[tuple[int, float]] = deque()  # (steps at its first token, when the client saw that)
        self.first_steps = 0  # sum of the former, of which the mean context follows
        self.ttft: list[float] = []
        self.tpot: list[float] = []
        self.mixes, self.cuts, self.waits = scheduler.mixes, scheduler.cuts, scheduler.waits
        self.whole = Chunk(load.prompt_tokens)
        self.arrivals: deque[float] = deque(self._first_arrivals())
        self.sent, self.last_arrival = len(self.arrivals), self.arrivals[-1]

    def run(self) -> Served:
        arrivals, queue, running, tpot, requests = (
            self.arrivals,
            self.queue,
            self.running,
            self.tpot,
            self.load.requests,
        )
        mixes = self.mixes
        while len(tpot) < requests:
            while arrivals and arrivals[0] <= self.at:
                queue.append(_Waiting(arrivals.popleft()))
            chunks, ended = self._prompts() if queue else ((), 0)
            decoding = len(running) if mixes or not chunks else 0
            if not decoding and not chunks:
                self._idle()
                continue
            self._pass(decoding, chunks, ended)
        return Served(ttft=tuple(self.ttft), tpot=tuple(self.tpot), seconds=self.at + self.behind)

    def _first_arrivals(self) -> Iterable[float]:
        load = self.load
        if load.rate is None:
            first = min(load.concurrency, load.requests)
            apart = max(load.stagger_seconds, self.host.spacing_seconds)
            return (self.host.round_trip_seconds + n * apart for n in range(first))
        draw, when = random.Random(SEED), 0.0
        times = []
        for _ in range(load.requests):
            when += draw.expovariate(load.rate)
            times.append(when + self.host.round_trip_seconds)
        return times

    def _prompts(self) -> tuple[tuple[Chunk, ...], int]:
        """The chunks of the next pass, and how many of them end a prompt."""
        if len(self.running) >= self.slots or (self.waits and self.running):
            return (), 0
        scheduler, prompt, whole, cuts = self.scheduler, self.load.prompt_tokens, self.whole, self.cuts
        left = scheduler.tokens - (len(self.running) if self.mixes else 0)
        most = min(self.slots - len(self.running), scheduler.prompts or self.slots)
        chunks: list[Chunk] = []
        ended = 0
        for waiting in self.queue:
            computed = waiting.computed
            need = prompt - computed
            if chunks and (len(chunks) >= most or left <= 0 or (need > left and not cuts)):
                break
            # What does not fit and may not be cut goes alone: it would wait for ever. So does a token at a time.
            take = need if need <= left or not cuts else max(left, 1)
            chunks.append(whole if take == prompt else Chunk(take, computed))
            left -= take
            if take < need:
                waiting.computed += take
                break
            ended += 1
        return tuple(chunks), ended

    def _idle(self) -> None:
        wait = self.arrivals[0] - self.at
        self.at, self.behind = self.arrivals[0], max(0.0, self.behind - wait)

    def _pass(self, decoding: int, chunks: tuple[Chunk, ...], ended: int) -> None:
        strides = 1 if chunks else self.running[0][0] + self.load.output_tokens - 1 - self.steps
        context = self.load.prompt_tokens + 1 + self.steps - self.first_steps / decoding if decoding else 0.0
        extra = self.host.step_seconds + self.host.sequence_seconds * (decoding + ended)
        took = self.step(decoding, context + (strides - 1) / 2, chunks) + extra
        room = decoding < self.slots and not self.waits
        if not chunks and self.arrivals and room:
            strides = max(1, min(strides, ceil((self.arrivals[0] - self.at) / took)))
        self.at += strides * took
        self._answer(strides, took, decoding, ended)
        if decoding:
            self.steps += strides
            self._end_those_done()
        for _ in range(ended):
            seen = self.at + self.behind
            self.ttft.append(seen - self.queue.popleft().arrived + self.host.round_trip_seconds)
            self.running.append((self.steps, seen))
            self.first_steps += self.steps
        if ended and self.load.output_tokens == 1:
            self._end_those_done()

    def _answer(self, strides: int, took: float, decoding: int, ended: int) -> None:
        """The front end works off what it is behind while a pass runs, and then has that pass's tokens too."""
        work = (decoding + ended) * self.host.token_seconds + ended * self.host.request_seconds
        first = max(0.0, self.behind - took) + work
        self.behind = max(work, first + (strides - 1) * (work - took))

    def _end_those_done(self) -> None:
        others, running = self.load.output_tokens - 1, self.running
        last, seen = self.steps - others, self.at + self.behind
        while running and running[0][0] <= last:
            first_step, first_seen = running.popleft()
            self.first_steps -= first_step
            self.tpot.append((seen - first_seen) / others if others else 0.0)
            if self.load.rate is None and self.sent < self.load.requests:
                self.sent += 1
                # The front end takes requests in one after another.
                self.last_arrival = max(
                    seen + self.host.round_trip_seconds, self.last_arrival + self.host.spacing_seconds
                )
                self.arrivals.append(self.last_arrival)
