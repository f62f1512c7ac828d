"""A batch and a context that would keep a limit, everything else as it is: the largest, where that can be known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import cast

from llmprof.check.bounds import Range
from llmprof.check.budgets import Case
from llmprof.check.figures import Figures
from llmprof.check.quantities import PER_RANK
from llmprof.check.settings import Question
from llmprof.check.verdict import Number
from llmprof.errors import InputError
from llmprof.sharding import tensor_parallel_degrees
from llmprof.spec.arch import Gqa

NEAR = 8
"""How many lengths just below the one that fails are tried where a value goes up and down."""

ALWAYS_RISING = ("params_", "weight_bytes", "kv_cache_bytes", "recurrent_state_bytes")
"""Beginnings of quantities that no longer context makes smaller, whatever the attention."""

RATIOS = ("arithmetic_intensity_", "sram_")
"""Beginnings of quantities that go up and down in any model: quotients, and what depends on how tiles fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldPass:
    """Lengths that keep a limit, each with everything else as it is: ``{"batch": 5, "context": 10240}``.

    `largest`: no larger one does, and 0 says that none at all does. `some`: this one was evaluated and passes, and of
    others nothing is known, as the value goes up and down with the length. A key is in one of them, or in none.
    `fewest`: of a figure of one device, the least ``tensor_parallel`` beyond that of the case with which it passes.
    """

    largest: Mapping[str, int] = field(default_factory=dict)
    some: Mapping[str, int] = field(default_factory=dict)
    fewest: Mapping[str, int] = field(default_factory=dict)


def would_pass(case: Case, quantity: str, allowed: Range) -> WouldPass:
    """For a value that is too high.

    A key is absent where the quantity does not grow with it, no value of it lies in a range, or none that passes was
    met. Lengths that the entry does not state follow the context, as they do in the entry.
    """
    largest: dict[str, int] = {}
    some: dict[str, int] = {}
    if allowed.high is None:
        return WouldPass(largest=largest, some=some)
    for key, length, shortest in (("batch", case.workload.batch, 1), ("context", case.workload.context, _least(case))):
        # Lengths that devices share are told apart in steps: no other can be shared.
        step = _step(case, key)
        now, least = length // step, -(-shortest // step)
        value = _value(case, quantity, key, step)
        if not rises(case, quantity, key):
            met = meet(value, least, now, allowed)
            some |= {} if met is None else {key: met * step}
            continue
        try:
            best = search(value, least, now, allowed.high)
        except InputError:  # the structure ties this length to another that the entry states
            continue
        if best is not None and (best == 0 or allowed.holds(cast(Number, value(best)))):
            largest[key] = best * step
    return WouldPass(largest=largest, some=some, fewest=_fewest(case, quantity, allowed))


def _fewest(case: Case, quantity: str, allowed: Range) -> dict[str, int]:
    """How many tensor-parallel devices beyond those of the case it takes for a figure of one of them to pass."""
    sharding = case.question.sharding
    if sharding is None or quantity not in PER_RANK:
        return {}
    for degree in tensor_parallel_degrees(case.subject.arch):
        if degree > sharding.tensor_parallel:
            question = replace(case.question, sharding=replace(sharding, tensor_parallel=degree))
            try:
                found = _figure(case, question, quantity)
            except InputError:  # rows or experts that so many devices cannot share
                continue
            if found is not None and allowed.holds(found):
                return {"tensor_parallel": degree}
    return {}


def rises(case: Case, quantity: str, key: str) -> bool:
    """Whether a longer `key` never makes `quantity` smaller, so that the largest that passes can be searched for.

    A batch repeats what one sequence costs. So does a context of gqa, token by token; sparse patterns, compressed
    groups, chunks and segments come out even at some lengths and not at others.
    """
    if quantity.startswith(RATIOS):
        return False
    if key == "batch" or quantity.startswith(ALWAYS_RISING):
        return True
    if quantity.endswith("_per_token") and case.workload.phase != "decode":  # what is not of a token is shared by fewer
        return False
    return all(isinstance(layer.attention, Gqa) for stack in case.subject.arch.stacks for layer in stack.layers)


def meet(value: Callable[[int], Number | None], least: int, now: int, allowed: Range) -> int | None:
    """Some n below `now` that passes and was evaluated, where a value goes up and down; None where none was met."""

    def passes(n: int) -> bool:
        try:
            found = value(n)
        except InputError:  # a length that the attention cannot take
            return False
        return found is not None and allowed.holds(found)

    for n in range(now - 1, max(least, now - NEAR) - 1, -1):
        if passes(n):
            return n
    if least >= now or not passes(least):
        return None
    low, high = least, now
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def _least(case: Case) -> int:
    """The shortest context that the lengths of the entry allow."""
    question = case.question
    return max(1, question.new_tokens or 0, question.prefix_tokens or 0)


def _step(case: Case, key: str) -> int:
    """What a length is a multiple of: a batch of its replicas, new tokens of the devices that share rows or tokens."""
    sharding = case.question.sharding
    if sharding is None:
        return 1
    if key == "batch":
        return sharding.data_parallel
    if case.workload.phase != "prefill" or case.question.new_tokens is not None:
        return sharding.context_parallel
    return sharding.context_parallel * (sharding.tensor_parallel if sharding.splits_rows else 1)


def _value(case: Case, quantity: str, key: str, step: int) -> Callable[[int], Number | None]:
    def value(steps: int) -> Number | None:
        length = steps * step
        question = replace(case.question, batch=length) if key == "batch" else replace(case.question, context=length)
        return _figure(case, question, quantity)

    return value


def _figure(case: Case, question: Question, quantity: str) -> Number | None:
    arch = case.subject.arch
    return Figures(arch, question.workload(arch), question.sharding).value(quantity)


def search(value: Callable[[int], Number | None], least: int, now: int, limit: Fraction) -> int | None:
    """The largest n below `now` with value(n) <= limit and value(n + 1) > limit; 0 where value(least) is too high.

    `value(now)` exceeds the limit. None where the value does not exist, or does not grow from `least` to `now` (where
    these are the same: to the one after). Costs are polynomials in n almost everywhere, so guessing along the chord
    finds n in a few steps; every third step halves, so that their number stays logarithmic where they are not.
    """
    first, last = value(least), value(now if now > least else least + 1)
    if first is None or last is None or first >= last:
        return None
    if first > limit:
        return 0
    low, high = least, now
    below, above = Fraction(first), Fraction(last)
    for step in itertools.count():
        if high - low == 1:
            break
        chord = low + int((limit - below) * (high - low) / (above - below))
        # Where the cost is linear the first chord lands on n and the second on n + 1.
        guess = (low + high) // 2 if step % 3 == 2 else min(max(chord, low + 1), high - 1)
        found = value(guess)
        if found is None:
            return None
        if found <= limit:
            low, below = guess, Fraction(found)
        else:
            high, above = guess, Fraction(found)
    return low
