"""Requests through an engine, by hand with passes of whole seconds, and against a walk that takes every pass alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.errors import InputError
from llmprof.latency.compose_pass import Chunk
from llmprof.latency.serving.host import IDEAL, Host
from llmprof.latency.serving.scheduler import SCHEDULERS, Scheduler, SchedulerName, scheduler_of
from llmprof.latency.serving.simulate import Load, Served, _Engine, simulate

Chunks = tuple[Chunk, ...]
TWO = Load(prompt_tokens=4, output_tokens=3, requests=2, concurrency=2)


def second(decoding: int, context: float, chunks: Chunks) -> float:
    """Every pass takes a second."""
    return 1.0


def per_token(decoding: int, context: float, chunks: Chunks) -> float:
    """A second for every token of the pass."""
    return decoding + float(sum(chunk.tokens * chunk.sequences for chunk in chunks))


def per_key(decoding: int, context: float, chunks: Chunks) -> float:
    """A second for every key that a running sequence attends to, and one for every token of a prompt."""
    return decoding * context + sum(chunk.tokens for chunk in chunks)


def scheduler(name: SchedulerName, **changes: int) -> Scheduler:
    return replace(Scheduler(name=name), **changes)  # type: ignore[arg-type]


def serve(load: Load, how: Scheduler, *, slots: int = 2, host: Host = IDEAL, step: object = second) -> Served:
    assert callable(step)
    return simulate(load, scheduler=how, host=host, slots=slots, step=step)


# name, scheduler, slots, step -> TTFT of both requests, TPOT of both, seconds of the run
BY_HAND = [
    # Both prompts in the first pass, then two passes for the two other tokens.
    (scheduler("chunked", tokens=8), 2, second, (1, 1), (1, 1), 3),
    # One prompt a pass: A at 1, B at 2 beside A's second token, A's third at 3, B's at 4.
    (scheduler("continuous", prompts=1), 2, second, (1, 2), (1, 1), 4),
    # B's prompt alone in the second pass: A waits and has its third at 4, (4 - 1) / 2 apart, as B has.
    (scheduler("prefill-first", prompts=1), 2, second, (1, 2), (1.5, 1), 4),
    # One slot: A has its tokens at 1, 2, 3, and B at 4, 5, 6.
    (scheduler("chunked"), 1, second, (1, 4), (1, 1), 6),
    # A batch of one is answered to the end before the next is taken in, slots or not: both fit into the first batch.
    (scheduler("static", tokens=4), 2, second, (1, 4), (1, 1), 6),
    # Three tokens a pass: 3 of A; 1 of A and 2 of B; A's second token and 2 of B; one each; B's third at 5.
    (scheduler("chunked", tokens=3), 2, second, (2, 3), (1, 1), 5),
    # A prompt that may not be cut goes alone though it is longer than the budget: 4 s, then 4 + 1 s, then 2 and 1.
    (scheduler("continuous", tokens=3), 2, per_token, (4, 9), (3.5, 1.5), 12),
    # 8 s for both prompts, then two passes of two tokens.
    (scheduler("chunked", tokens=8), 2, per_token, (8, 8), (2, 2), 12),
    # 8 s, then 2 x 5 keys, then 2 x 6: tokens at 8, 18, 30.
    (scheduler("chunked", tokens=8), 2, per_key, (8, 8), (11, 11), 30),
]


@pytest.mark.parametrize(("how", "slots", "step", "ttft", "tpot", "seconds"), BY_HAND)
def test_two_requests_by_hand(
    how: Scheduler, slots: int, step: object, ttft: tuple[float, ...], tpot: tuple[float, ...], seconds: float
) -> None:
    assert serve(TWO, how, slots=slots, step=step) == Served(ttft=ttft, tpot=tpot, seconds=seconds)


def test_a_client_sends_its_next_request_when_it_has_its_answer() -> None:
    # One client: 1, 2, 3; again 4, 5, 6.
    load = Load(prompt_tokens=4, output_tokens=3, requests=2, concurrency=1)
    assert serve(load, scheduler("chunked")) == Served(ttft=(1, 1), tpot=(1, 1), seconds=6)


def test_a_spare_slot_keeps_one_request_waiting() -> None:
    # Two clients and one slot of two: A at 1 to 3, B waits until 3 and then A's next until 6 and so on.
    how = scheduler("continuous", spare_slots=1)
    assert how.slots(2) == 1
    assert how.slots(1) == 1
    load = Load(prompt_tokens=4, output_tokens=3, requests=4, concurrency=2)
    # B came at 0 and has its first at 4; the third came at 3, first at 7; the fourth came at 6, first at 10.
    assert serve(load, how, slots=how.slots(2)).ttft == (1, 4, 4, 4)


def test_what_the_host_adds_to_a_pass() -> None:
    # 1 s of kernels, 2 of the host and 3 for each sequence: 1 + 2 + 3 x 2 for each of three passes.
    host = Host(step_seconds=2, sequence_seconds=3)
    assert serve(TWO, scheduler("chunked"), host=host) == Served(ttft=(9, 9), tpot=(9, 9), seconds=27)


def test_a_front_end_that_falls_behind() -> None:
    # A token takes the front end 2 s, a pass 1 s: the first is seen at 1 + 2. After two more passes, at 3 s, it has
    # worked 2 of 6 seconds: 4 are left, and the last token is seen at 7, (7 - 3) / 2 a token.
    load = Load(prompt_tokens=4, output_tokens=3, requests=1)
    host = Host(token_seconds=2)
    assert serve(load, scheduler("chunked"), host=host) == Served(ttft=(3,), tpot=(2,), seconds=7)


def test_the_way_in_and_out_belongs_to_the_first_token() -> None:
    # 5 s on the way and 1 in the engine.
    load = Load(prompt_tokens=4, output_tokens=1, requests=1)
    assert serve(load, scheduler("chunked"), host=Host(round_trip_seconds=5)).ttft == (6,)


def test_requests_that_come_together_are_taken_in_one_after_another() -> None:
    # B arrives 1.5 s after A: A's prompt at 1, A's second token at 2, B's prompt beside A's third at 3, B's at 5.
    found = serve(TWO, scheduler("chunked"), host=Host(spacing_seconds=1.5))
    assert found == Served(ttft=(1, 1.5), tpot=(1, 1), seconds=5)


def test_clients_that_start_one_after_another_stay_so() -> None:
    load = Load(prompt_tokens=4, output_tokens=3, requests=4, concurrency=2, stagger_seconds=1.5)
    # A's tokens at 1, 2, 3. B came at 1.5, its tokens at 3, 4, 5. A came again at 3: 4, 5, 6. B came again at 5: 6.
    assert serve(load, scheduler("chunked")).ttft == (1, 1.5, 1, 1)


def test_an_answer_of_one_token_is_its_prompt() -> None:
    load = Load(prompt_tokens=4, output_tokens=1, requests=3, concurrency=1)
    assert serve(load, scheduler("chunked")) == Served(ttft=(1, 1, 1), tpot=(0, 0, 0), seconds=3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_requests_far_apart_never_meet(name: SchedulerName) -> None:
    load = Load(prompt_tokens=4, output_tokens=3, requests=20, rate=1e-4)
    found = serve(load, scheduler(name), slots=8)
    assert found.ttft == pytest.approx((1,) * 20)
    assert found.tpot == pytest.approx((1,) * 20)


def test_an_open_loop_is_the_same_each_time() -> None:
    load = Load(prompt_tokens=4, output_tokens=3, requests=50, rate=0.5)
    one, two = (serve(load, scheduler("chunked"), slots=8) for _ in range(2))
    assert one == two
    assert one.mean_ttft > 1  # some do meet


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens is 0"),
        ({"output_tokens": -1}, "output_tokens is -1"),
        ({"requests": 0}, "requests is 0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": float("inf")}, "rate is inf"),
    ],
)
def test_a_load_that_is_none(changes: dict[str, float], text: str) -> None:
    with pytest.raises(InputError, match=text):
        replace(TWO, **changes)  # type: ignore[arg-type]


def test_an_engine_needs_a_slot_a_budget_and_a_name() -> None:
    with pytest.raises(InputError, match="slots is 0"):
        serve(TWO, scheduler("chunked"), slots=0)
    with pytest.raises(InputError, match="budget of a pass is 0"):
        scheduler_of("chunked", tokens=0)
    with pytest.raises(InputError, match="'fifo'; known are static, continuous, chunked, prefill-first"):
        scheduler_of("fifo")


class Walk:
    """The same rules a pass at a time, a request an object: slow, and without any of the short cuts."""

    def __init__(self, load: Load, how: Scheduler, slots: int, step: object) -> None:
        assert callable(step)
        self.load, self.how, self.slots, self.step = load, how, slots, step

    def run(self) -> Served:
        load, how = self.load, self.how
        waiting = [{"came": 0.0, "done": 0} for _ in range(min(load.concurrency, load.requests))]
        sent, now = len(waiting), 0.0
        running: list[dict[str, float]] = []
        ttft: list[float] = []
        tpot: list[float] = []
        while len(tpot) < load.requests:
            chunks: list[Chunk] = []
            finished = []
            budget = how.tokens - (len(running) if how.mixes else 0)
            free = self.slots - len(running)
            for request in waiting if not (how.waits and running) else []:
                if len(chunks) == min(free, how.prompts or free):
                    break
                need = load.prompt_tokens - int(request["done"])
                if chunks and (budget <= 0 or (need > budget and not how.cuts)):
                    break
                part = min(need, max(budget, 1)) if how.cuts else need
                chunks.append(Chunk(tokens=part, prefix=int(request["done"])))
                budget -= part
                request["done"] += part
                if part < need:
                    break
                finished.append(request)
            decoding = running if how.mixes or not chunks else []
            context = sum(load.prompt_tokens + each["has"] for each in decoding) / max(1, len(decoding))
            now += self.step(len(decoding), context, tuple(chunks))
            for each in decoding:
                each["has"] += 1
            for request in finished:
                waiting.remove(request)
                ttft.append(now - request["came"])
                running = [*running, {"first": now, "has": 1}]
            ended = [each for each in running if each["has"] == load.output_tokens]
            for each in ended:
                tpot.append((now - each["first"]) / max(1, load.output_tokens - 1))
                if sent < load.requests:
                    sent += 1
                    waiting.append({"came": now, "done": 0})
            running = [each for each in running if each not in ended or each["has"] < load.output_tokens]
        return Served(ttft=tuple(ttft), tpot=tuple(tpot), seconds=now)


loads = st.builds(
    Load,
    prompt_tokens=st.integers(1, 9),
    output_tokens=st.integers(1, 7),
    requests=st.integers(1, 12),
    concurrency=st.integers(1, 6),
)
schedulers = st.builds(
    Scheduler,
    name=st.sampled_from(SCHEDULERS),
    tokens=st.integers(1, 20),
    prompts=st.sampled_from([None, 1, 2]),
)


@settings(max_examples=150, deadline=None)
@given(load=loads, how=schedulers, slots=st.integers(1, 6), step=st.sampled_from([second, per_token, per_key]))
def test_strides_are_the_same_as_a_pass_at_a_time(load: Load, how: Scheduler, slots: int, step: object) -> None:
    found, slow = serve(load, how, slots=slots, step=step), Walk(load, how, slots, step).run()
    assert found.ttft == pytest.approx(slow.ttft)
    assert found.tpot == pytest.approx(slow.tpot)
    assert found.seconds == pytest.approx(slow.seconds)


@settings(max_examples=40, deadline=None)
@given(load=loads, how=schedulers, slots=st.integers(1, 6))
def test_kernels_of_half_the_time_halve_everything(load: Load, how: Scheduler, slots: int) -> None:
    found = serve(load, how, slots=slots, step=per_token)
    twice = serve(load, how, slots=slots, step=lambda *asked: 2 * per_token(*asked))
    assert twice.ttft == pytest.approx([2 * time for time in found.ttft])
    assert twice.seconds == pytest.approx(2 * found.seconds)
    assert len(found.ttft) == len(found.tpot) == load.requests


def _never(self: object) -> bool:
    return False


FAULTS: dict[str, tuple[type, str, object]] = {
    "prompts never share a pass": (Scheduler, "mixes", property(_never)),
    "prompts are never cut": (Scheduler, "cuts", property(_never)),
    "nothing waits for the end of a batch": (Scheduler, "waits", property(_never)),
    "a mean context without those that started later": (
        _Engine,
        "first_steps",
        property(lambda self: 0, lambda self, value: None),
    ),
    "a front end that is always idle": (_Engine, "_answer", lambda self, *work: None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule decides some figure above: without it, a run that is worked out by hand comes out otherwise."""
    kind, attribute, fault = FAULTS[name]

    def runs() -> list[Served]:
        found = [serve(TWO, how, slots=slots, step=step) for how, slots, step, *_ in BY_HAND]
        late = Load(prompt_tokens=4, output_tokens=3, requests=3, concurrency=2)
        found.append(serve(late, scheduler("continuous", prompts=1), step=per_key, host=Host(token_seconds=2)))
        return found

    right = runs()
    monkeypatch.setattr(kind, attribute, fault, raising=False)
    assert runs() != right
