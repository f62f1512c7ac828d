"""Run transformers' class on shapes alone: a prompt and one step after it, its FLOPs and what its cache holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from llmprof.measure.hf.kept import Kept, kept_by
from llmprof.measure.hf.model import CannotTestify, HfModel, quiet, said, version
from llmprof.measure.referees import flop_counter

CACHES = ("past_key_values", "cache_params", "state")
"""What the classes call the cache among their outputs and arguments."""


def _triangular_solve(matrix: Sequence[int], right: Sequence[int], *_: Any, **options: Any) -> int:
    """Q (Q - 1) for each right-hand column: a unit triangle of Q rows, by substitution, 2 per multiply-add."""
    rows = matrix[-1]
    columns = right[-1] if options.get("left", True) else right[-2]
    return prod(right[:-2]) * columns * rows * (rows - 1)


FORMULAS: Mapping[Any, Callable[..., int]] = MappingProxyType(
    {torch.ops.aten.linalg_solve_triangular: _triangular_solve}
)
"""Ops that classes of transformers launch and that torch's counter has no formula for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The FLOPs of contractions of one pass. `missing` are ops that ran and that torch's counter has no formula for."""

    flops: int
    missing: tuple[str, ...]
    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A forward call as `flop_counter` wants to have it; what it returned is kept."""

    twin: nn.Module
    call: Callable[[], Any]
    returned: list[Any]
    caches: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))

    def run(self) -> object:
        self.returned.append(self.call())
        return self.returned[-1]

    def restore(self) -> object:
        return None


def counted(network: nn.Module, call: Callable[[], Any]) -> Counted:
    """`call`, a forward pass of `network`, under FlopCounterMode. What it raises passes through."""
    failed: list[Exception] = []

    def kept() -> Any:
        try:
            return call()
        except Exception as error:
            failed.append(error)
            raise

    session = _Call(twin=network, call=kept, returned=[])
    with quiet():
        found = flop_counter(session, FORMULAS)
    if failed:
        raise failed[0]
    if found.value is None:
        raise CannotTestify(found.reason)
    return Counted(flops=found.value, missing=found.not_counted, output=session.returned[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """What a prompt of `tokens` took, and one step after it; what is kept after the prompt.

    The last two are None where nothing is kept: in an encoder, and in a class that has no cache.
    """

    prefill: Counted
    decode: Counted | None
    kept: Kept | None


def run(model: HfModel, *, tokens: int, source: int = 0, batch: int = 1, cached: bool = True) -> Passes:
    """A prompt of `tokens`, in an encoder-decoder beside a source of `source`, and one step after it.

    `cached` is whether the class keeps anything between tokens: an encoder does not. Of sound, two frames make one
    position of the source. Raises CannotTestify where the class cannot be run on meta.
    """
    try:
        with quiet(), torch.no_grad():
            return _run(model, tokens, source, batch, cached)
    except CannotTestify:
        raise
    except Exception as error:  # whatever a class raises where it asks a meta tensor for values
        raise CannotTestify(f"{version()}: {model.name} cannot be run on meta: {said(error)}") from error


def _run(model: HfModel, tokens: int, source: int, batch: int, cached: bool) -> Passes:
    network = model.network
    prompt, step = _ids(batch, tokens), _ids(batch, 1)
    if not cached:
        return Passes(prefill=counted(network, lambda: network(input_ids=prompt)), decode=None, kept=None)
    first: dict[str, Any] = {"use_cache": True}
    if model.head in ("seq2seq-lm", "speech-seq2seq"):
        first |= {"decoder_input_ids": prompt, **_source(model, batch, source)}
    else:
        first |= {"input_ids": prompt}
    prefill = counted(network, lambda: network(**first))
    name = next((name for name in CACHES if getattr(prefill.output, name, None) is not None), None)
    if name is not None:
        cache = getattr(prefill.output, name)
    elif CACHES[0] in inspect.signature(network.forward).parameters:  # one that it fills and does not return
        name, cache = CACHES[0], transformers.DynamicCache(config=model.config)
        prefill = counted(network, lambda: network(**first, **{CACHES[0]: cache}))
    else:
        return Passes(prefill=prefill, decode=None, kept=None)
    kept = kept_by(cache, network, name=name)  # before the step, which adds to it
    after: dict[str, Any] = {"use_cache": True, name: cache}
    if model.head in ("seq2seq-lm", "speech-seq2seq"):
        encoded = (prefill.output.encoder_last_hidden_state,)
        after |= {"decoder_input_ids": step, "encoder_outputs": encoded}
    else:
        after |= {"input_ids": step}
    return Passes(prefill=prefill, decode=counted(network, lambda: network(**after)), kept=kept)


def _ids(batch: int, tokens: int) -> Tensor:
    return torch.zeros(batch, tokens, dtype=torch.long, device="meta")


def _source(model: HfModel, batch: int, source: int) -> dict[str, Any]:
    if model.head == "seq2seq-lm":
        return {"input_ids": _ids(batch, source)}
    bins = model.config.num_mel_bins
    return {"input_features": torch.zeros(batch, bins, 2 * source, dtype=torch.bfloat16, device="meta")}
