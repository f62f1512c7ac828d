"""The smallest number of each device, and the dtypes of weights in which it is smaller: the cheapest that fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llmprof.device import Device
from llmprof.errors import InputError
from llmprof.planning.memory import Deployment
from llmprof.planning.search import Search
from llmprof.predict.formats import matrix_format
from llmprof.workload import Dtypes, StorageDtype

TRIED: tuple[StorageDtype, ...] = ("fp8", "int4")
"""Formats of weights that are tried beside those that were asked for, where they are narrower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fewest:
    """The fewest of `device` with weights in `dtypes`; None where the most that are allowed have no room."""

    device: Device
    dtypes: Dtypes
    deployment: Deployment | None

    @property
    def gpus(self) -> int | None:
        """How many."""
        return None if self.deployment is None else self.deployment.sharding.ranks


def fewest(search: Search) -> Iterator[Fewest]:
    """Of every device, in every dtype of weights that is asked for or narrower."""
    first = search.ask.dtypes[0]
    made = dict.fromkeys(search.ask.dtypes)
    narrower = (replace(first, weights=weights) for weights in TRIED)
    made.update(dict.fromkeys(each for each in narrower if matrix_format(each).bits < matrix_format(first).bits))
    for dtypes in made:
        try:
            asking = search if dtypes in search.ask.dtypes else search.asking(replace(search.ask, dtypes=(dtypes,)))
        except InputError:  # rows that the groups of a format do not divide
            continue
        for device in search.devices:
            yield Fewest(device=device, dtypes=dtypes, deployment=asking.fewest(dtypes, [device]))
