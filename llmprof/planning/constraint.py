"""What keeps a configuration from being quicker, or from serving more requests, in words and as parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.planning.configuration import Configuration
from llmprof.planning.times import Bound, Resource

Limit = Literal["concurrency", "memory"]

GROWING = ("kv cache", "kv pages", "recurrent state", "cross-attention cache", "logits", "activations")
"""Terms of memory that grow with requests or with what is computed of them at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What decides a bound: the resource and, of memory bandwidth, how much of it weights take and how much caches."""

    resource: Resource
    weights_share: float | None

    def __str__(self) -> str:
        if self.weights_share is None:
            return self.resource
        weights = round(100 * self.weights_share)
        return f"{self.resource}: weights {weights}%, cache {100 - weights}%"


def binding(bound: Bound) -> Binding:
    """What decides `bound`."""
    if bound.resource != "memory bandwidth" or not bound.memory_seconds:
        return Binding(resource=bound.resource, weights_share=None)
    return Binding(resource=bound.resource, weights_share=bound.weight_seconds / bound.memory_seconds)


def of_time(c: Configuration) -> Binding:
    """What decides the time of a step or, where nothing is decoded, of a prompt."""
    return binding(c.prefill if c.decode is None else c.decode)


def of_batch(c: Configuration) -> Limit:
    """Why no more requests run at once: no more are asked for, or there is no room for one more in each."""
    most = c.largest_batch
    return "concurrency" if most is None or most >= c.concurrency + c.replicas else "memory"
